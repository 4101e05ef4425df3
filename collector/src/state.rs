//! What the collector *is*.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use telemetry::{RegionName, Standing, Wall};

use crate::agents::Agents;
use crate::alerts::Alerts;
use crate::baselines::Baselines;
use crate::cells::{Cells, Facts};
use crate::certificates::{Certificates, Kept};
use crate::clocks::{MOVED, Offset};
use crate::entry::{Attempt, Batch, Entry, LosingPorts, Point};
use crate::hints::{HintDocument, Hints, View};
use crate::log_clock::LogClock;
use crate::policy::{Bounds, Policy};
use crate::regions::Regions;
use crate::rings::{Added, Once, Rings, SeriesId, slot_of};
use crate::sequences::{Counted, Sequences, Stamps};

/// Everything the collector has concluded, and nothing else. A pure fold of the log: no clock, no I/O, no randomness.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct State {
    /// When the log began, or was restored from a backup: a new data directory is a new epoch.
    pub epoch: Wall,
    /// The newest mark, by the log's clock.
    pub now: Wall,
    pub clock: LogClock,
    pub policy: Option<Arc<Policy>>,
    pub sequences: Sequences,
    pub agents: Agents,
    pub certificates: Certificates,
    pub rings: Rings,
    pub baselines: Baselines,
    pub cells: Cells,
    pub regions: Regions,
    pub hints: Hints,
    pub alerts: Alerts,
    pub tally: Tally,
}

/// What was not taken, and why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub batches: u64,
    pub repeated_batches: u64,
    /// Of boots that are over, and that may have been counted.
    pub retired_batches: u64,
    pub points: u64,
    /// Counted before, in batches without a name.
    pub repeated_points: u64,
    /// Older than the rings keep: of our own batches they are history, and of nothing else.
    pub late_points: u64,
    /// Ahead of the collector's clock, in batches without a name.
    pub early_points: u64,
    /// Of new series beyond the bounds.
    pub beyond_points: u64,
    pub beyond_certificates: u64,
    /// Of agents whose clock is off: moved to where they belong.
    pub moved_points: u64,
}

/// What the world may learn once the entry's position is durable.
#[derive(Debug, Clone)]
pub enum Effect {
    Hint(Arc<HintDocument>),
    /// Rows came into the outbox, or one of them was answered.
    Outbox,
}

/// A point that history takes, on our clock, and the slot it belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Taken<'a> {
    pub id: SeriesId,
    pub slot: Wall,
    pub point: &'a Point,
}

/// An agent's spool keeps its batches for a day; what claims to be older than twice that is refused.
const BACKLOG: Duration = Duration::from_hours(48);

