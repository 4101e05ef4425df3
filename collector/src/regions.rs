//! The health of a service in a region: a quorum of the sources that see it.
//!
//! A source that sees nearly everything fail while others do not is itself the cause; it does not vote.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use telemetry::{RegionName, ServiceName, Wall};
use utoipa::ToSchema;

use crate::cells::{Cell, CellKey, Cells, State};
use crate::policy::Policy;

/// From this share of its cells on a source is suspected itself, if it has at least so many.
const ISOLATED_SHARE: f64 = 0.8;
const ISOLATED_CELLS: usize = 3;
/// Below this share of bad vantages a region is healthy: a few bad paths are the paths' fault.
const DEGRADED_SHARE: f64 = 0.18;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    Healthy,
    Degraded,
    Down,
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegionHealth {
    pub health: Health,
    pub since: Wall,
    /// Sources that may vote, and those of them that see something wrong, and that see it down.
    pub eligible: usize,
    pub bad: usize,
    pub down: usize,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Regions {
    all: BTreeMap<(ServiceName, RegionName), RegionHealth>,
    isolated: BTreeSet<RegionName>,
}

impl Regions {
    pub fn judge(&mut self, cells: &Cells, policy: &Policy, now: Wall) {
        self.isolated = isolated(cells);
        for service in policy.services.keys() {
            let mut votes: BTreeMap<&RegionName, Vec<State>> =
                policy.regions_of(service).into_keys().map(|region| (region, Vec::new())).collect();
            for (CellKey { source, region, .. }, cell) in cells.of_service(service) {
                let vote = votes.entry(region).or_default();
                if cell.state.is_known() && !self.isolated.contains(source) {
                    vote.push(cell.state);
                }
            }
            for (region, votes) in votes {
                let judged = quorum(&votes, now);
                let stands = self.all.entry((service.clone(), region.clone())).or_insert_with(|| judged.clone());
                let since = if stands.health == judged.health { stands.since } else { now };
                *stands = RegionHealth { since, ..judged };
            }
        }
    }

    pub fn get(&self, service: &ServiceName, region: &RegionName) -> Option<&RegionHealth> {
        self.all.get(&(service.clone(), region.clone()))
    }

    pub fn is_down(&self, service: &ServiceName, region: &RegionName) -> bool {
        self.get(service, region).is_some_and(|region| region.health == Health::Down)
    }

    /// Whether a source sees nearly everything fail that others see well.
    pub fn is_isolated(&self, source: &RegionName) -> bool {
        self.isolated.contains(source)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&ServiceName, &RegionName, &RegionHealth)> {
        self.all.iter().map(|((service, region), health)| (service, region, health))
    }
}

/// Down: a majority, and at least two where there are two. Degraded: more than a few.
fn quorum(votes: &[State], now: Wall) -> RegionHealth {
    let eligible = votes.len();
    let bad = votes.iter().filter(|state| state.is_bad()).count();
    let down = votes.iter().filter(|state| **state == State::Down).count();
    let enough = eligible.min(2);
    let health = if eligible == 0 {
        Health::Unknown
    } else if down >= enough && down * 2 > eligible {
        Health::Down
    } else if bad >= enough && bad as f64 / eligible as f64 > DEGRADED_SHARE {
        Health::Degraded
    } else {
        Health::Healthy
    };
    RegionHealth { health, since: now, eligible, bad, down }
}

fn isolated(cells: &Cells) -> BTreeSet<RegionName> {
    let mut sources: BTreeMap<&RegionName, (usize, usize)> = BTreeMap::new();
    let failing = |cell: &Cell| matches!(cell.state, State::Lossy | State::Down);
    for (key, cell) in cells.iter().filter(|(_, cell)| cell.state.is_known()) {
        let (bad, all) = sources.entry(&key.source).or_default();
        *bad += usize::from(failing(cell));
        *all += 1;
    }
    let (bad_everywhere, all_everywhere) = sources.values().fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
    let suspect = |&(bad, all): &(usize, usize)| {
        let others_bad = (bad_everywhere - bad) as f64;
        let others_all = (all_everywhere - all) as f64;
        all >= ISOLATED_CELLS && bad as f64 >= ISOLATED_SHARE * all as f64 && others_bad < 0.5 * others_all
    };
    sources.iter().filter(|(_, count)| suspect(count)).map(|(source, _)| (*source).clone()).collect()
}

impl fmt::Display for RegionHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { health, eligible, bad, down, .. } = self;
        match health {
            Health::Healthy if *bad == 0 => write!(f, "all {eligible} sources see it well"),
            Health::Healthy => write!(f, "{bad} of {eligible} sources see it badly, too few to blame the region"),
            Health::Degraded => write!(f, "{bad} of {eligible} sources see it slow, lossy or down"),
            Health::Down => write!(f, "{down} of {eligible} sources get no reply"),
            Health::Unknown => write!(f, "no source has fresh data"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(votes: &[State]) -> Health {
        quorum(votes, Wall::default()).health
    }

    #[test]
    fn a_majority_brings_a_region_down_and_one_of_many_does_not() {
        use State::{Down, Lossy, Ok};
        assert_eq!(health(&[]), Health::Unknown);
        assert_eq!(health(&[Down]), Health::Down);
        assert_eq!(health(&[Down, Ok]), Health::Healthy);
        assert_eq!(health(&[Down, Down, Ok]), Health::Down);
        assert_eq!(health(&[Down, Lossy, Ok, Ok]), Health::Degraded);
        assert_eq!(health(&[Lossy, Ok, Ok, Ok, Ok, Ok]), Health::Healthy);
    }
}
