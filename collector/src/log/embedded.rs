//! The engine of a collector on its own: a journal in its data directory, which it alone writes.

use std::path::Path;
use std::sync::OnceLock;

use journal::{Committer, Disk, Journal, OpenError, Options, Position, QueueLimits, RealDisk, SubmitError, Worker};

use super::engine::{Done, Engine, Feeder, Records};
use super::{Durable, LogError};
use crate::admission::Ticket;
use crate::entry::Entry;

const SEGMENT_BYTES: u64 = 64 << 20;
/// Above what batches may be let in, so that marks and attempts get in while batches are refused.
const QUEUE: QueueLimits = QueueLimits { records: 10_000, bytes: (1 << 30) + (64 << 20) };

pub struct Embedded<D: Disk = RealDisk> {
    committer: Committer<D>,
    fold: OnceLock<Feeder>,
}

impl Embedded {
    pub fn open(data_dir: &Path) -> Result<Self, LogError> {
        let dir = data_dir.join("log");
        let disk = RealDisk::open(&dir).map_err(|source| LogError::Directory { dir, source })?;
        let journal = Journal::open(disk, Options { segment_bytes: SEGMENT_BYTES }).map_err(|error| match error {
            OpenError::Corrupt(damage) => LogError::Damaged { data_dir: data_dir.to_owned(), damage },
            error => error.into(),
        })?;
        let committer = Committer::start(journal, "log", QUEUE).map_err(LogError::Thread)?;
        Ok(Self { committer, fold: OnceLock::new() })
    }
}

impl<D: Disk> Embedded<D> {
    /// Without a thread: nothing becomes durable but by the steps of the worker.
    pub fn stepped(journal: Journal<D>) -> (Self, Worker<D>) {
        let (committer, worker) = Committer::new(journal, QUEUE);
        (Self { committer, fold: OnceLock::new() }, worker)
    }
}

impl<D: Disk> Engine for Embedded<D> {
    fn append(&self, record: Vec<u8>, entry: Entry, ticket: Option<Ticket>, done: Done) -> Result<(), SubmitError> {
        let fold = self.fold.get().cloned();
        self.committer.submit(record, move |position| {
            if let (&Ok(position), Some(fold)) = (&position, fold) {
                // Only at the very end is nobody left to fold it; it is durable, and the next start will.
                drop(fold.send(Durable { position, entry, ticket }));
            }
            done(position);
        })
    }

    fn follow(&self, from: Position, fold: Feeder) {
        debug_assert_eq!(from, self.durable(), "the end");
        // Nobody else can write it, so what is appended here is all that comes.
        drop(self.fold.set(fold));
    }

    fn read(&self, from: Position) -> Box<dyn Records> {
        Box::new(self.committer.reader(from))
    }

    fn first(&self) -> Position {
        self.committer.first()
    }

    fn durable(&self) -> Position {
        self.committer.durable()
    }

    fn cut_before(&self, position: Position) {
        self.committer.cut_before(position);
    }

    fn bytes(&self) -> u64 {
        self.committer.bytes()
    }
}
