//! The few numbers that the writer shares with readers on other threads.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Position;

/// Written by the journal alone. `durable` is stored only after the fsync that makes it true; `first` is moved before the
/// files are removed, so that a reader that misses a file finds the reason here.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    first: AtomicU64,
    durable: AtomicU64,
    bytes: AtomicU64,
}

impl Marks {
    pub(crate) fn first(&self) -> Position {
        Position(self.first.load(Ordering::Acquire))
    }

    pub(crate) fn durable(&self) -> Position {
        Position(self.durable.load(Ordering::Acquire))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_first(&self, first: Position) {
        self.first.store(first.0, Ordering::Release);
    }

    pub(crate) fn set_durable(&self, durable: Position) {
        self.durable.store(durable.0, Ordering::Release);
    }

    pub(crate) fn set_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }
}
