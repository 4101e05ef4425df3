//! Group commit: many threads submit, one thread appends everything that waits, makes it durable with one fsync, and then
//! tells each of them, in the order of submission.

mod queue;

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::marks::Marks;
use crate::reader::Until;
use crate::{Disk, Journal, Position, Reader, RealDisk, WriteError};
use queue::{Entry, Group, Queue};

pub use queue::{QueueLimits, SubmitError};

/// The thread that owns a journal, and the way to it.
///
/// Every accepted record's callback is called exactly once, on the committer's thread, so it should only pass the word on;
/// should one panic, the thread ends and what waits is dropped uncalled. Dropping the committer is [`Committer::shutdown`].
pub struct Committer<D: Disk = RealDisk> {
    queue: Arc<Queue>,
    disk: D,
    marks: Arc<Marks>,
    thread: Option<JoinHandle<()>>,
}

impl<D: Disk> Committer<D> {
    /// Starts a thread of that name, which owns the journal from here on.
    pub fn start(journal: Journal<D>, name: &str, limits: QueueLimits) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(limits));
        let (disk, marks) = (journal.disk().clone(), journal.marks().clone());
        let thread = thread::Builder::new().name(name.to_owned()).spawn({
            let queue = Arc::clone(&queue);
            move || run(journal, &queue)
        })?;
        Ok(Self { queue, disk, marks, thread: Some(thread) })
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

fn run<D: Disk>(mut journal: Journal<D>, queue: &Queue) {
    let _close = CloseOnExit(queue);
    while let Some(group) = queue.take() {
        commit(&mut journal, group);
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

/// Nobody may wait for a thread that is gone.
struct CloseOnExit<'a>(&'a Queue);

impl Drop for CloseOnExit<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
