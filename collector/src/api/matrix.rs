//! `GET /api/v1/matrix`: every source against every region of a service, one array a field, row by row.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use telemetry::{RegionName, ServiceName, Wall};
use utoipa::{IntoParams, ToSchema};

use super::paths::window_of;
use crate::cells::{CellKey, State as CellState};
use crate::core::Snapshots;
use crate::problem::Problem;
use crate::state::State as Concluded;

#[derive(Deserialize, IntoParams)]
pub(super) struct Wanted {
    /// The first there is, by default.
    service: Option<String>,
    /// How far back the figures look: `1s` to `15m`, `30s` by default.
    window: Option<String>,
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
    State(snapshots): State<Snapshots>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Matrix>, Problem> {
    let window = window_of(wanted.window.as_deref())?;
    let state = snapshots.state();
    let service = service_of(&state, wanted.service.as_deref())?;
    let Some(policy) = &state.policy else { return Err(Problem::unknown("service", service.as_str(), [""; 0])) };
    let mut matrix = Matrix::empty(&state, &service);
    let from = (state.now - window).slot(policy.window);
    for source in matrix.sources.clone() {
        for region in matrix.regions.clone() {
            let key = CellKey { service: service.clone(), source: source.clone(), region };
            matrix.push(Figures::of(&state, &key, from));
        }
    }
    Ok(Json(matrix))
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
