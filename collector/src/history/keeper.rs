//! Stores what the fold hands over, in order, on a thread of its own.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use telemetry::Wall;

use super::gather::{BOUND, Due, Handover, Shared};
use super::key::Hour;
use super::store::{Store, StoreError};
use super::tier::Tier;
use crate::retention::Retention;

/// What may wait for a store that cannot be written. Beyond it history stands still until the next start, which finds all of it in the log.
const WAITING: usize = 4 * BOUND;

/// An hour is rolled up so long after its end: most of what is late has come by then.
pub(super) const SETTLED: Duration = Duration::from_mins(20);

pub struct Keeper {
    dir: PathBuf,
    retention: Retention,
    shared: Arc<Shared>,
    inbox: Receiver<Handover>,
    /// Not stored yet, oldest first.
    waiting: VecDeque<Handover>,
    /// By the log's clock.
    now: Wall,
}

impl Keeper {
    pub(super) fn new(dir: PathBuf, retention: Retention, shared: Arc<Shared>, inbox: Receiver<Handover>) -> Self {
        Self { dir, retention, shared, inbox, waiting: VecDeque::new(), now: Wall::default() }
    }

    /// Runs until the fold has ended and everything it handed over was tried. In between it rolls up and drops, a little at a time.
    pub fn run(mut self) {
        let mut more = false;
        loop {
            let next = if more { self.inbox.try_recv() } else { self.inbox.recv().map_err(TryRecvError::from) };
            match next {
                Ok(handover) => {
                    self.take(handover);
                    more = true;
                }
                Err(TryRecvError::Empty) => more = self.tend(),
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }

    fn take(&mut self, handover: Handover) {
        if !self.shared.tally.lapsed.load(Ordering::Relaxed) {
            self.now = handover.due.as_ref().map_or(self.now, |due| due.now);
            self.waiting.push_back(handover);
            self.keep();
        }
    }

    /// One step of what can wait. `false`: there is nothing more to do.
    fn tend(&mut self) -> bool {
        let Some(store) = self.shared.store.load_full() else { return false };
        let rolled_up = store.roll_up(Hour::of(self.now - SETTLED));
        let done = rolled_up.and_then(|more| if more { Ok(true) } else { self.expire(&store) });
        done.unwrap_or_else(|error| {
            self.close(&error);
            false
        })
    }

    fn expire(&self, store: &Store) -> Result<bool, StoreError> {
        let dropped = store.expire(&self.retention, self.now)?;
        self.shared.tally.floor.store(store.view().floor(Tier::Raw)?.0, Ordering::Relaxed);
        Ok(dropped)
    }

    fn keep(&mut self) {
        while let Some(next) = self.waiting.pop_front() {
            if let Err(error) = self.store().and_then(|store| store.keep(&next.part)) {
                self.waiting.push_front(next);
                return self.fail(&error);
            }
            self.shared.memory().handed.pop_front();
            self.shared.tally.stored.store(next.part.position.0, Ordering::Relaxed);
            next.due.into_iter().for_each(|Due { then, .. }| then());
        }
    }

    /// After a failure the database takes nothing more: it is closed here and opened again for the next try.
    fn store(&self) -> Result<Arc<Store>, StoreError> {
        if let Some(open) = self.shared.store.load_full() {
            return Ok(open);
        }
        let store = Arc::new(Store::open(&self.dir)?);
        self.shared.store.store(Some(Arc::clone(&store)));
        tracing::info!("history can be written again");
        Ok(store)
    }

    fn close(&self, error: &StoreError) {
        self.shared.tally.failures.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(error = error as &dyn std::error::Error, "history is not stored; the log is kept");
        self.shared.store.store(None);
    }

    fn fail(&mut self, error: &StoreError) {
        self.close(error);
        if self.waiting.iter().map(|handover| handover.part.bytes).sum::<usize>() > WAITING {
            tracing::error!("history stands still until the next start; the log is kept for it");
            self.shared.tally.lapsed.store(true, Ordering::Relaxed);
            self.waiting.clear();
            self.shared.memory().handed.clear();
        }
    }
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}
