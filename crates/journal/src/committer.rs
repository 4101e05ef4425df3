//! Group commit: many threads submit, one worker appends everything that waits, makes it durable with one fsync, and then
//! tells each of them, in the order of submission. The worker has a thread of its own, or is driven a step at a time.

mod queue;

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::marks::Marks;
use crate::reader::Until;
use crate::{Disk, Journal, Position, Reader, RealDisk, WriteError};
use queue::{Entry, Group, Queue};

pub use queue::{QueueLimits, SubmitError};

/// The way to a journal that a [`Worker`] owns.
///
/// Every accepted record's callback is called exactly once, by the worker, so it should only pass the word on; should one
/// panic, the worker ends and what waits is dropped uncalled. Dropping the committer is [`Committer::shutdown`].
pub struct Committer<D: Disk = RealDisk> {
    queue: Arc<Queue>,
    disk: D,
    marks: Arc<Marks>,
    thread: Option<JoinHandle<()>>,
}

/// What owns a journal and commits what is submitted. It ends, and what waits with it, when it is dropped.
pub struct Worker<D: Disk = RealDisk> {
    journal: Journal<D>,
    queue: Arc<Queue>,
}

impl<D: Disk> Committer<D> {
    /// Starts a thread of that name, which owns the journal from here on.
    pub fn start(journal: Journal<D>, name: &str, limits: QueueLimits) -> io::Result<Self> {
        let (mut committer, worker) = Self::new(journal, limits);
        committer.thread = Some(thread::Builder::new().name(name.to_owned()).spawn(move || worker.run())?);
        Ok(committer)
    }

    /// Without a thread: what is submitted waits for the steps of the worker.
    pub fn new(journal: Journal<D>, limits: QueueLimits) -> (Self, Worker<D>) {
        let queue = Arc::new(Queue::new(limits));
        let (disk, marks) = (journal.disk().clone(), journal.marks().clone());
        (Self { queue: Arc::clone(&queue), disk, marks, thread: None }, Worker { journal, queue })
    }

    /// Queues a record. `on_durable` gets its position once it is durable, or the reason why it is not. When the record is
    /// refused here, `on_durable` is dropped uncalled.
    pub fn submit(
        &self,
        payload: impl AsRef<[u8]> + Send + 'static,
        on_durable: impl FnOnce(Result<Position, WriteError>) + Send + 'static,
    ) -> Result<(), SubmitError> {
        self.queue.push(Entry { payload: Box::new(payload), on_durable: Box::new(on_durable) })
    }

    /// Asks for a cut before the next group is appended, so that it makes room for it. A failure is logged, and is seen in
    /// [`Self::first`], which stays where it is.
    pub fn cut_before(&self, position: Position) {
        self.queue.cut_before(position);
    }

    /// Reads durable records from `from` on; it follows the journal and may be used on another thread.
    pub fn reader(&self, from: Position) -> Reader<D> {
        Reader::new(self.disk.clone(), Arc::clone(&self.marks), from, Until::Durable)
    }

    /// The oldest position that is still there.
    pub fn first(&self) -> Position {
        self.marks.first()
    }

    /// Everything before this is durable.
    pub fn durable(&self) -> Position {
        self.marks.durable()
    }

    /// The bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.marks.bytes()
    }

    /// Commits everything that was accepted, then ends the thread and closes the journal.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl<D: Disk> Drop for Committer<D> {
    fn drop(&mut self) {
        self.queue.close();
        // A callback may own the last handle: its thread cannot wait for itself.
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != thread::current().id())
            && thread.join().is_err()
        {
            tracing::error!("a callback panicked on the committer's thread");
        }
    }
}

impl<D: Disk> Worker<D> {
    /// Commits everything that waits, as one group.
    pub fn step(&mut self) {
        commit(&mut self.journal, self.queue.take_now());
    }

    fn run(mut self) {
        while let Some(group) = self.queue.take() {
            commit(&mut self.journal, group);
        }
    }
}

/// Nobody may wait for a worker that is gone.
impl<D: Disk> Drop for Worker<D> {
    fn drop(&mut self) {
        self.queue.abandon();
    }
}

fn commit<D: Disk>(journal: &mut Journal<D>, group: Group) {
    if let Some(position) = group.cut
        && let Err(error) = journal.cut_before(position)
    {
        tracing::warn!(%position, error = &error as &dyn std::error::Error, "journal not cut");
    }
    let mut appended = Vec::with_capacity(group.entries.len());
    for Entry { payload, on_durable } in group.entries {
        appended.push((journal.append((*payload).as_ref()), on_durable));
    }
    // Where the fsync fails, even a record that an earlier turn of segments made durable is reported as failed: the caller
    // submits it again, and a duplicate is better than a loss.
    let synced = journal.sync();
    for (position, on_durable) in appended {
        on_durable(position.and_then(|position| synced.clone().map(|()| position)));
    }
}
