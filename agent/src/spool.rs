//! Batches that the collector has not taken yet. A batch gets its name and its bytes once, when it is offered; what is sent
//! again, even by another process after a restart, is the same bytes under the same name, so that it is counted once.
//!
//! Bounded by bytes and by age: the oldest go first, since a window of an hour ago helps nobody who decides now. What had to
//! go is named by a [`Gap`].

mod gaps;
mod memory;
mod record;
mod replay;
mod stored;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use telemetry::{Boot, Gap, Sequence, Wall};
use tokio::sync::Notify;

pub use crate::config::Limits;
pub use memory::Memory;
pub use stored::Stored;

/// Where batches are kept.
pub trait Spool: Send {
    /// Keeps batches under the next sequences, and says how many others had to go for them. `told`: the gaps that these
    /// batches tell of.
    fn offer(&mut self, bodies: Vec<Bytes>, told: Vec<Gap>, now: Wall) -> Offered;

    /// `None`: nothing waits.
    fn next(&mut self, lane: Lane) -> Option<Batch>;

    fn oldest(&mut self) -> Option<Batch> {
        self.next(Lane::Oldest)
    }

    /// The collector took or refused it: it is not needed again.
    fn forget(&mut self, name: Name);

    /// What is lost and no batch that was taken has told.
    fn gaps(&self) -> Vec<Gap>;

    fn depth(&self) -> Depth;
}

/// As it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub name: Name,
    pub body: Bytes,
}

/// Which batch of an agent it is. Another process has another boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    pub boot: Boot,
    pub sequence: Sequence,
}

/// From which end of what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    Newest,
    Oldest,
}

/// What an offer did beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offered {
    /// Batches that are lost.
    pub dropped: u64,
    /// Those just offered that are in memory only, although there is a disk.
    pub unwritten: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    pub batches: u64,
    pub bytes: u64,
}

/// One spool between the thread that fills it and the task that empties it.
#[derive(Clone)]
pub struct Shared(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    news: Notify,
}

struct State {
    spool: Box<dyn Spool>,
    closed: bool,
}

/// On disk below `data_dir`, or else in memory, which is said. An agent that cannot use its disk measures all the same.
pub fn open(data_dir: Option<&Path>, boot: Boot, limits: Limits) -> Shared {
    let Some(data_dir) = data_dir else {
        tracing::info!(
            "no data_dir: batches wait in memory, and a restart loses those that the collector has not taken"
        );
        return Shared::new(Memory::new(boot, limits));
    };
    match replay::open(data_dir, boot, limits) {
        Ok(stored) => Shared::new(stored),
        Err(error) => {
            let dir = data_dir.display();
            tracing::error!(%dir, %error, "cannot use data_dir; batches wait in memory until the agent is started again");
            Shared::new(Memory::new(boot, limits))
        }
    }
}

impl Shared {
    pub fn new(spool: impl Spool + 'static) -> Self {
        let state = State { spool: Box::new(spool), closed: false };
        Self(Arc::new(Inner { state: Mutex::new(state), news: Notify::new() }))
    }

    pub fn offer(&self, bodies: Vec<Bytes>, told: Vec<Gap>, now: Wall) -> Offered {
        let offered = self.at_once(|spool| spool.offer(bodies, told, now));
        self.0.news.notify_one();
        offered
    }

    /// Nothing more will be offered.
    pub fn close(&self) {
        self.state().closed = true;
        self.0.news.notify_one();
    }

    /// Waits for a batch. `None`: there is none and there will be none.
    pub async fn next(&self, lane: Lane) -> Option<Batch> {
        loop {
            let (next, closed) = self.aside(move |state| (state.spool.next(lane), state.closed)).await;
            if next.is_some() || closed {
                return next;
            }
            self.0.news.notified().await;
        }
    }

    pub async fn forget(&self, name: Name) {
        self.aside(move |state| state.spool.forget(name)).await;
    }

    pub fn gaps(&self) -> Vec<Gap> {
        self.at_once(|spool| spool.gaps())
    }

    pub fn depth(&self) -> Depth {
        self.at_once(|spool| spool.depth())
    }

    /// For a thread that may wait for the disk.
    pub fn at_once<T>(&self, work: impl FnOnce(&mut dyn Spool) -> T) -> T {
        work(&mut *self.state().spool)
    }

    /// Away from the runtime's threads: a disk may be slow, and probes run on those.
    async fn aside<T: Send + 'static>(&self, work: impl FnOnce(&mut State) -> T + Send + 'static) -> T {
        let shared = self.clone();
        match tokio::task::spawn_blocking(move || work(&mut shared.state())).await {
            Ok(done) => done,
            Err(fault) => match fault.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Only the end of the runtime cancels it, and whoever waits here.
                Err(_) => std::future::pending().await,
            },
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
