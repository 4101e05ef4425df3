//! A cell is what a source sees of a service in a region: ok, slow, lossy, down, unknown or stale, with the reason.
//!
//! Only the service's primary measurement votes. IPv4 and IPv6 are judged apart; the cell is the worse of the two. A state is
//! raised and cleared at different thresholds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use telemetry::{AgentId, Family, Outcome, RegionName, Series, ServiceName, TargetId, Wall};
use utoipa::ToSchema;

use crate::baselines::{Baselines, median};
use crate::diagnosis::{Diagnosis, diagnose};
use crate::entry::Point;
use crate::evidence::Evidence;
use crate::policy::Policy;
use crate::rings::{HORIZON, Rings, Seen, SeriesId};
use crate::slowness::{Slower, slower, slower_than_before};

/// Evidence at which a cell is lossy, e¹² against one, and below which it no longer is.
const LOSSY_RAISE: f64 = 12.0;
const LOSSY_CLEAR: f64 = 8.0;
/// Evidence at which a cell is down: all of its targets together, and each of them; and below which it no longer is.
const DOWN_RAISE: f64 = 6.0;
const DOWN_RAISE_EACH: f64 = 4.5;
const DOWN_CLEAR: f64 = 4.0;
/// For each target, where a part of the parallel paths is known to be broken: some losses in a row are then to be expected.
const DOWN_RAISE_PARTIAL: f64 = 12.0;
/// What a lost packet of a confirming burst weighs: five of them, sent within a tenth of a second, are not five witnesses.
const CONFIRMING_LOSS: f64 = 0.6;
/// An agent says every minute which share of its ports loses; after so long it no longer does.
const PARTIAL_LASTS: Duration = Duration::from_secs(150);
/// Slow is cleared at so much of its thresholds.
const SLOW_CLEAR: f64 = 0.5;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CellKey {
    pub service: ServiceName,
    pub source: RegionName,
    pub region: RegionName,
}

/// From best to worst; what is not known is not healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = CellState)]
pub enum State {
    Ok,
    Unknown,
    Stale,
    Slow,
    Lossy,
    Down,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reason {
    AsUsual,
    NoData,
    FewSamples {
        samples: u64,
        needed: u64,
    },
    Silent {
        since: Wall,
    },
    Losing {
        lost: u64,
        samples: u64,
    },
    /// Of the source ports of one agent.
    Partial {
        target: TargetId,
        share: f64,
    },
    NoReply {
        targets: usize,
    },
    SlowerThanUsual(Slower),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cell {
    pub state: State,
    pub reason: Reason,
    /// Of a bad cell.
    pub diagnosis: Diagnosis,
    pub since: Wall,
    /// What its series saw recently.
    pub recent: Seen,
    /// It got data since it was last judged.
    touched: bool,
    families: BTreeMap<Family, FamilyCell>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct FamilyCell {
    vantages: BTreeMap<(TargetId, AgentId), Vantage>,
    raised: Option<State>,
}

/// What one agent sees of one target: evidence in that agent's own order, whichever of its series an outcome is in.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Vantage {
    evidence: Evidence,
    /// What it told last, which may not be all: replies and losses come apart.
    part: Part,
    series: BTreeSet<SeriesId>,
    /// The share of its source ports that lose, and when it said so.
    losing_ports: Option<(f64, Wall)>,
}

/// What an agent tells together of a slot, and closed together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Part {
    begin: Wall,
    end: Wall,
    replies: u64,
    lost: u64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Cells {
    all: BTreeMap<CellKey, Cell>,
    /// The series that are not primary: for diagnosis.
    beside: BTreeMap<CellKey, BTreeSet<SeriesId>>,
}

/// What a judgement is made by.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    pub rings: &'a Rings,
    pub baselines: &'a Baselines,
    pub policy: &'a Policy,
    pub now: Wall,
}

impl State {
    /// Down, lossy or slow: something is known to be wrong.
    pub fn is_bad(self) -> bool {
        matches!(self, Self::Slow | Self::Lossy | Self::Down)
    }

    /// Whether enough is known to have an opinion.
    pub fn is_known(self) -> bool {
        !matches!(self, Self::Unknown | Self::Stale)
    }
}

impl CellKey {
    pub fn of(series: &Series) -> Self {
        Self { service: series.service.clone(), source: series.source.clone(), region: series.region.clone() }
    }
}

impl Cells {
    /// Takes a point of a primary series as evidence. `news` is false for what is older than what was already judged: it is
    /// history and does not vote.
    pub fn weigh(&mut self, id: SeriesId, point: &Point, news: bool) {
        let vantage = self.vantage(&point.series, point.end);
        vantage.series.insert(id);
        if news {
            vantage.learn(point);
        }
    }

    /// Takes a point of a confirming series, which is evidence and nothing else.
    pub fn confirm(&mut self, point: &Point) {
        let vantage = self.vantage(&point.series, point.end);
        vantage.settle();
        let count = point.histogram.count() as f64;
        match point.outcome {
            Outcome::Reply => vantage.evidence.add(count, 0.0),
            Outcome::Failure(_) => vantage.evidence.add(0.0, count * CONFIRMING_LOSS),
        }
    }

