//! What the fold has taken and the store does not hold yet.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwapOption;
use foldhash::fast::RandomState;
use journal::Position;
use telemetry::time::nanos;
use telemetry::{Name, Series, ServiceName, Standing, Wall};

use super::key::Hour;
use super::row::{RESOLUTION, Windows};
use super::span::Span;
use super::store::Store;
use crate::rings::{Seen, SeriesId};
use crate::state::{Taken, Tell};

/// Gathered beyond this, history is handed over before a snapshot asks for it.
pub(super) const BOUND: usize = 256 << 20;
/// About what a window takes in memory beside its buckets, and each of those.
const WINDOW: usize = 160;
const BUCKET: usize = 8;

/// Comes with what is handed over for a snapshot.
pub struct Due {
    /// The log's clock.
    pub now: Wall,
    /// What may follow once all that was taken before is stored.
    pub then: Box<dyn FnOnce() + Send>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) memory: Mutex<Memory>,
    /// `None` while it cannot be opened.
    pub(super) store: ArcSwapOption<Store>,
    pub(super) tally: Tally,
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Up to where the log is stored.
    pub(super) stored: AtomicU64,
    pub(super) failures: AtomicU64,
    /// The first hour whose windows are still taken: what was dropped is not begun again.
    pub(super) floor: AtomicU32,
    /// Points that came too late for that.
    pub(super) expired: AtomicU64,
    /// More waited than memory may take: history stands still, and the log is kept for the next start.
    pub(super) lapsed: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct Memory {
    gathering: Gathered,
    /// On its way to the store, oldest first.
    pub(super) handed: VecDeque<Arc<Part>>,
}

/// What each series saw, found in several ways.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) held: HashMap<SeriesId, Held, RandomState>,
    kinds: BTreeMap<Kind, Vec<SeriesId>>,
    /// Of all windows.
    span: Option<Span>,
}

/// What is measured of a service, and how: of all targets, from everywhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    pub service: ServiceName,
    pub probe: Name,
    pub phase: Name,
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) series: Arc<Series>,
    pub(super) windows: Windows,
}

/// All that was taken from one position to another.
#[derive(Debug)]
pub(super) struct Part {
    /// The end of it: the next entry is not in it.
    pub(super) position: Position,
    pub(super) gathered: Gathered,
    pub(super) bytes: usize,
}

pub(super) struct Handover {
    pub(super) part: Arc<Part>,
    pub(super) due: Option<Due>,
}

/// The fold's end of history.
pub struct Intake {
    /// `None`: no history is kept.
    keeping: Option<Keeping>,
    /// What comes before is stored: a start that folds it again takes it no second time.
    stored: Position,
}

struct Keeping {
    shared: Arc<Shared>,
    keeper: SyncSender<Handover>,
    bytes: usize,
}

impl Intake {
    pub(super) fn new(shared: Arc<Shared>, keeper: SyncSender<Handover>, stored: Position) -> Self {
        shared.tally.stored.store(stored.0, Ordering::Relaxed);
        Self { keeping: Some(Keeping { shared, keeper, bytes: 0 }), stored }
    }

    /// Where no history is kept: what is told is passed by, and what may follow follows at once.
    pub fn none() -> Self {
        Self { keeping: None, stored: Position::START }
    }

    /// Up to where the log was stored when history was opened.
    pub fn stored(&self) -> Position {
        self.stored
    }

    /// Folds the entry at this position, and gathers what is told of it.
    pub fn fold<T>(&mut self, position: Position, fold: impl FnOnce(Tell<'_>) -> T) -> T {
        let takes = |keeping: &&mut Keeping| !keeping.shared.tally.lapsed.load(Ordering::Relaxed);
        let keeping = self.keeping.as_mut().filter(|_| position >= self.stored).filter(takes);
        let Some(Keeping { shared, bytes, .. }) = keeping else { return fold(&mut |_| {}) };
        let (mut memory, tally) = (shared.memory(), &shared.tally);
        let floor = Hour(tally.floor.load(Ordering::Relaxed));
        let folded = fold(&mut |taken| {
            if Hour::of(taken.slot) < floor {
                tally.expired.fetch_add(1, Ordering::Relaxed);
            } else {
                *bytes += memory.gathering.take(taken);
            }
        });
        drop(memory);
        if *bytes >= BOUND {
            self.hand_over(position.next(), None);
        }
        folded
    }

    /// Hands over all that was taken before this position, and tells what may follow then.
    pub fn hand_over(&mut self, position: Position, due: Option<Due>) {
        let Some(Keeping { shared, keeper, bytes }) = &mut self.keeping else {
            return due.into_iter().for_each(|Due { then, .. }| then());
        };
        let bytes = std::mem::take(bytes);
        let mut memory = shared.memory();
        let gathered = std::mem::take(&mut memory.gathering);
        if shared.tally.lapsed.load(Ordering::Relaxed) {
            return;
        }
        let part = Arc::new(Part { position, gathered, bytes });
        memory.handed.push_back(Arc::clone(&part));
        drop(memory);
        // Without a keeper nothing is stored and nothing follows: the log has it all.
        drop(keeper.send(Handover { part, due }));
    }
}

impl Held {
    fn new(series: &Arc<Series>) -> Self {
        Self { series: Arc::clone(series), windows: Windows::new() }
    }
}

impl Kind {
    pub(super) fn of(series: &Series) -> Self {
        Self { service: series.service.clone(), probe: series.probe.clone(), phase: series.phase.clone() }
    }
}

impl Gathered {
    pub(super) fn get(&self, id: SeriesId) -> Option<&Held> {
        self.held.get(&id)
    }

    /// What each regular series of this kind saw from one moment to another, if anything of that is here.
    pub(super) fn of_kind<'a>(
        &'a self,
        kind: &Kind,
        range: &Range<Wall>,
    ) -> impl Iterator<Item = (&'a Series, impl Iterator<Item = &'a Seen>)> {
        let here = self.span.is_some_and(|span| span.is_in(range));
        let ids = self.kinds.get(kind).filter(|_| here).into_iter().flatten();
        let regular = ids.filter_map(|id| self.get(*id)).filter(|held| held.series.standing == Standing::Regular);
        regular.map(|held| (&*held.series, held.windows.range(range.clone()).map(|(_, seen)| seen)))
    }

    /// About how many bytes more it takes now.
    fn take(&mut self, Taken { id, slot, point }: Taken<'_>) -> usize {
        let held = self.held.entry(id).or_insert_with(|| {
            self.kinds.entry(Kind::of(&point.series)).or_default().push(id);
            Held::new(&point.series)
        });
        let begin = Wall(slot.0 - slot.0 % nanos(RESOLUTION));
        self.span.get_or_insert_with(|| Span::of(begin)).take(begin);
        let mut bytes = BUCKET * point.histogram.buckets().len();
        let seen = held.windows.entry(begin).or_insert_with(|| {
            bytes += WINDOW;
            Seen::default()
        });
        seen.add(point);
        bytes
    }
}

impl Memory {
    /// What was taken behind a position: what was handed over since, oldest first, which stays as it is; and what still grows.
    pub(super) fn behind(&self, position: Position) -> (Vec<Arc<Part>>, &Gathered) {
        let handed = self.handed.iter().filter(|part| part.position > position);
        (handed.cloned().collect(), &self.gathering)
    }
}

impl fmt::Debug for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Due").field("now", &self.now).finish_non_exhaustive()
    }
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").field("stored", &self.stored).finish_non_exhaustive()
    }
}
