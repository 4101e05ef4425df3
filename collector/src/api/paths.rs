//! `GET /api/v1/paths`: every path with its numbers over a window.

use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use telemetry::{Family, Name, RegionName, Series, ServiceName, TargetId, Wall};
use utoipa::{IntoParams, ToSchema};

use super::List;
use crate::cells::{CellKey, State as CellState};
use crate::core::Snapshots;
use crate::problem::Problem;
use crate::rings::HORIZON;
use crate::state::State as Concluded;

#[derive(Deserialize, IntoParams)]
pub(super) struct Wanted {
    source: Option<String>,
    service: Option<String>,
    region: Option<String>,
    /// How far back the figures look: `1s` to `15m`, `30s` by default.
    window: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Path)]
pub(super) struct Item {
    /// A hash of source, target, probe, phase and family: the same across restarts and collectors.
    #[schema(pattern = "^[0-9a-f]{16}$")]
    id: String,
    source: RegionName,
    target: TargetId,
    region: RegionName,
    service: ServiceName,
    probe: Name,
    phase: Name,
    family: Family,
    /// Whether it drives its cell.
    primary: bool,
    /// The cell's, for a path that drives it.
    state: Option<CellState>,
    p50_ms: Option<f64>,
    p75_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
    /// Round-trip loss, 0–1.
    loss: Option<f64>,
    jitter_ms: Option<f64>,
    /// An estimate of voice quality, 1–4.5.
    mos: Option<f64>,
    /// Replies and losses.
    samples: u64,
    confirms: u64,
    /// Of the newest sample.
    age_s: f64,
}

/// Every path with its figures over a window.
#[utoipa::path(get, path = "/api/v1/paths", operation_id = "listPaths", params(Wanted), responses((status = 200, body = List<Item>)))]
pub(super) async fn list(
    State(snapshots): State<Snapshots>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<List<Item>>, Problem> {
    let window = window_of(wanted.window.as_deref())?;
    let state = snapshots.state();
    let width = state.policy.as_ref().map_or(telemetry::window::DEFAULT_WIDTH, |policy| policy.window);
    let from = (state.now - window).slot(width);
    let is = |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
    let items = state.rings.paths().filter_map(|(id, series)| {
        let first = &state.rings.get(*series.first()?).series;
        let asked = is(&wanted.source, first.source.as_str())
            && is(&wanted.service, first.service.as_str())
            && is(&wanted.region, first.region.as_str());
        asked.then(|| {
            let seen = state.rings.merge(series.iter().copied(), from, Wall(u64::MAX));
            Item::of(&state, id.to_string(), first, &seen)
        })
    });
    Ok(Json(List::new(items.collect(), state.now)))
}

impl Item {
    fn of(state: &Concluded, id: String, series: &Series, seen: &crate::rings::Seen) -> Self {
        let primary = state.policy.as_ref().is_some_and(|policy| Concluded::is_primary(policy, series));
        let cell = state.cells.get(&CellKey::of(series)).filter(|_| primary);
        Self {
            id,
            source: series.source.clone(),
            target: series.target.clone(),
            region: series.region.clone(),
            service: series.service.clone(),
            probe: series.probe.clone(),
            phase: series.phase.clone(),
            family: series.family,
            primary,
            state: cell.map(|cell| cell.state),
            p50_ms: seen.quantile_ms(0.50),
            p75_ms: seen.quantile_ms(0.75),
            p95_ms: seen.quantile_ms(0.95),
            p99_ms: seen.quantile_ms(0.99),
            loss: seen.loss(),
            jitter_ms: seen.jitter_ms(),
            mos: None,
            samples: seen.samples(),
            confirms: 0,
            age_s: state.now.since(seen.newest).as_secs_f64(),
        }
    }
}

/// `30s` by default, at most what is kept.
pub(super) fn window_of(text: Option<&str>) -> Result<Duration, Problem> {
    let Some(text) = text else { return Ok(Duration::from_secs(30)) };
    let window =
        humantime::parse_duration(text).ok().filter(|window| (Duration::from_secs(1)..=HORIZON).contains(window));
    window.ok_or_else(|| Problem::bad_query(format!("window: found \"{text}\", allowed: from \"1s\" to \"15m\"")))
}