    /// Takes note of the share of source ports that lose, as an agent says it.
    pub fn lose_ports(&mut self, series: &Series, share: f64, seen: Wall) {
        let vantage = self.vantage(series, seen);
        if vantage.losing_ports.is_none_or(|(_, known)| known <= seen) {
            vantage.losing_ports = Some((share, seen));
        }
    }

    fn vantage(&mut self, series: &Series, at: Wall) -> &mut Vantage {
        let cell = self.all.entry(CellKey::of(series)).or_insert_with(|| Cell {
            state: State::Unknown,
            reason: Reason::NoData,
            diagnosis: Diagnosis::default(),
            since: at,
            recent: Seen::default(),
            touched: false,
            families: BTreeMap::new(),
        });
        cell.touched = true;
        let family = cell.families.entry(series.family).or_default();
        family.vantages.entry((series.target.clone(), series.agent.clone())).or_default()
    }

    /// Takes note of a series that is not primary.
    pub fn accompany(&mut self, id: SeriesId, series: &Series) {
        self.beside.entry(CellKey::of(series)).or_default().insert(id);
    }

    /// Judges every cell that got data, and every one that may have fallen silent.
    pub fn judge(&mut self, facts: Facts<'_>) {
        let Facts { rings, policy, now, .. } = facts;
        for (key, cell) in &mut self.all {
            let silent = now.since(cell.recent.newest) > policy.stale_after();
            if std::mem::take(&mut cell.touched) || silent {
                cell.judge(facts);
            }
            let bad = cell.state.is_bad();
            let beside = self.beside.get(key).filter(|_| bad).into_iter().flatten().copied();
            let since = if cell.state == State::Down { cell.since } else { Wall::default() };
            cell.diagnosis = diagnose(rings, beside, since, policy, now);
        }
    }

    pub fn get(&self, key: &CellKey) -> Option<&Cell> {
        self.all.get(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&CellKey, &Cell)> {
        self.all.iter()
    }

    pub fn of_service<'a>(&'a self, service: &'a ServiceName) -> impl Iterator<Item = (&'a CellKey, &'a Cell)> {
        self.all.iter().filter(move |(key, _)| key.service == *service)
    }
}

impl Cell {
    /// Every series that drives it.
    pub fn series(&self) -> Vec<SeriesId> {
        self.families.values().flat_map(FamilyCell::series).collect()
    }

    /// Why it is in its state, and which layer broke.
    pub fn says(&self) -> String {
        if self.diagnosis.is_empty() { self.reason.to_string() } else { format!("{}; {}", self.reason, self.diagnosis) }
    }

    fn judge(&mut self, facts: Facts<'_>) {
        let Facts { rings, policy, now, .. } = facts;
        let from = (now - policy.health.recent).slot(policy.window);
        self.families.values_mut().for_each(|family| family.settle(rings, now));
        self.families.retain(|_, family| !family.vantages.is_empty());
        self.recent = Seen::default();
        let mut verdicts = Vec::new();
        for family in self.families.values_mut() {
            let recent = rings.merge(family.series(), from, Wall(u64::MAX));
            verdicts.push(family.judge(facts, (from, &recent)));
            self.recent.merge(&recent);
        }
        // A family that is no longer probed says nothing about one that is.
        if verdicts.iter().any(|(state, _)| state.is_known()) {
            verdicts.retain(|(state, _)| state.is_known());
        }
        let verdict = verdicts.into_iter().max_by_key(|(state, _)| *state);
        let (state, reason) = verdict.unwrap_or((State::Stale, Reason::NoData));
        if state != self.state {
            self.since = now;
        }
        (self.state, self.reason) = (state, reason);
    }
}

impl Vantage {
    fn learn(&mut self, point: &Point) {
        if (self.part.begin, self.part.end) != (point.begin, point.end) {
            self.settle();
            self.part = Part { begin: point.begin, end: point.end, ..Part::default() };
        }
        match point.outcome {
            Outcome::Reply => self.part.replies += point.histogram.count(),
            Outcome::Failure(_) => self.part.lost += point.histogram.count(),
        }
    }

    /// Nothing more comes of what was told last.
    fn settle(&mut self) {
        let Part { replies, lost, .. } = std::mem::take(&mut self.part);
        self.evidence.add(replies as f64, lost as f64);
    }
}

impl FamilyCell {
    /// A series that has been silent for so long is gone: its evidence must not speak for those that are left.
    fn settle(&mut self, rings: &Rings, now: Wall) {
        for vantage in self.vantages.values_mut() {
            vantage.settle();
            vantage.series.retain(|id| now.since(rings.get(*id).newest) <= HORIZON);
        }
        self.vantages.retain(|_, vantage| !vantage.series.is_empty());
    }

    fn series(&self) -> impl Iterator<Item = SeriesId> {
        self.vantages.values().flat_map(|vantage| vantage.series.iter().copied())
    }

