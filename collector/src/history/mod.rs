//! What every series saw, for a year: a projection of the log.
//!
//! The fold tells what it takes ([`Intake`]); it is gathered in memory and, every few minutes, handed over to the keeper's thread, which stores
//! it together with the position up to which the log is in it. What may follow only then, a snapshot and the cut of the log behind
//! it, follows only then. So a start that folds the log from a snapshot finds history at its position or ahead of it, and passes over what is
//! stored. Readers ([`History`]) see what is stored and what is gathered as one.

mod copy;
mod expiry;
mod gather;
mod keeper;
mod key;
mod query;
mod question;
mod roll_up;
mod row;
mod span;
mod store;
mod tier;
mod view;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use journal::Position;

pub use copy::{Copy, Rebuild};
pub use gather::{Due, Intake, Kind};
pub use keeper::Keeper;
pub use query::{Cells, Slot};
pub use question::{Floors, Question, Unanswerable};
pub use row::Windows;
pub use store::StoreError;
pub use tier::Tier;

use crate::retention::Retention;
use gather::{Memory, Shared};
use store::Store;

/// Parts of history on their way to the keeper. When it is behind by more, the fold waits.
const HANDED: usize = 1;

/// For readers; clone it freely.
#[derive(Debug, Clone)]
pub struct History {
    shared: Arc<Shared>,
    retention: Retention,
}

/// How it stands with what the fold hands over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Kept,
    /// Something could not be stored: it waits, and is tried again when more comes.
    Refused,
    /// Too much waited: history stands still until the next start, which finds all of it in the log.
    Lapsed,
}

impl Standing {
    pub const ALL: [Self; 3] = [Self::Kept, Self::Refused, Self::Lapsed];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Refused => "refused",
            Self::Lapsed => "lapsed",
        }
    }
}

/// The three ends of history: readers', the fold's, and what stores it, on a thread of its own.
pub fn open(data_dir: &Path, retention: Retention) -> Result<(History, Intake, Keeper), StoreError> {
    let dir = data_dir.join("history");
    let store = Store::open(&dir)?;
    let (position, floor) = (store.view().position()?, store.view().floor(Tier::Raw)?);
    let shared = Arc::new(Shared::new(store));
    shared.tally.floor.store(floor.0, Ordering::Relaxed);
    let (handed, inbox) = mpsc::sync_channel(HANDED);
    let intake = Intake::new(Arc::clone(&shared), handed, position);
    Ok((History { shared: Arc::clone(&shared), retention }, intake, Keeper::new(dir, retention, shared, inbox)))
}

impl History {
    /// Up to where the log is stored.
    pub fn stored(&self) -> Position {
        Position(self.shared.tally.stored.load(Ordering::Relaxed))
    }

    /// Times that something could not be stored; it is tried again.
    pub fn failures(&self) -> u64 {
        self.shared.tally.failures.load(Ordering::Relaxed)
    }

    pub fn standing(&self) -> Standing {
        if self.shared.tally.lapsed.load(Ordering::Relaxed) {
            Standing::Lapsed
        } else if self.shared.store.load().is_none() {
            Standing::Refused
        } else {
            Standing::Kept
        }
    }

    /// Points of hours that had been dropped before they came.
    pub fn expired(&self) -> u64 {
        self.shared.tally.expired.load(Ordering::Relaxed)
    }

    /// Hours of series that have new rows since they were last rolled up; nothing while it is closed.
    pub fn to_roll_up(&self) -> usize {
        self.shared.store.load_full().map_or(0, |store| store.marks().values().map(BTreeSet::len).sum())
    }

    /// On disk, by tier; nothing while it is closed.
    pub fn bytes(&self) -> BTreeMap<Tier, u64> {
        let mut bytes = BTreeMap::new();
        for ((tier, _), size) in self.shared.store.load_full().iter().flat_map(|store| store.sizes()) {
            *bytes.entry(tier).or_default() += size;
        }
        bytes
    }
}

impl Shared {
    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new(store: Store) -> Self {
        Self {
            memory: Mutex::default(),
            store: arc_swap::ArcSwapOption::new(Some(Arc::new(store))),
            tally: gather::Tally::default(),
        }
    }
}

#[cfg(test)]
mod tests;
