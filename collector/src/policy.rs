//! What the collector judges by: the part of its configuration that decisions depend on. It is written into the log, so that a
//! replay needs nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use telemetry::emodel::{Codec, Mos};
use telemetry::geo::Coordinates;
use telemetry::{Name, ReceiverName, RegionName, Series, ServiceName, TargetId};
use utoipa::ToSchema;

/// The probe whose packets travel as a call's do.
const VOICE: &str = "voice";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// The width of a window.
    pub window: Duration,
    pub regions: BTreeMap<RegionName, Region>,
    pub services: BTreeMap<ServiceName, Service>,
    pub targets: BTreeMap<TargetId, Target>,
    pub health: HealthPolicy,
    pub hints: HintPolicy,
    /// What calls are coded with.
    pub codec: Codec,
    pub receivers: BTreeMap<ReceiverName, Receiver>,
    pub bounds: Bounds,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Region {
    pub at: Coordinates,
    /// How much of a service this region can carry, in any unit, the same for all.
    pub capacity: f64,
    /// How many people stand behind it.
    pub users: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    pub primary: Primary,
    pub mode: Mode,
}

/// The one measurement that drives a service's cells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Primary {
    pub probe: Name,
    pub phase: Name,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Shown, not served to routers.
    Shadow,
    Advise,
    Enforce,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    pub service: ServiceName,
    pub region: RegionName,
    /// What routers are told.
    pub advertise: Vec<String>,
}

/// Beyond which nothing new is kept. In the log with the rest, so that a replay refuses the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    pub agents: usize,
    pub series_per_agent: usize,
}

/// Who hears alerts, without what it takes to reach them: that stays out of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receiver {
    /// A hash of its URL: another URL is another endpoint.
    pub endpoint: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HealthPolicy {
    /// How far back a cell's numbers look.
    pub recent: Duration,
    /// Fewer samples than this in `recent` are unknown.
    pub min_samples: u64,
    /// After how many windows without data a cell is stale.
    pub stale_windows: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HintPolicy {
    /// How far back costs look.
    pub lookback: Duration,
    /// Fewer samples than this in `lookback` do not make a region eligible.
    pub min_samples: u64,
    /// A challenger must be cheaper by this and by `margin_ratio`, whichever is more.
    pub margin_ms: f64,
    pub margin_ratio: f64,
    /// In so many disjoint closed windows, one after the other.
    pub wins: u32,
    /// How long a first place stands before it may be challenged.
    pub dwell: Duration,
    /// Loss of the first place, by its lower bound, above which it is left at once.
    pub emergency_loss: f64,
    /// Regions whose cost is this close to the first are its equals.
    pub tier_ms: f64,
    /// Until when silence only freezes the ranking; then it is `last_known_good`; after `forget`, the static order.
    pub last_known_good_after: Duration,
    pub forget_after: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { agents: 10_000, series_per_agent: 50_000 }
    }
}

impl Default for HealthPolicy {
    fn default() -> Self {
        Self { recent: Duration::from_secs(30), min_samples: 5, stale_windows: 3 }
    }
}

impl Default for HintPolicy {
    fn default() -> Self {
        Self {
            lookback: Duration::from_mins(5),
            min_samples: 30,
            margin_ms: 5.0,
            margin_ratio: 0.10,
            wins: 3,
            dwell: Duration::from_mins(10),
            emergency_loss: 0.05,
            tier_ms: 5.0,
            last_known_good_after: Duration::from_mins(15),
            forget_after: Duration::from_hours(24),
        }
    }
}

impl Policy {
    /// How a call over that path would sound, where the probe measures as calls travel.
    pub fn mos(&self, probe: &Name, rtt_ms: f64, jitter_ms: f64, loss: f64) -> Option<Mos> {
        let [rtt, jitter] = [rtt_ms, jitter_ms].map(|ms| Duration::from_secs_f64(ms / 1e3));
        (probe.as_str() == VOICE).then(|| self.codec.mos(rtt, jitter, loss))
    }

    /// Whether it drives its cell.
    pub fn is_primary(&self, series: &Series) -> bool {
        let primary = self.services.get(&series.service).map(|service| &service.primary);
        primary.is_some_and(|it| it.probe == series.probe && it.phase == series.phase)
    }

    /// After so long without data a cell is stale: the missed windows, and the time in which the last of them could arrive.
    pub fn stale_after(&self) -> Duration {
        self.window * self.health.stale_windows + self.window / 2
    }

    /// The regions that have this service, with what routers are told of each.
    pub fn regions_of(&self, service: &ServiceName) -> BTreeMap<&RegionName, Vec<&str>> {
        let mut regions: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for target in self.targets.values().filter(|target| target.service == *service) {
            regions.entry(&target.region).or_default().extend(target.advertise.iter().map(String::as_str));
        }
        regions
    }

    /// The share of a service's capacity that each of its regions holds is by this number.
    pub fn capacity(&self, region: &RegionName) -> f64 {
        self.regions.get(region).map_or(1.0, |region| region.capacity)
    }

    pub fn distance_km(&self, from: &RegionName, to: &RegionName) -> f64 {
        match (self.regions.get(from), self.regions.get(to)) {
            (Some(from), Some(to)) => from.at.distance_km(to.at),
            _ => f64::INFINITY,
        }
    }
}
