//! The only writer of [`State`]: recovers it from the log, folds what becomes durable, and publishes what follows.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use journal::Position;
use runtime::Shutdown;
use runtime::own::SPANS;
use telemetry::{RegionName, ServiceName};
use tokio::sync::watch;

use crate::admission::Ticket;
use crate::entry::Entry;
use crate::hints::HintDocument;
use crate::history::{Due, Intake};
use crate::jobs::SnapshotDue;
use crate::log::{Appender, Durable, Feed, Log, LogError};
use crate::snapshot::{self, SnapshotError};
use crate::state::{Effect, State, Tell};

/// How often the fold looks whether it should stop.
const IDLE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct Core {
    state: Arc<RwLock<State>>,
    board: Arc<ArcSwap<Board>>,
    told: watch::Sender<()>,
    is_beyond: Arc<AtomicBool>,
    /// Up to where the log is folded.
    folded: Position,
    keep: Keep,
}

/// Where snapshots and history are kept, and who says when.
#[derive(Debug)]
pub struct Keep {
    pub snapshots: snapshot::Snapshots,
    pub history: Intake,
    pub due: SnapshotDue,
}

#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(
        "the log begins at {first} and no snapshot is readable: restore the snapshots, or start with a new data_dir"
    )]
    Cut { first: Position },
    /// It would be taken for a state of this log as soon as this log is as long.
    #[error(
        "{what} stands at {at}, and the log ends at {end}: they are not of one run. Restore data_dir as a whole, or move it \
         away as a whole and start again"
    )]
    Ahead { what: &'static str, at: Position, end: Position },
}

/// The log handed over an entry before one that comes before it: what would be folded is not what the log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("position {found} of the log came where {expected} was due")]
pub struct Hole {
    pub expected: Position,
    pub found: Position,
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
    told: watch::Receiver<()>,
    is_beyond: Arc<AtomicBool>,
}

impl Core {
    /// Folds what the log holds behind the newest snapshot. What was concluded before is concluded again; the versions of
    /// hints go on.
    pub fn recover(log: &Log, mut keep: Keep) -> Result<Self, RecoverError> {
        let folded = log.next();
        let (from, mut state) = match keep.snapshots.load()? {
            Some((at, _)) if at > folded => return Err(RecoverError::Ahead { what: "a snapshot", at, end: folded }),
            Some((position, state)) if position >= log.first() => (position, state),
            _ if log.first() == Position::START => (Position::START, State::default()),
            _ => return Err(RecoverError::Cut { first: log.first() }),
        };
        let at = keep.history.stored();
        if at > folded {
            return Err(RecoverError::Ahead { what: "history", at, end: folded });
        }
        let mut position = from;
        log.replay(from, folded, |entry| {
            keep.history.fold(position, |tell| drop(state.fold(&entry, tell)));
            position = position.next();
        })?;
        let hints = state.hints();
        let is_beyond = Arc::new(AtomicBool::new(state.tally.beyond_points > 0));
        let (state, told) = (Arc::new(RwLock::new(state)), watch::Sender::new(()));
        let core = Self { state, board: Arc::default(), told, is_beyond, folded, keep };
        core.publish(hints);
        Ok(core)
    }

    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn snapshots(&self) -> Snapshots {
        let (state, board) = (Arc::clone(&self.state), Arc::clone(&self.board));
        Snapshots { state, board, told: self.told.subscribe(), is_beyond: Arc::clone(&self.is_beyond) }
    }

    /// Where the log goes on.
    pub fn folded(&self) -> Position {
        self.folded
    }

    /// Runs until told to stop, or until nobody can append any more; then keeps a last snapshot.
    pub fn run(mut self, feed: &Feed, log: &Appender, shutdown: &Shutdown) -> Result<(), Hole> {
        loop {
            match feed.recv_timeout(IDLE) {
                Ok(Durable { position, entry, ticket }) => {
                    self.take(position, &entry)?;
                    ticket.into_iter().for_each(Ticket::fold);
                }
                Err(RecvTimeoutError::Timeout) if !shutdown.is_cancelled() => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
            if self.keep.due.swap(false, Ordering::Relaxed) {
                self.keep_snapshot(log);
            }
        }
        self.keep_snapshot(log);
        Ok(())
    }

    /// Where nothing is folded any more: history gets what was taken, and what was concluded stays to be read.
    pub fn end(mut self) -> Snapshots {
        self.keep.history.hand_over(self.folded, None);
        self.snapshots()
    }

    /// Folds what the log holds at that position, once: what comes again is passed by.
    pub fn take(&mut self, position: Position, entry: &Entry) -> Result<(), Hole> {
        if position > self.folded {
            return Err(Hole { expected: self.folded, found: position });
        }
        if position == self.folded {
            self.fold(position, entry);
            self.folded = position.next();
        }
        Ok(())
    }

    /// History first: what a snapshot covers is not folded again. A snapshot that cannot be written costs time at the next start, nothing else.
    pub fn keep_snapshot(&mut self, log: &Appender) {
        let _span = tracing::info_span!(target: SPANS, "snapshot", position = self.folded.0).entered();
        let encoded = snapshot::encode(&self.state());
        let (snapshots, log, position) = (self.keep.snapshots.clone(), log.clone(), self.folded);
        let save = move || match encoded.map_err(SnapshotError::from).and_then(|state| snapshots.save(position, &state))
        {
            Ok(Some(needed)) => log.cut_before(needed),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "no snapshot"),
        };
        let due = Due { now: self.state().now, then: Box::new(save) };
        self.keep.history.hand_over(position, Some(due));
    }

    fn fold(&mut self, position: Position, entry: &Entry) {
        let (state, is_beyond) = (&self.state, &self.is_beyond);
        let fold = |tell: Tell<'_>| {
            let mut state = state.write().unwrap_or_else(PoisonError::into_inner);
            let effects = state.fold(entry, tell);
            if state.tally.beyond_points > 0 {
                is_beyond.store(true, Ordering::Relaxed);
            }
            effects
        };
        let effects = self.keep.history.fold(position, fold);
        if !effects.is_empty() {
            self.publish(effects);
        }
    }

    fn publish(&self, effects: Vec<Effect>) {
        let mut board = Board::default();
        for effect in effects {
            // The outbox is read off the state.
            let Effect::Hint(document) = effect else { continue };
            if let Some(rendered) = Rendered::of(document) {
                board.insert((rendered.document.source.clone(), rendered.document.service.clone()), Arc::new(rendered));
            }
        }
        // Hints come all at once or not at all.
        if !board.is_empty() {
            self.board.store(Arc::new(board));
        }
        self.told.send_replace(());
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

    /// Whether the fold ever refused a new series: as long as not, nobody need look which it would.
    pub fn is_beyond(&self) -> bool {
        self.is_beyond.load(Ordering::Relaxed)
    }

    pub fn board(&self) -> Arc<Board> {
        self.board.load_full()
    }

    /// Tells of everything that is published from now on; ends with the fold. Subscribe first, then look: nothing is missed in between.
    pub fn news(&self) -> watch::Receiver<()> {
        let mut told = self.told.clone();
        told.mark_unchanged();
        told
    }
}
