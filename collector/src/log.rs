//! The one ordered record, and the only way into the state: an entry is durable before it is folded, and folded in the order
//! in which it became durable.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};

use journal::{
    Committer, Journal, OpenError, Options, Position, QueueLimits, ReadError, Reader, RealDisk, SubmitError, WriteError,
};
use tokio::sync::oneshot;

use crate::decode::{Catalog, DecodeError, inflate};
use crate::entry::{Entry, Record, RecordError};

const SEGMENT_BYTES: u64 = 64 << 20;
const QUEUE: QueueLimits = QueueLimits { records: 4096, bytes: 64 << 20 };
/// Entries between disk and fold. When the fold is behind, the committer waits, then the queue fills, then ingest says 429.
const FEED: usize = 1024;

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("cannot open the log in {}: {source}", .dir.display())]
    Directory { dir: PathBuf, source: io::Error },
    #[error(transparent)]
    Open(#[from] OpenError),
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

/// What has become durable, in order.
pub type Feed = Receiver<(Position, Entry)>;

pub struct Log {
    journal: Journal,
}

/// Clone it freely. The log ends when the last one is gone.
#[derive(Clone)]
pub struct Appender {
    committer: Arc<Committer>,
    feed: SyncSender<(Position, Entry)>,
    /// Whether the last entry got in: the log tells a change of it, once.
    takes: Arc<AtomicBool>,
}

impl Log {
    pub fn open(data_dir: &Path) -> Result<Self, LogError> {
        let dir = data_dir.join("log");
        let disk = RealDisk::open(&dir).map_err(|source| LogError::Directory { dir, source })?;
        Ok(Self { journal: Journal::open(disk, Options { segment_bytes: SEGMENT_BYTES })? })
    }

    /// The oldest entry that is still there.
    pub fn first(&self) -> Position {
        self.journal.first()
    }

    /// Where the next entry goes.
    pub fn next(&self) -> Position {
        self.journal.next()
    }

    /// Every entry from there on, decoded as it was when it came.
    pub fn replay(&self, from: Position, mut fold: impl FnMut(Entry)) -> Result<(), LogError> {
        let mut catalog = Catalog::new(0);
        for item in self.journal.read(from) {
            let (position, bytes) = item?;
            fold(decode(position, &bytes, &mut catalog)?);
        }
        Ok(())
    }

    pub fn start(self) -> Result<(Appender, Feed), LogError> {
        let committer = Committer::start(self.journal, "log", QUEUE).map_err(LogError::Thread)?;
        let (feed, entries) = mpsc::sync_channel(FEED);
        let takes = Arc::new(AtomicBool::new(true));
        Ok((Appender { committer: Arc::new(committer), feed, takes }, entries))
    }
}

fn decode(position: Position, bytes: &[u8], catalog: &mut Catalog) -> Result<Entry, LogError> {
    let record = Record::decode(bytes).map_err(|fault| LogError::Record { position, fault })?;
    Ok(match record {
        Record::Mark(now) => Entry::Mark { now },
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
        let appended = self.try_append(record, entry).await;
        match (self.takes.swap(appended.is_ok(), Ordering::Relaxed), &appended) {
            (true, Err(error)) => tracing::warn!(error = error as &dyn std::error::Error, "the log takes nothing"),
            (false, Ok(_)) => tracing::info!("the log takes entries again"),
            _ => {}
        }
        appended
    }

    async fn try_append(&self, record: &Record<'_>, entry: Entry) -> Result<Position, AppendError> {
        let (done, durable) = oneshot::channel();
        let feed = self.feed.clone();
        self.committer.submit(record.encode()?, move |position| {
            if let Ok(position) = position {
                // Only at the very end is nobody left to fold it; it is durable, and the next start will.
                drop(feed.send((position, entry)));
            }
            drop(done.send(position));
        })?;
        Ok(durable.await.map_err(|_| AppendError::Stopped)??)
    }

    /// Reads what is durable from there on, as it becomes so.
    pub fn reader(&self, from: Position) -> Reader {
        self.committer.reader(from)
    }

    /// Everything before this is durable.
    pub fn durable(&self) -> Position {
        self.committer.durable()
    }

    /// What lies before this is not needed any more.
    pub fn cut_before(&self, position: Position) {
        self.committer.cut_before(position);
    }

    pub fn bytes(&self) -> u64 {
        self.committer.bytes()
    }
}

impl std::fmt::Debug for Appender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Appender").finish_non_exhaustive()
    }
}
