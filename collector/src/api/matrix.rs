//! `GET /api/v1/matrix`: every source against every region of a service, one array a field, row by row.

use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use telemetry::{RegionName, ServiceName};

use super::paths::window_of;
use crate::cells::{CellKey, State as CellState};
use crate::core::Snapshots;
use crate::problem::Problem;
use crate::state::State as Concluded;

#[derive(Deserialize)]
pub(super) struct Wanted {
    service: Option<String>,
    window: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Matrix {
    service: ServiceName,
    sources: Vec<RegionName>,
    regions: Vec<RegionName>,
    state: Vec<CellState>,
    p50_ms: Vec<Option<f64>>,
    p95_ms: Vec<Option<f64>>,
    p99_ms: Vec<Option<f64>>,
    loss: Vec<Option<f64>>,
    samples: Vec<u64>,
    age_s: Vec<Option<f64>>,
    reason: Vec<String>,
    as_of: String,
}

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
            let Some(cell) = state.cells.get(&key) else {
                matrix.push_unknown();
                continue;
            };
            let seen = state.rings.merge(cell.series(), from, telemetry::Wall(u64::MAX));
            matrix.state.push(cell.state);
            matrix.p50_ms.push(seen.quantile_ms(0.50));
            matrix.p95_ms.push(seen.quantile_ms(0.95));
            matrix.p99_ms.push(seen.quantile_ms(0.99));
            matrix.loss.push(seen.loss());
            matrix.samples.push(seen.samples());
            matrix.age_s.push(Some(state.now.since(seen.newest).as_secs_f64()));
            matrix.reason.push(cell.reason.to_string());
        }
    }
    Ok(Json(matrix))
}

impl Matrix {
    fn empty(state: &Concluded, service: &ServiceName) -> Self {
        let seen = state.cells.of_service(service).map(|(key, _)| key.region.clone());
        let configured = state.policy.iter().flat_map(|policy| policy.regions_of(service).into_keys().cloned());
        let regions: std::collections::BTreeSet<_> = configured.chain(seen).collect();
        Self {
            service: service.clone(),
            sources: state.sources(),
            regions: regions.into_iter().collect(),
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

    fn push_unknown(&mut self) {
        self.state.push(CellState::Unknown);
        self.p50_ms.push(None);
        self.p95_ms.push(None);
        self.p99_ms.push(None);
        self.loss.push(None);
        self.samples.push(0);
        self.age_s.push(None);
        self.reason.push(crate::cells::Reason::NoData.to_string());
    }
}

/// The service asked for, or the first there is.
fn service_of(state: &Concluded, wanted: Option<&str>) -> Result<ServiceName, Problem> {
    let known = || state.policy.iter().flat_map(|policy| policy.services.keys());
    match wanted {
        Some(name) => known().find(|service| service.as_str() == name),
        None => known().next(),
    }
    .cloned()
    .ok_or_else(|| Problem::unknown("service", wanted.unwrap_or_default(), known()))
}
