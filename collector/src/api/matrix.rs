//! `GET /api/v1/matrix`: every source against every region of a service, one array a field, row by row.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use telemetry::{RegionName, ServiceName, Wall};
use utoipa::{IntoParams, ToSchema};

use super::history::{moment, off_the_runtime};
use super::paths::window_of;
use crate::cells::{CellKey, State as CellState};
use crate::core::Snapshots;
use crate::history::{History, Kind};
use crate::problem::Problem;
use crate::rings::Seen;
use crate::state::State as Concluded;

const MINUTE: Duration = Duration::from_mins(1);

#[derive(Deserialize, IntoParams)]
pub(super) struct Wanted {
    /// The first there is, by default.
    service: Option<String>,
    /// How far back the figures look: `1s` to `15m`, `30s` by default.
    window: Option<String>,
    /// RFC 3339, or seconds since the epoch: the figures as they were when the minute of this moment ended, over whole minutes. States of the past are not
    /// kept; they are unknown.
    at: Option<String>,
}

/// One array a field, row by row: the cell of `sources[i]` and `regions[j]` is at `i * regions.length + j`.
#[derive(Serialize, ToSchema)]
pub(super) struct Matrix {
    service: ServiceName,
    sources: Vec<RegionName>,
    regions: Vec<RegionName>,
    state: Vec<CellState>,
    p50_ms: Vec<Option<f64>>,
    p95_ms: Vec<Option<f64>>,
    p99_ms: Vec<Option<f64>>,
    /// Round-trip loss, 0–1.
    loss: Vec<Option<f64>>,
    samples: Vec<u64>,
    age_s: Vec<Option<f64>>,
    reason: Vec<String>,
    #[schema(format = DateTime)]
    as_of: String,
}

/// Of one cell.
#[derive(Serialize, ToSchema)]
pub(super) struct Figures {
    state: CellState,
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
    /// Round-trip loss, 0–1.
    loss: Option<f64>,
    samples: u64,
    age_s: Option<f64>,
    reason: String,
}

/// Every source against every region of a service.
#[utoipa::path(get, path = "/api/v1/matrix", operation_id = "readMatrix", params(Wanted), responses((status = 200, body = Matrix)))]
pub(super) async fn read(
    State((snapshots, history)): State<(Snapshots, History)>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Matrix>, Problem> {
    let window = window_of(wanted.window.as_deref())?;
    if let Some(at) = moment("at", wanted.at.as_deref())? {
        return past(snapshots, history, wanted.service, at, window).await;
    }
    let state = snapshots.state();
    let service = service_of(&state, wanted.service.as_deref())?;
    let Some(policy) = &state.policy else { return Err(Problem::unknown("service", service.as_str(), [""; 0])) };
    let mut matrix = Matrix::empty(&state, &service);
    let from = (state.now - window).slot(policy.window);
    for (source, region) in matrix.keys() {
        let key = CellKey { service: service.clone(), source, region };
        matrix.push(Figures::of(&state, &key, from));
    }
    Ok(Json(matrix))
}

async fn past(
    snapshots: Snapshots,
    history: History,
    service: Option<String>,
    at: Wall,
    window: Duration,
) -> Result<Json<Matrix>, Problem> {
    let until = at.slot(MINUTE) + MINUTE;
    let range = (until - window.max(MINUTE)).slot(MINUTE)..until;
    let (kind, mut matrix) = {
        let state = snapshots.state();
        let service = service_of(&state, service.as_deref())?;
        let configured = state.policy.iter().find_map(|policy| policy.services.get(&service));
        let primary = &configured.ok_or_else(|| Problem::unknown("service", service.as_str(), [""; 0]))?.primary;
        let kind = Kind { service: service.clone(), probe: primary.probe.clone(), phase: primary.phase.clone() };
        (kind, Matrix::empty(&state, &service))
    };
    let cells = off_the_runtime(move || history.cells(&range, &kind)).await?;
    matrix.as_of = until.to_string();
    matrix.sources = merged(matrix.sources, cells.keys().map(|(source, _)| source));
    matrix.regions = merged(matrix.regions, cells.keys().map(|(_, region)| region));
    for key in matrix.keys() {
        matrix.push(cells.get(&key).map_or_else(Figures::unknown, Figures::of_the_past));
    }
    Ok(Json(matrix))
}

fn merged<'a>(known: Vec<RegionName>, more: impl Iterator<Item = &'a RegionName>) -> Vec<RegionName> {
    let all: BTreeSet<_> = known.into_iter().chain(more.cloned()).collect();
    all.into_iter().collect()
}