    /// By what it saw from there on.
    fn judge(&mut self, facts: Facts<'_>, (from, recent): (Wall, &Seen)) -> (State, Reason) {
        let Facts { policy, now, .. } = facts;
        if now.since(recent.newest) > policy.stale_after() {
            self.raised = None;
            return (State::Stale, Reason::Silent { since: recent.newest });
        }
        let (samples, needed) = (recent.samples(), policy.health.min_samples);
        if samples < needed {
            return (State::Unknown, Reason::FewSamples { samples, needed });
        }
        let verdict = self.loss(facts, recent).or_else(|| self.slowness(facts, (from, recent)));
        self.raised = verdict.as_ref().map(|(state, _)| *state);
        verdict.unwrap_or((State::Ok, Reason::AsUsual))
    }

    /// Down when every target shows total loss; lossy when all of it together shows loss.
    fn loss(&self, Facts { rings, policy, now, .. }: Facts<'_>, recent: &Seen) -> Option<(State, Reason)> {
        let mut targets: BTreeMap<_, f64> = BTreeMap::new();
        let mut total = Evidence::default();
        let fresh = |id: &SeriesId| now.since(rings.get(*id).newest) <= policy.stale_after();
        for ((target, _), Vantage { evidence, .. }) in
            self.vantages.iter().filter(|(_, vantage)| vantage.series.iter().any(fresh))
        {
            *targets.entry(target).or_default() += evidence.down;
            total.down += evidence.down;
            total.lossy += evidence.lossy;
        }
        let each = targets.values().copied().fold(f64::INFINITY, f64::min);
        let partial = self.partial(now);
        let down = match self.raised {
            Some(State::Down) if partial.is_none() => each >= DOWN_CLEAR,
            _ if partial.is_some() => each >= DOWN_RAISE_PARTIAL,
            _ => total.down >= DOWN_RAISE && each >= DOWN_RAISE_EACH,
        };
        if down {
            return Some((State::Down, Reason::NoReply { targets: targets.len() }));
        }
        if let Some((target, share)) = partial {
            return Some((State::Lossy, Reason::Partial { target: target.clone(), share }));
        }
        let was_losing = matches!(self.raised, Some(State::Down | State::Lossy));
        let lossy = total.lossy >= if was_losing { LOSSY_CLEAR } else { LOSSY_RAISE };
        lossy.then(|| (State::Lossy, Reason::Losing { lost: recent.lost(), samples: recent.samples() }))
    }

    /// The largest share of ports that lose, and the target to which they do.
    fn partial(&self, now: Wall) -> Option<(&TargetId, f64)> {
        let losing = self.vantages.iter().filter_map(|((target, _), vantage)| {
            let (share, seen) = vantage.losing_ports?;
            (share > 0.0 && now.since(seen) <= PARTIAL_LASTS).then_some((target, share))
        });
        losing.max_by(|(_, one), (_, other)| one.total_cmp(other))
    }

    fn slowness(&self, facts: Facts<'_>, (from, recent): (Wall, &Seen)) -> Option<(State, Reason)> {
        let factor = if self.raised == Some(State::Slow) { SLOW_CLEAR } else { 1.0 };
        let slower = match self.usual_ms(facts) {
            Some(usual_ms) => slower(recent, usual_ms, factor),
            None => slower_than_before(facts.rings, self.series(), (from, recent), factor),
        };
        slower.map(|slower| (State::Slow, Reason::SlowerThanUsual(slower)))
    }

    /// In the middle of its paths that are heard.
    fn usual_ms(&self, Facts { rings, baselines, policy, now }: Facts<'_>) -> Option<f64> {
        let fresh = self.series().map(|id| rings.get(id)).filter(|ring| now.since(ring.newest) <= policy.stale_after());
        let paths: BTreeSet<_> = fresh.map(|ring| ring.path).collect();
        median(paths.into_iter().filter_map(|path| baselines.usual(path)).map(|usual| usual.p50_ms))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Stale => "stale",
            Self::Slow => "slow",
            Self::Lossy => "lossy",
            Self::Down => "down",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AsUsual => write!(f, "as usual"),
            Self::NoData => write!(f, "nothing measured yet"),
            Self::FewSamples { samples, needed } => write!(f, "{samples} samples, {needed} needed"),
            Self::Silent { since } => write!(f, "no data since {since}"),
            Self::Losing { lost, samples } => write!(f, "{lost} of the last {samples} probes lost"),
            Self::Partial { target, share } => {
                let percent = share * 100.0;
                write!(f, "{percent:.0} % of the source ports to {target} lose: a part of its parallel paths is broken")
            }
            Self::NoReply { targets: 1 } => write!(f, "no reply from its target"),
            Self::NoReply { targets } => write!(f, "no reply from any of its {targets} targets"),
            Self::SlowerThanUsual(Slower { p50_ms, usual_ms }) => {
                write!(f, "p50 {p50_ms:.1} ms, {usual_ms:.1} ms as usual")
            }
        }
    }
}
