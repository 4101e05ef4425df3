//! The one ordered record, and the only way into the state: an entry is durable before it is folded, and folded in the order
//! of its position. What keeps it is an [`Engine`]; nothing behind this module knows which.

pub mod embedded;
pub mod engine;
pub mod sim;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use journal::{Corruption, OpenError, Position, ReadError, SubmitError, WriteError};
use tokio::sync::oneshot;

use crate::admission::Ticket;
use crate::decode::{Catalog, DecodeError, inflate};
use crate::entry::{Entry, Record, RecordError};

pub use embedded::Embedded;
pub use engine::{Engine, Records};

/// Entries between log and fold. When the fold is behind, the engine waits, and what waits before it keeps its tickets.
const FEED: usize = 1024;
/// Entries between decoding and folding, at a start.
const AHEAD: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("cannot open the log in {}: {source}", .dir.display())]
    Directory { dir: PathBuf, source: io::Error },
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(
        "{damage}. To keep what was measured, restore {dir} from a copy; to go on without it, move {dir} away as a whole and start \
         again: agents send what they still hold, and hints go by distance until there are measurements",
        dir = .data_dir.display()
    )]
    Damaged { data_dir: PathBuf, damage: Corruption },
    #[error("cannot start the log's thread: {0}")]
    Thread(#[source] io::Error),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("position {position} of the log: {fault}")]
    Record { position: Position, fault: RecordError },
    #[error("position {position} of the log: {fault}")]
    Decode { position: Position, fault: DecodeError },
}

