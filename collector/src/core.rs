//! The only writer of [`State`]: recovers it from the log, folds what becomes durable, and publishes what follows.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use runtime::Shutdown;
use telemetry::{RegionName, ServiceName};

use crate::entry::Entry;
use crate::hints::HintDocument;
use crate::log::{Feed, Log, LogError};
use crate::state::{Effect, State};

/// How often the fold looks whether it should stop.
const IDLE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct Core {
    state: Arc<RwLock<State>>,
    board: Arc<ArcSwap<Board>>,
}

/// The hints as routers read them: rendered once, served to everyone, replaced as a whole.
pub type Board = BTreeMap<(RegionName, ServiceName), Arc<Rendered>>;

#[derive(Debug)]
pub struct Rendered {
    pub document: Arc<HintDocument>,
    pub etag: String,
    pub body: Bytes,
}

/// What readers see. Hints never wait for the fold; the rest takes a short look at the state.
#[derive(Debug, Clone)]
pub struct Snapshots {
    state: Arc<RwLock<State>>,
    board: Arc<ArcSwap<Board>>,
}

impl Core {
    /// Folds the whole log. What it concluded before is concluded again; the versions of hints go on.
    pub fn recover(log: &Log) -> Result<Self, LogError> {
        let mut state = State::default();
        let mut effects = Vec::new();
        log.replay(|entry| {
            let concluded = state.apply(&entry);
            if !concluded.is_empty() {
                effects = concluded;
            }
        })?;
        let core = Self { state: Arc::new(RwLock::new(state)), board: Arc::default() };
        core.publish(effects);
        Ok(core)
    }

    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn snapshots(&self) -> Snapshots {
        Snapshots { state: Arc::clone(&self.state), board: Arc::clone(&self.board) }
    }

    /// Runs until told to stop, or until nobody can append any more.
    pub fn run(self, feed: &Feed, shutdown: &Shutdown) {
        loop {
            match feed.recv_timeout(IDLE) {
                Ok(entry) => self.fold(&entry),
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) if shutdown.is_cancelled() => return,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn fold(&self, entry: &Entry) {
        let effects = self.state.write().unwrap_or_else(PoisonError::into_inner).apply(entry);
        if !effects.is_empty() {
            self.publish(effects);
        }
    }

    fn publish(&self, effects: Vec<Effect>) {
        let mut board = Board::clone(&self.board.load());
        for Effect::Hint(document) in effects {
            if let Some(rendered) = Rendered::of(document) {
                board.insert((rendered.document.source.clone(), rendered.document.service.clone()), Arc::new(rendered));
            }
        }
        self.board.store(Arc::new(board));
    }
}

impl Rendered {
    fn of(document: Arc<HintDocument>) -> Option<Self> {
        let body =
            serde_json::to_vec(&*document).inspect_err(|error| tracing::error!(%error, "hint not rendered")).ok()?;
        Some(Self { etag: document.etag(), body: body.into(), document })
    }
}

impl Snapshots {
    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn board(&self) -> Arc<Board> {
        self.board.load_full()
    }
}
