//! Which regions a source may be sent to, and why not to the others.

use std::fmt;

use serde::{Deserialize, Serialize};
use telemetry::{RegionName, ServiceName, Wall};

use super::View;
use super::cost::{Cost, wilson_lower};
use crate::cells::{Cell, CellKey, State};

/// Why a region is not ranked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Exclusion {
    DownByQuorum { down: usize, eligible: usize },
    NoData,
    Stale,
    FewSamples { samples: u64, needed: u64 },
    NoReply,
}

pub(super) fn eligible(
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

pub(super) fn cell<'a>(
    view: &View<'a>,
    source: &RegionName,
    service: &ServiceName,
    region: &RegionName,
) -> Option<&'a Cell> {
    view.cells.get(&CellKey { service: service.clone(), source: source.clone(), region: region.clone() })
}

/// The loss that all regions but one show to a source.
pub(super) fn loss_elsewhere(view: &View<'_>, source: &RegionName, service: &ServiceName, but: &RegionName) -> f64 {
    let others = view.cells.of_service(service).filter(|(key, _)| key.source == *source && key.region != *but);
    let (lost, samples) =
        others.fold((0, 0), |sum, (_, cell)| (sum.0 + cell.recent.lost(), sum.1 + cell.recent.samples()));
    wilson_lower(lost, samples)
}

/// The static order: the nearest first, by great circle.
pub(super) fn by_distance(view: &View<'_>, source: &RegionName, service: &ServiceName) -> Vec<RegionName> {
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