/// Why an entry did not get in.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error(transparent)]
    Encode(#[from] RecordError),
    #[error(transparent)]
    Submit(#[from] SubmitError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("the log has stopped")]
    Stopped,
}

/// What has become durable. What was there before may come again.
pub type Feed = Receiver<Durable>;

#[derive(Debug)]
pub struct Durable {
    pub position: Position,
    pub entry: Entry,
    /// Of a batch that was let in: the fold takes it, and there is room for another.
    pub ticket: Option<Ticket>,
}

/// An entry on its way to the disk.
#[must_use]
pub struct Pending {
    durable: oneshot::Receiver<Result<Position, WriteError>>,
    takes: Takes,
}

/// Whether the last entry got in: the log tells a change of it, once.
#[derive(Clone)]
struct Takes(Arc<AtomicBool>);

pub struct Log {
    engine: Arc<dyn Engine>,
}

/// Clone it freely. The log ends when the last one is gone.
#[derive(Clone)]
pub struct Appender {
    engine: Arc<dyn Engine>,
    takes: Takes,
}

/// The log, to be copied.
#[derive(Clone)]
pub struct Reading(Arc<dyn Engine>);

impl Log {
    pub fn open(data_dir: &Path) -> Result<Self, LogError> {
        Ok(Self::on(Embedded::open(data_dir)?))
    }

    pub fn on(engine: impl Engine) -> Self {
        Self { engine: Arc::new(engine) }
    }

    /// The oldest entry that is still there.
    pub fn first(&self) -> Position {
        self.engine.first()
    }

    /// Where the next entry goes.
    pub fn next(&self) -> Position {
        self.engine.durable()
    }

    pub fn reading(&self) -> Reading {
        Reading(Arc::clone(&self.engine))
    }

    /// Every entry in `[from, until)`, decoded as it was when it came.
    ///
    /// One thread decodes ahead of the one that folds: each costs about as much as the other.
    pub fn replay(&self, from: Position, until: Position, mut fold: impl FnMut(Entry)) -> Result<(), LogError> {
        let (decoded, entries) = mpsc::sync_channel(AHEAD);
        thread::scope(|scope| {
            let records = self.engine.read(from);
            let decode = thread::Builder::new().name("replay".to_owned()).spawn_scoped(scope, move || {
                let mut catalog = Catalog::new(0);
                let ours = records.take_while(|item| !matches!(item, Ok((position, _)) if *position >= until));
                let entries = ours.map(|item| {
                    item.map_err(LogError::from).and_then(|(position, bytes)| decode(position, &bytes, &mut catalog))
                });
                for entry in entries {
                    if decoded.send(entry).is_err() {
                        break;
                    }
                }
            });
            decode.map_err(LogError::Thread)?;
            for entry in entries {
                fold(entry?);
            }
            Ok(())
        })
    }

    /// Feeds every entry from there on, up to where it was replayed.
    pub fn start(self, from: Position) -> (Appender, Feed) {
        let (fold, feed) = mpsc::sync_channel(FEED);
        self.engine.follow(from, fold);
        (Appender { engine: self.engine, takes: Takes(Arc::new(AtomicBool::new(true))) }, feed)
    }
}

fn decode(position: Position, bytes: &[u8], catalog: &mut Catalog) -> Result<Entry, LogError> {
    let record = Record::decode(bytes).map_err(|fault| LogError::Record { position, fault })?;
    Ok(match record {
        Record::Mark(now) => Entry::Mark { now },
        Record::Restored(at) => Entry::Restored { at },
        Record::Attempt(attempt) => Entry::Attempt(attempt),
        Record::Config(at, policy) => Entry::Config { at, policy: Arc::new(policy) },
        Record::Batch(envelope, body) => {
            // What is in the log was within the limits of its day.
            let batch = inflate(body, envelope.encoding, usize::MAX - 1).and_then(|body| catalog.read(envelope, &body));
            Entry::Batch(batch.map_err(|fault| LogError::Decode { position, fault })?.0)
        }
    })
}

impl Appender {
    /// Resolves once the entry is durable, and is on its way to the fold.
    pub async fn append(&self, record: &Record<'_>, entry: Entry) -> Result<Position, AppendError> {
        self.submit(record, entry, None)?.durable().await
    }

    /// The same in two steps, so that a thread without a runtime can take the first.
    pub fn submit(&self, record: &Record<'_>, entry: Entry, ticket: Option<Ticket>) -> Result<Pending, AppendError> {
        let (done, durable) = oneshot::channel();
        let tell = Box::new(move |position| drop(done.send(position)));
        let submitted = record.encode().map_err(AppendError::from);
        let submitted = submitted.and_then(|record| Ok(self.engine.append(record, entry, ticket, tell)?));
        self.takes.told(submitted).map(|()| Pending { durable, takes: self.takes.clone() })
    }

    pub fn reading(&self) -> Reading {
        Reading(Arc::clone(&self.engine))
    }

    /// Reads what is durable from there on, as it becomes so.
    pub fn reader(&self, from: Position) -> Box<dyn Records> {
        self.engine.read(from)
    }

    /// Everything before this is durable.
    pub fn durable(&self) -> Position {
        self.engine.durable()
    }

    /// What lies before this is not needed any more.
    pub fn cut_before(&self, position: Position) {
        self.engine.cut_before(position);
    }

    pub fn bytes(&self) -> u64 {
        self.engine.bytes()
    }
}

impl Reading {
    /// The oldest record that is still there.
    pub fn first(&self) -> Position {
        self.0.first()
    }

    /// Everything before this is durable.
    pub fn end(&self) -> Position {
        self.0.durable()
    }

    pub fn records(&self, from: Position) -> Box<dyn Records> {
        self.0.read(from)
    }
}

impl Pending {
    pub async fn durable(self) -> Result<Position, AppendError> {
        let durable = self.durable.await.map_err(|_| AppendError::Stopped).and_then(|written| Ok(written?));
        let takes_again = durable.is_ok() && !self.takes.0.swap(true, Ordering::Relaxed);
        if takes_again {
            tracing::info!("the log takes entries again");
        }
        self.takes.told(durable)
    }
}

impl Takes {
    fn told<T>(&self, step: Result<T, AppendError>) -> Result<T, AppendError> {
        step.inspect_err(|error| {
            if self.0.swap(false, Ordering::Relaxed) {
                tracing::warn!(error = error as &dyn std::error::Error, "the log takes nothing");
            }
        })
    }
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Appender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Appender").finish_non_exhaustive()
    }
}
