//! One ranking and how it may change.
//!
//! It is reviewed once for each closed window, and at once when its first place must be left. The first place changes only
//! - *at once* when its region is down by quorum, has no fresh data while others have, or loses too much, or
//! - *by winning*: a challenger is cheaper by a margin, intervals apart, in several closed windows running, and the first place
//!   has stood long enough.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use telemetry::{RegionName, ServiceName, Wall};

use super::cost::{Cost, wilson_lower};
use super::weights::{self, STEP_EVERY, Weights};
use super::{HintDocument, View, document};
use crate::cells::{Cell, CellKey, State};

/// A window is closed when its last reply could have arrived here.
const GRACE: Duration = Duration::from_secs(2);
/// An order that is wrong by no more than this is left as it is.
const TOLERATED_MS: f64 = 3.0;
/// A region leaves the tier of equals at this multiple of the distance at which it joins.
const TIER_LEAVE: f64 = 2.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    Measured,
    LastKnownGood,
    #[default]
    Prior,
    FailOpen,
}

/// Why a region is not ranked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Exclusion {
    DownByQuorum { down: usize, eligible: usize },
    NoData,
    Stale,
    FewSamples { samples: u64, needed: u64 },
    NoReply,
}

/// Why the first place is the first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub enum Why {
    #[default]
    Nearest,
    Cheapest,
    /// It holds against a cheaper one that has not won yet.
    Holds,
    Won {
        over: RegionName,
        by_ms: f64,
    },
    Left {
        region: RegionName,
        because: String,
    },
    Frozen,
    TooMuchLost,
    SourceIsolated,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Challenger {
    pub region: RegionName,
    pub margin_ms: f64,
    pub wins: u32,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Ranking {
    pub(super) order: Vec<RegionName>,
    pub(super) basis: Basis,
    pub(super) why: Why,
    /// Since when the first place has been the first.
    pub(super) since: Wall,
    pub(super) challenger: Option<Challenger>,
    pub(super) costs: BTreeMap<RegionName, Cost>,
    pub(super) excluded: BTreeMap<RegionName, Exclusion>,
    pub(super) weights: Weights,
    pub(super) version: u64,
    weights_moved: Wall,
    /// The begin of the newest slot that was open at the last review.
    reviewed: Wall,
    /// When anything was last fresh.
    heard: Wall,
    tier: BTreeSet<RegionName>,
    meaning: Option<document::Meaning>,
}

impl Ranking {
    pub(super) fn review(&mut self, view: &View<'_>, source: &RegionName, service: &ServiceName) {
        if self.order.is_empty() {
            self.order = by_distance(view, source, service);
            self.since = view.now;
        }
        let closed = (view.now - GRACE).slot(view.policy.window);
        let emergency = self.must_leave(view, source, service);
        let isolation_changed = view.regions.is_isolated(source) != (self.why == Why::SourceIsolated);
        if closed > self.reviewed || emergency.is_some() || isolation_changed {
            let new_window = closed > self.reviewed;
            self.reviewed = closed;
            self.rank(view, source, service, new_window, emergency);
        }
        let meaning = document::meaning(self, view, service);
        if self.meaning.as_ref() != Some(&meaning) {
            self.meaning = Some(meaning);
            self.version += 1;
        }
    }

    pub(super) fn document(&self, view: &View<'_>, source: &RegionName, service: &ServiceName) -> HintDocument {
        document::write(self, view, source, service)
    }

    /// Why the measured first place cannot stay, if so.
    fn must_leave(&self, view: &View<'_>, source: &RegionName, service: &ServiceName) -> Option<String> {
        let first = self.order.first().filter(|_| self.basis == Basis::Measured)?;
        if view.regions.is_down(service, first) {
            return Some("it is down by quorum".to_owned());
        }
        let recent = &cell(view, source, service, first)?.recent;
        let shown = wilson_lower(recent.lost(), recent.samples());
        let enough = recent.samples() >= view.policy.hints.min_samples && shown > view.policy.hints.emergency_loss;
        // Where the source's other paths lose as well, the fault is near the source, and to move would not help.
        let elsewhere = loss_elsewhere(view, source, service, first);
        (enough && elsewhere < shown / 2.0).then(|| format!("it loses at least {:.0} %", shown * 100.0))
    }

    fn rank(
        &mut self,
        view: &View<'_>,
        source: &RegionName,
        service: &ServiceName,
        new_window: bool,
        emergency: Option<String>,
    ) {
        self.measure(view, source, service);
        if let Some(why) = self.fails_open(view, source, service).filter(|_| self.basis != Basis::Prior) {
            (self.basis, self.why, self.challenger) = (Basis::FailOpen, why, None);
            self.heard = view.now;
            return;
        }
        if self.costs.is_empty() {
            self.wait(view, source, service);
            return;
        }
        self.heard = view.now;
        let warming = self.excluded.values().any(|exclusion| matches!(exclusion, Exclusion::FewSamples { .. }));
        if self.basis == Basis::Prior && warming {
            return;
        }
        self.take_places(view, new_window, emergency);
        self.share(view);
    }

    /// Costs of the eligible regions, and why the others are not.
    fn measure(&mut self, view: &View<'_>, source: &RegionName, service: &ServiceName) {
        self.costs.clear();
        self.excluded.clear();
        for region in view.policy.regions_of(service).into_keys() {
            match eligible(view, source, service, region) {
                Ok(cost) => drop(self.costs.insert(region.clone(), cost)),
                Err(exclusion) => drop(self.excluded.insert(region.clone(), exclusion)),
            }
        }
    }

    /// Nothing is eligible: what was known stands, and says how old it is.
    fn wait(&mut self, view: &View<'_>, source: &RegionName, service: &ServiceName) {
        if self.basis == Basis::Prior {
            return;
        }
        let silence = view.now.since(self.heard);
        if silence >= view.policy.hints.forget_after {
            let version = self.version;
            *self = Self { version, reviewed: self.reviewed, since: view.now, ..Self::default() };
            self.order = by_distance(view, source, service);
        } else if silence >= view.policy.hints.last_known_good_after {
            self.basis = Basis::LastKnownGood;
        }
        self.why = if self.basis == Basis::Prior { Why::Nearest } else { Why::Frozen };
        self.challenger = None;
    }

    /// Measurement alone never takes away more than half of a service's capacity, and a source that sees everything fail
    /// learns nothing about anyone.
    fn fails_open(&self, view: &View<'_>, source: &RegionName, service: &ServiceName) -> Option<Why> {
        if view.regions.is_isolated(source) {
            return Some(Why::SourceIsolated);
        }
        let capacity = |region: &&RegionName| view.policy.capacity(region);
        let whole: f64 = view.policy.regions_of(service).keys().map(capacity).sum();
        let taken = |(_, exclusion): &(&RegionName, &Exclusion)| {
            matches!(exclusion, Exclusion::DownByQuorum { .. } | Exclusion::NoReply)
        };
        let lost: f64 = self.excluded.iter().filter(taken).map(|(region, _)| capacity(&region)).sum();
        (lost > whole / 2.0).then_some(Why::TooMuchLost)
    }

    fn take_places(&mut self, view: &View<'_>, new_window: bool, emergency: Option<String>) {
        let mut sorted: Vec<_> = self.costs.iter().map(|(region, cost)| (region.clone(), cost.ms)).collect();
        sorted.sort_by(|a, b| a.1.total_cmp(&b.1));
        let Some((best, _)) = sorted.first().cloned() else { return };
        let was_measured = self.basis != Basis::Prior;
        let first = self.order.first().cloned().filter(|_| was_measured);
        self.basis = Basis::Measured;
        let (first, why) = match first {
            None => (best, Why::Cheapest),
            Some(first) => match self.excluded.get(&first).map(ToString::to_string).or(emergency) {
                Some(because) if first != best => (best, Why::Left { region: first, because }),
                _ => self.defend(view, first, best, new_window),
            },
        };
        if self.order.first() != Some(&first) || !was_measured {
            (self.since, self.challenger) = (view.now, None);
        }
        self.why = why;
        self.order = self.arrange(first, sorted);
    }

    /// The first place against the cheapest. Wins are counted once for each closed window.
    fn defend(&mut self, view: &View<'_>, first: RegionName, best: RegionName, new_window: bool) -> (RegionName, Why) {
        let hints = &view.policy.hints;
        if best == first {
            self.challenger = None;
            let why =
                if matches!(self.why, Why::Won { .. } | Why::Left { .. }) { self.why.clone() } else { Why::Cheapest };
            return (first, why);
        }
        let (Some(held), Some(offer)) = (self.costs.get(&first), self.costs.get(&best)) else {
            return (first, Why::Holds);
        };
        let margin_ms = held.ms - offer.ms;
        let apart = matches!((held.interval_ms, offer.interval_ms), (Some([low, _]), Some([_, high])) if high < low);
        let wins = margin_ms >= hints.margin_ms.max(held.ms * hints.margin_ratio) && apart;
        let before = self.challenger.take().filter(|challenger| challenger.region == best).map_or(0, |it| it.wins);
        let wins = match (wins, new_window) {
            (true, true) => before + 1,
            (true, false) => before,
            (false, _) => 0,
        };
        if wins >= hints.wins && view.now.since(self.since) >= hints.dwell {
            return (best, Why::Won { over: first, by_ms: margin_ms });
        }
        self.challenger = Some(Challenger { region: best, margin_ms, wins });
        (first, Why::Holds)
    }

    /// The first, then the others by cost. The standing order is kept where it is not wrong by more than is worth a change.
    fn arrange(&self, first: RegionName, sorted: Vec<(RegionName, f64)>) -> Vec<RegionName> {
        let cost = |region: &RegionName| self.costs.get(region).map_or(f64::INFINITY, |cost| cost.ms);
        let stands: Vec<_> =
            self.order.iter().filter(|region| **region != first && self.costs.contains_key(*region)).collect();
        let complete = stands.len() + 1 == sorted.len();
        let mut dearest = f64::NEG_INFINITY;
        let ordered = stands.iter().all(|region| {
            let fits = cost(region) > dearest - TOLERATED_MS;
            dearest = dearest.max(cost(region));
            fits
        });
        let rest: Vec<RegionName> = if complete && ordered {
            stands.into_iter().cloned().collect()
        } else {
            sorted.into_iter().map(|(region, _)| region).filter(|region| *region != first).collect()
        };
        std::iter::once(first).chain(rest).collect()
    }

    /// Equals share by capacity; shares move slowly, except away from a region that had to be left.
    fn share(&mut self, view: &View<'_>) {
        let Some(first) = self.order.first().cloned() else { return };
        let Some(base) = self.costs.get(&first).map(|cost| cost.ms) else { return };
        let tier_ms = view.policy.hints.tier_ms;
        let near = |region: &RegionName, cost: &Cost| {
            let reach = if self.tier.contains(region) { tier_ms * TIER_LEAVE } else { tier_ms };
            *region == first || (cost.ms - base).abs() <= reach
        };
        let near = self.costs.iter().filter(|(region, cost)| near(region, cost)).map(|(region, _)| region.clone());
        let tier: BTreeSet<_> = near.collect();
        let goal = weights::by_capacity(tier.iter().map(|region| (region, view.policy.capacity(region))));
        self.tier = tier;
        let left = |region: &RegionName| match &self.why {
            Why::Left { region: from, .. } => from == region,
            _ => false,
        };
        if self.weights.is_empty() {
            (self.weights, self.weights_moved) = (goal, view.now);
        } else if self.weights.keys().any(|region| left(region) || !self.costs.contains_key(region)) {
            let stays = |region: &RegionName| !left(region) && self.costs.contains_key(region);
            self.weights = weights::without_lost(&self.weights, &goal, stays);
        } else if view.now.since(self.weights_moved) >= STEP_EVERY {
            (self.weights, self.weights_moved) = (weights::step(&self.weights, &goal), view.now);
        }
    }
}

fn eligible(
    view: &View<'_>,
    source: &RegionName,
    service: &ServiceName,
    region: &RegionName,
) -> Result<Cost, Exclusion> {
    if let Some(health) = view.regions.get(service, region).filter(|_| view.regions.is_down(service, region)) {
        return Err(Exclusion::DownByQuorum { down: health.down, eligible: health.eligible });
    }
    let cell = cell(view, source, service, region).ok_or(Exclusion::NoData)?;
    if cell.state == State::Stale {
        return Err(Exclusion::Stale);
    }
    let (hints, series) = (&view.policy.hints, cell.series());
    let from = (view.now - hints.lookback).slot(view.policy.window);
    let samples = view.rings.merge(series.iter().copied(), from, Wall(u64::MAX)).samples();
    if samples < hints.min_samples {
        return Err(Exclusion::FewSamples { samples, needed: hints.min_samples });
    }
    if cell.state == State::Down {
        return Err(Exclusion::NoReply);
    }
    Cost::of(view.rings, &series, view.policy, view.now).ok_or(Exclusion::NoReply)
}

fn cell<'a>(view: &View<'a>, source: &RegionName, service: &ServiceName, region: &RegionName) -> Option<&'a Cell> {
    view.cells.get(&CellKey { service: service.clone(), source: source.clone(), region: region.clone() })
}

/// The loss that all regions but one show to a source.
fn loss_elsewhere(view: &View<'_>, source: &RegionName, service: &ServiceName, but: &RegionName) -> f64 {
    let others = view.cells.of_service(service).filter(|(key, _)| key.source == *source && key.region != *but);
    let (lost, samples) =
        others.fold((0, 0), |sum, (_, cell)| (sum.0 + cell.recent.lost(), sum.1 + cell.recent.samples()));
    wilson_lower(lost, samples)
}

/// The static order: the nearest first, by great circle.
fn by_distance(view: &View<'_>, source: &RegionName, service: &ServiceName) -> Vec<RegionName> {
    let regions = view.policy.regions_of(service);
    let mut order: Vec<_> =
        regions.into_keys().map(|region| (view.policy.distance_km(source, region), region.clone())).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
    order.into_iter().map(|(_, region)| region).collect()
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DownByQuorum { down, eligible } => write!(f, "down: {down} of {eligible} sources get no reply"),
            Self::NoData => write!(f, "not measured from here"),
            Self::Stale => write!(f, "no fresh data"),
            Self::FewSamples { samples, needed } => write!(f, "{samples} samples, {needed} needed"),
            Self::NoReply => write!(f, "no reply from here"),
        }
    }
}
