//! One ranking and how it may change.
//!
//! It is reviewed once for each closed window, and at once when its first place must be left. The first place changes only
//! - *at once* when its region is down by quorum or loses too much,
//! - *at the next review* when it can no longer be ranked while others can, or
//! - *by winning*: a challenger is cheaper by a margin, intervals apart, in several closed windows running, and the first place
//!   has stood long enough.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use telemetry::{RegionName, ServiceName, Wall};
use utoipa::ToSchema;

use super::cost::{Cost, wilson_lower};
use super::eligibility::{Exclusion, by_distance, cell, eligible, loss_elsewhere};
use super::weights::{self, STEP_EVERY, Weights};
use super::{HintDocument, View, document};

/// A window is closed when its last reply could have arrived here.
const GRACE: Duration = Duration::from_secs(2);
/// An order that is wrong by no more than this is left as it is.
const TOLERATED_MS: f64 = 3.0;
/// A region leaves the tier of equals at this multiple of the distance at which it joins.
const TIER_LEAVE: f64 = 2.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    Measured,
    LastKnownGood,
    #[default]
    Prior,
    FailOpen,
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
    /// Whether it ever stood on measurements of this source.
    measured: bool,
    /// When anything was first and last fresh.
    first_heard: Wall,
    heard: Wall,
    tier: BTreeSet<RegionName>,
    meaning: Option<document::Meaning>,
}