impl Figures {
    /// What a source saw of a region from there on.
    pub(super) fn of(state: &Concluded, key: &CellKey, from: Wall) -> Self {
        let Some(cell) = state.cells.get(key) else { return Self::unknown() };
        let seen = state.rings.merge(cell.series(), from, Wall(u64::MAX));
        Self {
            state: cell.state,
            p50_ms: seen.quantile_ms(0.50),
            p95_ms: seen.quantile_ms(0.95),
            p99_ms: seen.quantile_ms(0.99),
            loss: seen.loss(),
            samples: seen.samples(),
            age_s: Some(state.now.since(seen.newest).as_secs_f64()),
            reason: cell.says(),
        }
    }

    fn of_the_past(seen: &Seen) -> Self {
        Self {
            p50_ms: seen.quantile_ms(0.50),
            p95_ms: seen.quantile_ms(0.95),
            p99_ms: seen.quantile_ms(0.99),
            loss: seen.loss(),
            samples: seen.samples(),
            reason: "states of the past are not kept".to_owned(),
            ..Self::unknown()
        }
    }

    fn unknown() -> Self {
        Self {
            state: CellState::Unknown,
            p50_ms: None,
            p95_ms: None,
            p99_ms: None,
            loss: None,
            samples: 0,
            age_s: None,
            reason: crate::cells::Reason::NoData.to_string(),
        }
    }
}

impl Matrix {
    fn empty(state: &Concluded, service: &ServiceName) -> Self {
        Self {
            service: service.clone(),
            sources: state.sources(),
            regions: regions(state, service),
            state: Vec::new(),
            p50_ms: Vec::new(),
            p95_ms: Vec::new(),
            p99_ms: Vec::new(),
            loss: Vec::new(),
            samples: Vec::new(),
            age_s: Vec::new(),
            reason: Vec::new(),
            as_of: state.now.to_string(),
        }
    }

    /// Of every cell, row by row.
    fn keys(&self) -> Vec<(RegionName, RegionName)> {
        let row = |source: &RegionName| {
            let source = source.clone();
            self.regions.iter().map(move |region| (source.clone(), region.clone()))
        };
        self.sources.iter().flat_map(row).collect()
    }

    fn push(&mut self, figures: Figures) {
        self.state.push(figures.state);
        self.p50_ms.push(figures.p50_ms);
        self.p95_ms.push(figures.p95_ms);
        self.p99_ms.push(figures.p99_ms);
        self.loss.push(figures.loss);
        self.samples.push(figures.samples);
        self.age_s.push(figures.age_s);
        self.reason.push(figures.reason);
    }
}

/// The regions that have this service, by the configuration or by what was measured.
pub(super) fn regions(state: &Concluded, service: &ServiceName) -> Vec<RegionName> {
    let seen = state.cells.of_service(service).map(|(key, _)| key.region.clone());
    let configured = state.policy.iter().flat_map(|policy| policy.regions_of(service).into_keys().cloned());
    let regions: BTreeSet<_> = configured.chain(seen).collect();
    regions.into_iter().collect()
}

/// The service asked for, or the first there is.
pub(super) fn service_of(state: &Concluded, wanted: Option<&str>) -> Result<ServiceName, Problem> {
    let known = || state.policy.iter().flat_map(|policy| policy.services.keys());
    match wanted {
        Some(name) => known().find(|service| service.as_str() == name),
        None => known().next(),
    }
    .cloned()
    .ok_or_else(|| Problem::unknown("service", wanted.unwrap_or_default(), known()))
}