/// Hears of each point that is taken. Nothing comes back from it.
pub type Tell<'a> = &'a mut dyn FnMut(Taken<'_>);

impl State {
    pub fn apply(&mut self, entry: &Entry) -> Vec<Effect> {
        self.fold(entry, &mut |_| {})
    }

    /// The same, and tells what history takes: what is counted, and of our own batches also what comes too late for the rings.
    pub fn fold(&mut self, entry: &Entry, tell: Tell<'_>) -> Vec<Effect> {
        match entry {
            Entry::Batch(batch) => self.absorb(batch, tell),
            Entry::Config { at, policy } => self.adopt(*at, policy),
            Entry::Mark { now } => self.judge(*now),
            Entry::Attempt(attempt) => {
                let attempt = Attempt { at: self.clock.read(attempt.at), ..attempt.clone() };
                self.alerts.outbox.learn(&attempt, self.epoch);
                vec![Effect::Outbox]
            }
            Entry::Restored { at } => {
                // Versions, alerts and messages that came after the backup are known outside under the epoch before.
                self.epoch = *at;
                Vec::new()
            }
        }
    }

    /// Every source that is known: from the configuration, or by its data.
    pub fn sources(&self) -> Vec<RegionName> {
        let configured = self.policy.iter().flat_map(|policy| policy.regions.keys());
        let seen = self.cells.iter().map(|(key, _)| &key.source);
        let all: std::collections::BTreeSet<_> = configured.chain(seen).collect();
        all.into_iter().cloned().collect()
    }

    fn absorb(&mut self, batch: &Batch, tell: Tell<'_>) -> Vec<Effect> {
        let once = if batch.origin.is_some() { Once::ByBatch } else { Once::ByPoint };
        let received = self.clock.read(batch.received);
        let stamps = Stamps { made: batch.made(), received };
        let counted = batch.origin.as_ref().map_or(Counted::First, |origin| self.sequences.count(origin, stamps));
        match counted {
            Counted::First => self.tally.batches += 1,
            Counted::Repeated => self.tally.repeated_batches += 1,
            Counted::Retired => self.tally.retired_batches += 1,
        }
        if counted != Counted::First {
            return Vec::new();
        }
        let bounds = self.policy.as_ref().map_or_else(Bounds::default, |policy| policy.bounds);
        for report in &batch.reports {
            self.agents.heard(report, received, bounds.agents);
            for gap in &report.vitals.gaps {
                self.sequences.lose(&report.agent, *gap);
            }
        }
        // What is further ahead would hide what comes after it.
        let latest = self.clock.latest(batch.received) + MOVED;
        let batch = self.on_our_clock(batch, received);
        for certificate in batch.certificates.iter().filter(|it| it.seen <= latest) {
            if self.certificates.shown(certificate, bounds) == Kept::Beyond {
                self.tally.beyond_certificates += 1;
            }
        }
        let Some(policy) = self.policy.clone() else { return Vec::new() };
        for point in &batch.points {
            let ahead = point.end > latest;
            if ahead && once == Once::ByPoint {
                self.tally.early_points += 1;
                continue;
            }
            // Measured before its agent's clock was set back, and sent after.
            let point = if ahead {
                self.tally.moved_points += 1;
                Cow::Owned(at_latest(point, received, policy.window))
            } else {
                Cow::Borrowed(point)
            };
            // A backlog older than what a judgement would look at is history, and so is what comes from nobody knows when.
            let news = !ahead && point.end + policy.stale_after() > self.now.max(received);
            if let Some(id) = self.absorb_point(&point, (received, news), once, &policy) {
                tell(Taken { id, slot: slot_of(&point, policy.window), point: &point });
            }
        }
        for LosingPorts { series, share, seen } in &batch.losing_ports {
            if *seen <= latest && policy.is_primary(series) {
                self.cells.lose_ports(series, *share, *seen);
            }
        }
        Vec::new()
    }

    /// An agent's own batch, moved where that agent's clock is far off.
    fn on_our_clock<'a>(&mut self, batch: &'a Batch, received: Wall) -> Cow<'a, Batch> {
        let Some((origin, policy)) = batch.origin.as_ref().zip(self.policy.as_ref()) else {
            return Cow::Borrowed(batch);
        };
        let own = batch.reports.iter().find(|report| report.agent == origin.agent);
        let offset = own.and_then(|report| {
            self.clock.hear(&report.agent, report.vitals.at?, batch.received);
            if self.clock.is_unsure(batch.received) {
                return self.agents.correct_as_before(&report.agent, policy.window);
            }
            self.agents.correct(report, received, policy.window)
        });
        let Some(offset) = offset else { return Cow::Borrowed(batch) };
        self.tally.moved_points += batch.points.len() as u64;
        Cow::Owned(moved(batch, offset))
    }

    /// The series, if history takes the point.
    fn absorb_point(
        &mut self,
        point: &Point,
        (received, news): (Wall, bool),
        once: Once,
        policy: &Policy,
    ) -> Option<SeriesId> {
        match self.rings.add(point, policy.window, once, policy.bounds) {
            Added::Beyond => self.tally.beyond_points += 1,
            Added::Repeated => self.tally.repeated_points += 1,
            Added::Late(id) => {
                self.tally.late_points += 1;
                // Without a batch's name nobody knows whether it was counted before.
                let taken = once == Once::ByBatch && received.since(point.begin) <= BACKLOG;
                return taken.then_some(id);
            }
            Added::Counted(id) => {
                self.tally.points += 1;
                let primary = policy.is_primary(&point.series);
                match point.series.standing {
                    Standing::Regular if primary => self.cells.weigh(id, point, news),
                    Standing::Regular => self.cells.accompany(id, &point.series),
                    Standing::Confirming if primary && news => self.cells.confirm(point),
                    Standing::Confirming | Standing::Suspect => {}
                }
                return Some(id);
            }
        }
        None
    }

    fn adopt(&mut self, at: Wall, policy: &Arc<Policy>) -> Vec<Effect> {
        if self.epoch == Wall::default() {
            self.epoch = at;
        }
        self.policy = Some(Arc::clone(policy));
        self.alerts.adopt(policy);
        Vec::new()
    }

    /// What is usual first, then cells, then regions, then hints and alerts, each from the one before.
    fn judge(&mut self, now: Wall) -> Vec<Effect> {
        let Some(policy) = self.policy.clone() else { return Vec::new() };
        let patience = policy.stale_after();
        let voters = self.agents.heard_since(self.now - patience);
        self.clock.mark(now, voters, patience);
        self.now = self.clock.now();
        self.baselines.learn(&self.rings, &policy, self.now);
        let Self { rings, baselines, cells, now, .. } = self;
        cells.judge(Facts { rings, baselines, policy: &policy, now: *now });
        self.regions.judge(&self.cells, &policy, self.now);
        let sources = self.sources();
        let mut hints = std::mem::take(&mut self.hints);
        hints.rank(&self.view(&policy), &sources);
        self.hints = hints;
        let told = self.alerts.judge(self.regions.iter(), &policy, self.now);
        self.hints().into_iter().chain(told.then_some(Effect::Outbox)).collect()
    }

    /// Every hint as it stands.
    pub fn hints(&self) -> Vec<Effect> {
        let Some(policy) = &self.policy else { return Vec::new() };
        self.hints.documents(&self.view(policy)).map(Arc::new).map(Effect::Hint).collect()
    }

    fn view<'a>(&'a self, policy: &'a Policy) -> View<'a> {
        let Self { epoch, now, rings, cells, regions, .. } = self;
        View { epoch: *epoch, now: *now, policy, rings, cells, regions }
    }
}

fn moved(batch: &Batch, offset: Offset) -> Batch {
    let mut batch = batch.clone();
    batch.points.iter_mut().for_each(|point| point.move_by(offset));
    let certificates = batch.certificates.iter_mut().map(|it| &mut it.seen);
    for seen in certificates.chain(batch.losing_ports.iter_mut().map(|it| &mut it.seen)) {
        *seen = offset.applied_to(*seen);
    }
    batch
}

/// Moved back until it ends by then.
fn at_latest(point: &Point, end: Wall, window: Duration) -> Point {
    let mut point = point.clone();
    point.move_by(Offset::between(end, point.end).rounded_down(window));
    point
}