impl Ranking {
    pub(super) fn review(&mut self, view: &View<'_>, source: &RegionName, service: &ServiceName) {
        self.follow_policy(view, source, service);
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

    /// Only regions that have the service now; before anything was measured, all of them, the nearest first.
    fn follow_policy(&mut self, view: &View<'_>, source: &RegionName, service: &ServiceName) {
        let regions = view.policy.regions_of(service);
        let first = self.order.first().cloned();
        self.order.retain(|region| regions.contains_key(region));
        if self.order.is_empty() || !self.measured {
            self.order = by_distance(view, source, service);
            self.step_back(view, service);
        }
        if self.order.first() != first.as_ref() {
            self.since = view.now;
        }
        self.give_up_weights(|region| !regions.contains_key(region));
    }

    /// Nothing fresh is known from here, but others see: what they see down by quorum goes behind the rest.
    fn step_back(&mut self, view: &View<'_>, service: &ServiceName) {
        let is_down = |region: &RegionName| view.regions.is_down(service, region);
        let capacity = |regions: &mut dyn Iterator<Item = &RegionName>| -> f64 {
            regions.map(|it| view.policy.capacity(it)).sum()
        };
        let (down, whole) =
            (capacity(&mut self.order.iter().filter(|it| is_down(it))), capacity(&mut self.order.iter()));
        let Some(first) = self.order.first().cloned().filter(|_| down > 0.0 && down <= whole / 2.0) else { return };
        self.order.sort_by_key(is_down);
        if self.order.first() != Some(&first) {
            self.since = view.now;
            self.why = Why::Left { region: first, because: "it is down by quorum".to_owned() };
        }
        self.give_up_weights(is_down);
    }

    /// The shares of regions that are left go to the first place.
    fn give_up_weights(&mut self, left: impl Fn(&RegionName) -> bool) {
        if let Some(first) = self.order.first().filter(|_| self.weights.keys().any(&left)) {
            let goal = Weights::from([(first.clone(), weights::WHOLE)]);
            self.weights = weights::without_lost(&self.weights, &goal, |region| !left(region));
        }
    }

    /// Why the measured first place cannot stay, if so.
    fn must_leave(&self, view: &View<'_>, source: &RegionName, service: &ServiceName) -> Option<String> {
        let first = self.order.first().filter(|_| self.basis == Basis::Measured)?;
        if view.regions.is_down(service, first) {
            return Some("it is down by quorum".to_owned());
        }
        let recent = &cell(view, source, service, first)?.recent;
        let shown = wilson_lower(recent.lost(), recent.samples());
        let hints = &view.policy.hints;
        let enough = recent.samples() >= hints.min_samples / 2 && shown > hints.emergency_loss;
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
        if let Some(why) = self.fails_open(view, source, service) {
            (self.basis, self.why, self.challenger) = (Basis::FailOpen, why, None);
            self.heard = view.now;
            return;
        }
        if self.costs.is_empty() || self.is_warming(view) {
            self.wait(view, source, service);
            return;
        }
        self.heard = view.now;
        let left = self.take_places(view, new_window, emergency);
        self.share(view, left.as_ref());
    }

    /// Before the first measured order all regions that are probed get the time to gather samples, so that the quickest to do
    /// so is not taken for the best.
    fn is_warming(&mut self, view: &View<'_>) -> bool {
        if self.first_heard == Wall::default() {
            self.first_heard = view.now;
        }
        let gathering = self.excluded.values().any(|exclusion| matches!(exclusion, Exclusion::FewSamples { .. }));
        !self.measured && gathering && view.now.since(self.first_heard) < view.policy.hints.lookback
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
        self.challenger = None;
        if !self.measured {
            self.basis = Basis::Prior;
            if !matches!(self.why, Why::Left { .. }) {
                self.why = Why::Nearest;
            }
            return;
        }
        let silence = view.now.since(self.heard);
        if silence >= view.policy.hints.forget_after {
            let (version, meaning) = (self.version, self.meaning.take());
            *self = Self { version, meaning, reviewed: self.reviewed, ..Self::default() };
            self.follow_policy(view, source, service);
            return;
        }
        self.basis = if silence >= view.policy.hints.last_known_good_after { Basis::LastKnownGood } else { self.basis };
        self.why = Why::Frozen;
        self.step_back(view, service);
    }

    /// Measurement alone never takes away more than half of a service's capacity, and a source that sees everything fail
    /// learns nothing about anyone.
    fn fails_open(&self, view: &View<'_>, source: &RegionName, service: &ServiceName) -> Option<Why> {
        if view.regions.is_isolated(source) {
            return Some(Why::SourceIsolated);
        }
        let capacity = |region: &&RegionName| view.policy.capacity(region);
        let whole: f64 = view.policy.regions_of(service).keys().map(capacity).sum();
        let some_are_fresh = !self.costs.is_empty();
        let taken = |(_, exclusion): &(&RegionName, &Exclusion)| match exclusion {
            Exclusion::DownByQuorum { .. } | Exclusion::NoReply => true,
            Exclusion::Stale => some_are_fresh,
            Exclusion::NoData | Exclusion::FewSamples { .. } => false,
        };
        let lost: f64 = self.excluded.iter().filter(taken).map(|(region, _)| capacity(&region)).sum();
        (lost > whole / 2.0).then_some(Why::TooMuchLost)
    }

    /// Answers the region that had to be left, if one had.
    fn take_places(&mut self, view: &View<'_>, new_window: bool, emergency: Option<String>) -> Option<RegionName> {
        let mut sorted: Vec<_> = self.costs.iter().map(|(region, cost)| (region.clone(), cost.ms)).collect();
        sorted.sort_by(|a, b| a.1.total_cmp(&b.1));
        let (best, _) = sorted.first().cloned()?;
        let first = self.order.first().cloned().filter(|_| self.measured);
        let (before, was_measured) = (first.clone(), std::mem::replace(&mut self.measured, true));
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
        let left = before.filter(|before| *before != first && matches!(why, Why::Left { .. }));
        self.why = why;
        self.order = self.arrange(first, sorted);
        left
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
    fn share(&mut self, view: &View<'_>, left: Option<&RegionName>) {
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
        if self.weights.is_empty() {
            (self.weights, self.weights_moved) = (goal, view.now);
        } else if !self.weights.keys().all(|region| self.stays(region, left)) {
            let stays = |region: &RegionName| self.stays(region, left);
            self.weights = weights::without_lost(&self.weights, &goal, stays);
        } else if view.now.since(self.weights_moved) >= STEP_EVERY {
            (self.weights, self.weights_moved) = (weights::step(&self.weights, &goal), view.now);
        }
    }

    fn stays(&self, region: &RegionName, left: Option<&RegionName>) -> bool {
        left != Some(region) && self.costs.contains_key(region)
    }
}
