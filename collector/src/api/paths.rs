//! `GET /api/v1/paths`: every path with its numbers over a window.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use telemetry::emodel::Mos;
use telemetry::{
    Family, Label, LabelValue, Labels, Name, PathId, RegionName, Series, ServiceName, Standing, TargetId, Wall,
};
use utoipa::{IntoParams, ToSchema};

use super::List;
use crate::baselines::Usual;
use crate::cells::{CellKey, State as CellState};
use crate::core::Snapshots;
use crate::problem::Problem;
use crate::rings::{HORIZON, Rings, SeriesId};
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
    /// The medians of its week, for a path that drives its cell and is some hours old.
    usual: Option<Usual>,
    /// An estimate of voice quality, 1–4.5.
    mos: Option<f64>,
    /// Replies and losses.
    samples: u64,
    /// Probes repeated at once after a failure, answered or not: evidence, and in none of the figures above.
    confirms: u64,
    /// Samples taken while the agent itself was unwell: in none of the figures above.
    suspects: u64,
    /// Of the newest sample.
    age_s: f64,
    /// All of them, apart by standing and by what was learned of the answers; empty where neither tells any apart.
    variants: Vec<Variant>,
}

/// What the series of a path that have this standing and these labels saw.
#[derive(Serialize, ToSchema)]
struct Variant {
    standing: StandingWord,
    #[schema(value_type = BTreeMap<Label, LabelValue>)]
    labels: Labels,
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    /// Round-trip loss, 0–1.
    loss: Option<f64>,
    samples: u64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Standing)]
#[serde(rename_all = "lowercase")]
enum StandingWord {
    Regular,
    Confirming,
    Suspect,
}

impl From<Standing> for StandingWord {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Regular => Self::Regular,
            Standing::Confirming => Self::Confirming,
            Standing::Suspect => Self::Suspect,
        }
    }
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
    let none: &[SeriesId] = &[];
    let aside = state.rings.aside().map(|id| (id, none));
    let items = state.rings.paths().chain(aside).filter_map(|(id, series)| {
        let first = &state.rings.get(*series.iter().chain(state.rings.beside(id)).next()?).series;
        let asked = is(&wanted.source, first.source.as_str())
            && is(&wanted.service, first.service.as_str())
            && is(&wanted.region, first.region.as_str());
        asked.then(|| Item::of(&state, id, series, first, from))
    });
    Ok(Json(List::new(items.collect(), state.now)))
}

impl Item {
    fn of(state: &Concluded, id: PathId, all: &[SeriesId], series: &Series, from: Wall) -> Self {
        let seen = state.rings.merge(all.iter().copied(), from, Wall(u64::MAX));
        // Of a path of which nothing counts, that of what it has.
        let any = if all.is_empty() { state.rings.beside(id) } else { all };
        let newest = any.iter().map(|series| state.rings.get(*series).newest).max().unwrap_or_default();
        let primary = state.policy.as_ref().is_some_and(|policy| policy.is_primary(series));
        let mos = state.policy.as_ref().and_then(|policy| {
            policy.mos(&series.probe, seen.quantile_ms(0.5)?, seen.jitter_ms().unwrap_or_default(), seen.loss()?)
        });
        let cell = state.cells.get(&CellKey::of(series)).filter(|_| primary);
        let beside = |standing| {
            let series = state.rings.beside(id).iter().filter(|id| state.rings.get(**id).series.standing == standing);
            state.rings.merge(series.copied(), from, Wall(u64::MAX)).samples()
        };
        Self {
            id: id.to_string(),
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
            usual: state.baselines.usual(id),
            mos: mos.map(|Mos(score)| score),
            samples: seen.samples(),
            confirms: beside(Standing::Confirming),
            suspects: beside(Standing::Suspect),
            age_s: state.now.since(newest).as_secs_f64(),
            variants: variants(&state.rings, all.iter().chain(state.rings.beside(id)), from),
        }
    }
}

/// Those that saw anything from there on.
fn variants<'a>(rings: &Rings, all: impl Iterator<Item = &'a SeriesId>, from: Wall) -> Vec<Variant> {
    let mut series: BTreeMap<(Standing, &Labels), Vec<SeriesId>> = BTreeMap::new();
    for id in all {
        let Series { standing, labels, .. } = &*rings.get(*id).series;
        series.entry((*standing, labels)).or_default().push(*id);
    }
    if series.keys().all(|(standing, labels)| *standing == Standing::Regular && labels.is_empty()) {
        return Vec::new();
    }
    let seen = series.into_iter().map(|(key, series)| (key, rings.merge(series, from, Wall(u64::MAX))));
    let variants = seen.filter(|(_, seen)| seen.samples() > 0).map(|((standing, labels), seen)| Variant {
        standing: standing.into(),
        labels: labels.clone(),
        p50_ms: seen.quantile_ms(0.50),
        p95_ms: seen.quantile_ms(0.95),
        loss: seen.loss(),
        samples: seen.samples(),
    });
    variants.collect()
}

/// `30s` by default, at most what is kept.
pub(super) fn window_of(text: Option<&str>) -> Result<Duration, Problem> {
    let Some(text) = text else { return Ok(Duration::from_secs(30)) };
    let window =
        humantime::parse_duration(text).ok().filter(|window| (Duration::from_secs(1)..=HORIZON).contains(window));
    window.ok_or_else(|| Problem::bad_query(format!("window: found \"{text}\", allowed: from \"1s\" to \"15m\"")))
}
