//! The last minutes of every series: for each slot a sparse histogram of its replies and a count of its failures.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};
use telemetry::{AgentId, FailureKind, Histogram, Outcome, PathId, Series, Standing, Wall};

use crate::entry::Point;
use crate::policy::Bounds;

/// How much is kept: three times what costs look back on.
pub const HORIZON: Duration = Duration::from_mins(15);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SeriesId(u32);

#[cfg(test)]
impl SeriesId {
    /// The first of any.
    pub(crate) fn some(count: u32) -> Vec<Self> {
        (0..count).map(Self).collect()
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Ring>", into = "Vec<Ring>")]
pub struct Rings {
    /// In the order in which the log first named them.
    all: Vec<Ring>,
    ids: HashMap<Arc<Series>, SeriesId, RandomState>,
    /// How many each agent has.
    of_agent: HashMap<AgentId, usize>,
    paths: BTreeMap<PathId, Vec<SeriesId>>,
    /// Of each path the series that do not count for it: confirming and suspect ones.
    beside: BTreeMap<PathId, Vec<SeriesId>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ring {
    pub series: Arc<Series>,
    pub path: PathId,
    /// The end of the newest point.
    pub newest: Wall,
    slots: VecDeque<Slot>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    pub begin: Wall,
    pub replies: Histogram,
    pub failures: BTreeMap<FailureKind, u64>,
    /// Points that came without a batch's name: begin, end and outcome, as long as the slot itself is kept.
    counted: BTreeSet<(Wall, Wall, Outcome)>,
}

/// By what a point is counted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Once {
    /// Its batch has a name, and came for the first time.
    ByBatch,
    /// Its batch has none: the point itself is looked for.
    ByPoint,
}

/// What became of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    Counted(SeriesId),
    /// Older than what is kept here.
    Late(SeriesId),
    /// Counted before.
    Repeated,
    /// Of a new series, where its agent has as many as it may, or there are as many agents.
    Beyond,
}

/// Beyond which a new series is not kept, by its key in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Bound {
    #[error("[limits] series_per_agent = {0}")]
    SeriesPerAgent(usize),
    #[error("[limits] agents = {0}")]
    Agents(usize),
}

/// Several slots of several series, merged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    pub replies: Histogram,
    pub failures: BTreeMap<FailureKind, u64>,
    pub newest: Wall,
}

impl Rings {
    /// Adds a point to its slot.
    pub fn add(&mut self, point: &Point, width: Duration, once: Once, bounds: Bounds) -> Added {
        let id = match self.ids.get(&point.series) {
            Some(id) => *id,
            None if self.bound_on_new(&point.series.agent, bounds).is_some() => return Added::Beyond,
            None => self.begin(&point.series),
        };
        let ring = &mut self.all[id.0 as usize];
        let Some(slot) = ring.slot_for(point, width) else { return Added::Late(id) };
        if once == Once::ByPoint && !slot.remember(point) {
            return Added::Repeated;
        }
        slot.add(point);
        Added::Counted(id)
    }

    /// What keeps points of that series out.
    pub fn bound_on(&self, series: &Arc<Series>, bounds: Bounds) -> Option<Bound> {
        self.bound_on_new(&series.agent, bounds).filter(|_| !self.ids.contains_key(series))
    }

    fn bound_on_new(&self, agent: &AgentId, bounds: Bounds) -> Option<Bound> {
        match self.of_agent.get(agent) {
            Some(count) if *count >= bounds.series_per_agent => Some(Bound::SeriesPerAgent(bounds.series_per_agent)),
            None if self.of_agent.len() >= bounds.agents => Some(Bound::Agents(bounds.agents)),
            _ => None,
        }
    }

    pub fn get(&self, id: SeriesId) -> &Ring {
        &self.all[id.0 as usize]
    }

    pub fn iter(&self) -> impl Iterator<Item = (SeriesId, &Ring)> {
        self.all.iter().enumerate().map(|(index, ring)| (SeriesId(index as u32), ring))
    }

    pub fn paths(&self) -> impl Iterator<Item = (PathId, &[SeriesId])> {
        self.paths.iter().map(|(id, series)| (*id, series.as_slice()))
    }

    /// Paths of which nothing counts yet: all that came is confirming or suspect.
    pub fn aside(&self) -> impl Iterator<Item = PathId> {
        self.beside.keys().copied().filter(|path| !self.paths.contains_key(path))
    }

    /// Every series of a path.
    pub fn of_path(&self, path: PathId) -> impl Iterator<Item = SeriesId> {
        self.paths.get(&path).into_iter().flatten().chain(self.beside(path)).copied()
    }

    /// The confirming and suspect series of a path.
    pub fn beside(&self, path: PathId) -> &[SeriesId] {
        self.beside.get(&path).map_or(&[], Vec::as_slice)
    }

    /// Everything that these series saw in slots that begin in `[from, until)`.
    pub fn merge(&self, series: impl IntoIterator<Item = SeriesId>, from: Wall, until: Wall) -> Seen {
        let (mut seen, mut replies) = (Seen::default(), Vec::new());
        for ring in series.into_iter().map(|id| self.get(id)) {
            seen.newest = seen.newest.max(ring.newest);
            for slot in ring.slots.iter().filter(|slot| slot.begin >= from && slot.begin < until) {
                replies.push(&slot.replies);
                seen.fail(&slot.failures);
            }
        }
        seen.replies = Histogram::total(&replies);
        seen
    }

