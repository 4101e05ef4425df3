//! A fault as it is asked for, and what is wrong with it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use telemetry::RegionName;

use super::{Harm, Reach};
use crate::model::{Mode, Planet, RegionNo, Service, Target, TargetNo};

/// A fault as it is asked for and shown.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Nothing goes to the region or comes from it; where packets are routed, its agents' reports neither.
    RegionDown {
        region: String,
    },
    ServiceDown {
        region: String,
        service: String,
    },
    TargetDown {
        target: String,
    },
    /// Packets of that source to every target, its own region's included; its reports to the collector and others' packets to its
    /// targets are not touched.
    Uplink {
        region: String,
        loss: f64,
        extra_ms: f64,
    },
    /// Packets of that source to the targets of that region.
    Pair {
        from: String,
        to: String,
        loss: f64,
        extra_ms: f64,
    },
    Slow {
        region: String,
        service: String,
        extra_ms: f64,
    },
    /// Down for the first half of each period, up for the second.
    Flap {
        target: String,
        period_s: f64,
    },
    /// The region's CDN edge keeps nothing and asks the origin each time.
    ColdCache {
        region: String,
    },
    /// That share of flows, by their addresses and ports, goes over a leg that loses everything.
    EcmpLeg {
        from: String,
        to: String,
        share: f64,
    },
    /// The way is longer, and nothing is lost.
    RouteChange {
        from: String,
        to: String,
        extra_ms: f64,
    },
    /// The region's agents do not reach the collector, and measure on.
    AgentPartition {
        region: String,
    },
}

/// Why a fault was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    Shape(String),
    #[error("no region {name}; known: {known}")]
    UnknownRegion { name: String, known: String },
    #[error("no target {name}; known: {known}")]
    UnknownTarget { name: String, known: String },
    #[error("no {service} in {region}; known: {known}")]
    UnknownService { service: String, region: RegionName, known: String },
    #[error("{kind} is felt where packets are routed; this planet runs with --mode loopback")]
    RouterOnly { kind: &'static str },
    #[error("{what} is {found}; allowed: 0 to 1")]
    Share { what: &'static str, found: f64 },
    #[error("extra_ms is {found}; allowed: 0 to {MAX_EXTRA_MS}")]
    Extra { found: f64 },
    #[error("period_s is {found}; allowed: {MIN_PERIOD_S} to {MAX_PERIOD_S}")]
    Period { found: f64 },
}

const MAX_EXTRA_MS: f64 = 60_000.0;
const MIN_PERIOD_S: f64 = 0.1;
const MAX_PERIOD_S: f64 = 86_400.0;

impl Request {
    /// Whom it reaches, and how.
    pub(super) fn resolve(&self, planet: &Planet) -> Result<(Reach, Harm), Refusal> {
        if let (Mode::Loopback, Some(kind)) = (planet.mode(), self.kind_of_routers()) {
            return Err(Refusal::RouterOnly { kind });
        }
        Ok(match self {
            Self::RegionDown { region } => (Reach::Around(find_region(planet, region)?), Harm::Dark),
            Self::ServiceDown { region, service } => (find_service(planet, region, service)?, Harm::Down),
            Self::TargetDown { target } => (Reach::Target(find_target(planet, target)?), Harm::Down),
            Self::Uplink { region, loss, extra_ms } => {
                (Reach::From(find_region(planet, region)?), impaired(*loss, *extra_ms)?)
            }
            Self::Pair { from, to, loss, extra_ms } => {
                let reach = Reach::Between { from: find_region(planet, from)?, to: find_region(planet, to)? };
                (reach, impaired(*loss, *extra_ms)?)
            }
            Self::Slow { region, service, extra_ms } => {
                (find_service(planet, region, service)?, impaired(0.0, *extra_ms)?)
            }
            Self::Flap { target, period_s } => {
                let reach = Reach::Target(find_target(planet, target)?);
                if !(MIN_PERIOD_S..=MAX_PERIOD_S).contains(period_s) {
                    return Err(Refusal::Period { found: *period_s });
                }
                (reach, Harm::Flapping { period: Duration::from_secs_f64(*period_s) })
            }
            Self::ColdCache { region } => (find_service(planet, region, Service::Cdn.as_str())?, Harm::ColdCache),
            Self::EcmpLeg { from, to, share } => {
                let reach = Reach::Between { from: find_region(planet, from)?, to: find_region(planet, to)? };
                (reach, Harm::Leg { share: within_one("share", *share)? })
            }
            Self::RouteChange { from, to, extra_ms } => {
                let reach = Reach::Between { from: find_region(planet, from)?, to: find_region(planet, to)? };
                (reach, impaired(0.0, *extra_ms)?)
            }
            Self::AgentPartition { region } => (Reach::Reports(find_region(planet, region)?), Harm::Dark),
        })
    }

    /// Its name, if only a router can do it.
    fn kind_of_routers(&self) -> Option<&'static str> {
        match self {
            Self::EcmpLeg { .. } => Some("ecmp_leg"),
            Self::RouteChange { .. } => Some("route_change"),
            Self::AgentPartition { .. } => Some("agent_partition"),
            _ => None,
        }
    }
}

impl Refusal {
    /// For programs: it never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Shape(_) => "malformed_fault",
            Self::UnknownRegion { .. } => "unknown_region",
            Self::UnknownTarget { .. } => "unknown_target",
            Self::UnknownService { .. } => "unknown_service",
            Self::RouterOnly { .. } => "router_mode_only",
            Self::Share { .. } | Self::Extra { .. } | Self::Period { .. } => "out_of_range",
        }
    }
}

fn impaired(loss: f64, extra_ms: f64) -> Result<Harm, Refusal> {
    let loss = within_one("loss", loss)?;
    if !(0.0..=MAX_EXTRA_MS).contains(&extra_ms) {
        return Err(Refusal::Extra { found: extra_ms });
    }
    Ok(Harm::Impaired { loss, extra_ms })
}

fn within_one(what: &'static str, found: f64) -> Result<f64, Refusal> {
    if (0.0..=1.0).contains(&found) { Ok(found) } else { Err(Refusal::Share { what, found }) }
}

fn find_region(planet: &Planet, name: &str) -> Result<RegionNo, Refusal> {
    let place = planet.regions().iter().position(|region| region.name.as_str() == name);
    place.map(RegionNo).ok_or_else(|| Refusal::UnknownRegion {
        name: name.to_owned(),
        known: listed(planet.regions().iter().map(|region| region.name.as_str())),
    })
}

fn find_target(planet: &Planet, id: &str) -> Result<TargetNo, Refusal> {
    let place = planet.targets().iter().position(|target| target.id.as_str() == id);
    place.map(TargetNo).ok_or_else(|| Refusal::UnknownTarget {
        name: id.to_owned(),
        known: listed(planet.targets().iter().map(|target| target.id.as_str())),
    })
}

fn find_service(planet: &Planet, region: &str, service: &str) -> Result<Reach, Refusal> {
    let no = find_region(planet, region)?;
    let mut there = planet.targets().iter().filter(|target| target.region == no && target.service.as_str() == service);
    if let Some(target) = there.next() {
        return Ok(Reach::Service { region: no, service: target.service });
    }
    let mut known: Vec<String> = planet.targets().iter().map(|target| place_of(planet, target)).collect();
    known.dedup();
    let region = planet.region(no).name.clone();
    let known = listed(known.iter().map(String::as_str));
    Err(Refusal::UnknownService { service: service.to_owned(), region, known })
}

fn place_of(planet: &Planet, target: &Target) -> String {
    format!("{}/{}", planet.region(target.region).name, target.service)
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
