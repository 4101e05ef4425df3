//! The bounded queue before the committer's thread.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::{MAX_RECORD_BYTES, Position, WriteError};

/// How much may wait. As much again may be on its way to the disk.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    pub records: usize,
    /// Payload bytes. A larger record is accepted when nothing else waits.
    pub bytes: usize,
}

/// Why a record was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    #[error("the queue is full: {records} records of {bytes} bytes wait for the disk")]
    Full { records: usize, bytes: usize },
    #[error("a record of {bytes} bytes is larger than the {MAX_RECORD_BYTES} allowed")]
    TooLarge { bytes: usize },
    #[error("the committer has stopped")]
    Stopped,
}

pub(super) struct Queue {
    limits: QueueLimits,
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

pub(super) struct Entry {
    pub(super) payload: Box<dyn AsRef<[u8]> + Send>,
    pub(super) on_durable: Box<dyn FnOnce(Result<Position, WriteError>) + Send>,
}

/// Everything that waited.
#[derive(Default)]
pub(super) struct Group {
    /// Cuts coalesce: the furthest holds for all.
    pub(super) cut: Option<Position>,
    pub(super) entries: VecDeque<Entry>,
    bytes: usize,
}

#[derive(Default)]
struct Waiting {
    group: Group,
    gate: Gate,
}

#[derive(Default, PartialEq, Eq)]
enum Gate {
    #[default]
    Open,
    Closed,
}

impl Queue {
    pub(super) fn new(limits: QueueLimits) -> Self {
        Self { limits, waiting: Mutex::default(), changed: Condvar::new() }
    }

    pub(super) fn push(&self, entry: Entry) -> Result<(), SubmitError> {
        let bytes = (*entry.payload).as_ref().len();
        if bytes > MAX_RECORD_BYTES {
            return Err(SubmitError::TooLarge { bytes });
        }
        let mut waiting = self.lock();
        if waiting.gate == Gate::Closed {
            return Err(SubmitError::Stopped);
        }
        let group = &mut waiting.group;
        let fits = group.entries.len() < self.limits.records && group.bytes + bytes <= self.limits.bytes;
        if !fits && !group.entries.is_empty() {
            return Err(SubmitError::Full { records: group.entries.len(), bytes: group.bytes });
        }
        group.bytes += bytes;
        group.entries.push_back(entry);
        self.changed.notify_one();
        Ok(())
    }

    pub(super) fn cut_before(&self, position: Position) {
        let mut waiting = self.lock();
        waiting.group.cut = waiting.group.cut.max(Some(position));
        self.changed.notify_one();
    }

    /// Waits for work and takes all of it; `None` when there is none and never will be.
    pub(super) fn take(&self) -> Option<Group> {
        let idle = |waiting: &mut Waiting| waiting.group.is_empty() && waiting.gate == Gate::Open;
        let mut waiting = self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let group = std::mem::take(&mut waiting.group);
        (!group.is_empty()).then_some(group)
    }

    /// Takes what waits now.
    pub(super) fn take_now(&self) -> Group {
        std::mem::take(&mut self.lock().group)
    }

    /// Accepts nothing more; what waits is still taken.
    pub(super) fn close(&self) {
        self.lock().gate = Gate::Closed;
        self.changed.notify_one();
    }

    /// Accepts nothing more and drops what waits.
    pub(super) fn abandon(&self) {
        self.close();
        // Dropped after the lock is released: a callback's drop may come back here.
        let abandoned = std::mem::take(&mut self.lock().group);
        drop(abandoned);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Group {
    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.cut.is_none()
    }
}