    /// The same, one for each slot that holds anything.
    pub fn by_slot(&self, series: &[SeriesId], from: Wall, until: Wall) -> BTreeMap<Wall, Seen> {
        let mut slots: BTreeMap<Wall, Seen> = BTreeMap::new();
        for slot in series.iter().flat_map(|id| &self.get(*id).slots) {
            if slot.begin >= from && slot.begin < until {
                slots.entry(slot.begin).or_default().count(&slot.replies, &slot.failures);
            }
        }
        slots
    }

    fn begin(&mut self, series: &Arc<Series>) -> SeriesId {
        let id = SeriesId(self.all.len() as u32);
        let path = series.path();
        self.all.push(Ring { series: Arc::clone(series), path, newest: Wall::default(), slots: VecDeque::new() });
        self.ids.insert(Arc::clone(series), id);
        *self.of_agent.entry(series.agent.clone()).or_default() += 1;
        let counts = series.standing == Standing::Regular;
        let place = if counts { &mut self.paths } else { &mut self.beside };
        place.entry(path).or_default().push(id);
        id
    }
}

/// What is kept of them is the rings; how they are found follows from their order.
impl From<Vec<Ring>> for Rings {
    fn from(all: Vec<Ring>) -> Self {
        let mut rings = Self::default();
        for ring in all {
            let id = rings.begin(&ring.series);
            rings.all[id.0 as usize] = ring;
        }
        rings
    }
}

impl From<Rings> for Vec<Ring> {
    fn from(rings: Rings) -> Self {
        rings.all
    }
}

impl Ring {
    /// `None`: older than what is kept.
    fn slot_for(&mut self, point: &Point, width: Duration) -> Option<&mut Slot> {
        let begin = slot_of(point, width);
        let horizon = self.newest.max(point.end) - HORIZON;
        if begin < horizon {
            return None;
        }
        self.newest = self.newest.max(point.end);
        while self.slots.front().is_some_and(|slot| slot.begin < horizon) {
            self.slots.pop_front();
        }
        // Nearly always it is the newest slot, or comes after it.
        let index = self.slots.len() - self.slots.iter().rev().take_while(|slot| slot.begin >= begin).count();
        if self.slots.get(index).is_none_or(|slot| slot.begin != begin) {
            self.slots.insert(index, Slot { begin, ..Slot::default() });
        }
        self.slots.get_mut(index)
    }
}

/// Where it begins; a point wider than a slot is news of when it ends.
pub fn slot_of(point: &Point, width: Duration) -> Wall {
    let wide = point.end.since(point.begin) > width;
    if wide { (point.end - Duration::from_nanos(1)).slot(width) } else { point.begin.slot(width) }
}

impl Slot {
    /// `false`: it was known.
    fn remember(&mut self, point: &Point) -> bool {
        self.counted.insert((point.begin, point.end, point.outcome))
    }

    fn add(&mut self, point: &Point) {
        add(point, &mut self.replies, &mut self.failures);
    }
}

fn add(point: &Point, replies: &mut Histogram, failures: &mut BTreeMap<FailureKind, u64>) {
    match point.outcome {
        Outcome::Reply => replies.merge(&point.histogram),
        Outcome::Failure(kind) => *failures.entry(kind).or_default() += point.histogram.count(),
    }
}

impl Seen {
    pub fn add(&mut self, point: &Point) {
        self.newest = self.newest.max(point.end);
        add(point, &mut self.replies, &mut self.failures);
    }

    pub fn lost(&self) -> u64 {
        self.failures.values().sum()
    }

    pub fn samples(&self) -> u64 {
        self.replies.count() + self.lost()
    }

    /// Round-trip loss, or `None` when nothing was sent.
    pub fn loss(&self) -> Option<f64> {
        let samples = self.samples();
        (samples > 0).then(|| self.lost() as f64 / samples as f64)
    }

    pub fn quantile_ms(&self, q: f64) -> Option<f64> {
        self.replies.quantile(q).map(|seconds| seconds * 1e3)
    }

    /// RFC 3550's jitter, as the mean absolute difference of two replies.
    pub fn jitter_ms(&self) -> Option<f64> {
        self.replies.mean_difference().map(|seconds| seconds * 1e3)
    }

    /// All of it, merged at once.
    pub fn total(all: &[Self]) -> Self {
        let replies: Vec<_> = all.iter().map(|seen| &seen.replies).collect();
        let mut total = Self { replies: Histogram::total(&replies), ..Self::default() };
        for seen in all {
            total.newest = total.newest.max(seen.newest);
            total.fail(&seen.failures);
        }
        total
    }

    /// Adds what others saw.
    pub fn merge(&mut self, other: &Self) {
        self.newest = self.newest.max(other.newest);
        self.count(&other.replies, &other.failures);
    }

    fn count(&mut self, replies: &Histogram, failures: &BTreeMap<FailureKind, u64>) {
        self.replies.merge(replies);
        self.fail(failures);
    }

    fn fail(&mut self, failures: &BTreeMap<FailureKind, u64>) {
        for (kind, count) in failures {
            *self.failures.entry(*kind).or_default() += count;
        }
    }
}
