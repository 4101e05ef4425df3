//! `GET /api/v1/paths/{id}/history`: what a path saw from one moment to another, in steps.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use telemetry::{PathId, Wall};
use utoipa::{IntoParams, ToSchema};

use crate::core::Snapshots;
use crate::extract::{Moment, NoMoment, USUAL};
use crate::history::{History, Question, Slot, StoreError, Tier};
use crate::problem::Problem;
use crate::rings::Seen;

#[derive(Deserialize, IntoParams)]
pub(super) struct Wanted {
    /// RFC 3339, or seconds since the epoch; an hour before `to` by default.
    from: Option<String>,
    /// RFC 3339, or seconds since the epoch; now by default.
    to: Option<String>,
    /// Such as `10s`, `5m` or `1h`: what fits the range by default.
    step: Option<String>,
}

/// Steps in which nothing was seen have no point.
#[derive(Serialize, ToSchema)]
#[schema(as = History)]
pub(super) struct Document {
    step_s: f64,
    /// The windows that the steps are made of.
    tier: Tier,
    points: Vec<Point>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = HistoryPoint)]
struct Point {
    /// When the step begins.
    #[schema(format = DateTime)]
    t: String,
    /// Replies.
    count: u64,
    lost: u64,
    /// Probes repeated at once after a failure, answered or not: in none of the other figures.
    confirms: u64,
    p50_ms: Option<f64>,
    p75_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
    /// The longest reply, as exact as its bucket whatever the step: of our agents' data within 0.17 %.
    max_ms: Option<f64>,
}

/// What a path saw, in steps.
#[utoipa::path(
    get, path = "/api/v1/paths/{id}/history", operation_id = "readHistory",
    params(("id" = String, Path, description = "Of a path, as `listPaths` tells it."), Wanted),
    responses((status = 200, body = Document)),
)]
pub(super) async fn read(
    State(state): State<(Snapshots, History)>,
    Path(id): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Document>, Problem> {
    let Told { step, tier, slots } = tell(state, &id, &wanted).await?;
    let points = slots.into_iter().map(|(begin, slot)| Point::of(begin, &slot));
    Ok(Json(Document { step_s: step.as_secs_f64(), tier, points: points.collect() }))
}

/// The answer, before it is drawn in one way or another.
pub(super) struct Told {
    pub(super) step: Duration,
    pub(super) tier: Tier,
    pub(super) slots: BTreeMap<Wall, Slot>,
}

pub(super) async fn tell(
    (snapshots, history): (Snapshots, History),
    id: &str,
    wanted: &Wanted,
) -> Result<Told, Problem> {
    let unknown = || Problem::new(StatusCode::NOT_FOUND, "path", format!("\"{id}\" is no path that was ever seen"));
    let path: PathId = id.parse().map_err(|_| unknown())?;
    let question = {
        let state = snapshots.state();
        let to = moment("to", wanted.to.as_deref())?.unwrap_or(state.now);
        let from = moment("from", wanted.from.as_deref())?.unwrap_or(to - USUAL);
        let width = state.policy.as_ref().map_or(telemetry::window::DEFAULT_WIDTH, |policy| policy.window);
        let live = state.rings.of_path(path).collect();
        let floors = history.floors(state.now)?;
        Question::new(path, live, (from, to), step(wanted.step.as_deref())?, (width, floors))
    };
    let question = question.map_err(Problem::unanswerable)?;
    let (step, tier) = (question.step, question.tier);
    let slots = off_the_runtime(move || history.read(&question)).await?;
    Ok(Told { step, tier, slots: slots.ok_or_else(unknown)? })
}

/// It reads the disk.
pub(super) async fn off_the_runtime<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Problem> {
    let read = tokio::task::spawn_blocking(read).await;
    Ok(read.map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "history", "history was not read"))??)
}

impl Point {
    fn of(begin: Wall, Slot { seen, confirms }: &Slot) -> Self {
        let quantile = |q| Seen::quantile_ms(seen, q);
        Self {
            t: begin.to_string(),
            count: seen.replies.count(),
            lost: seen.lost(),
            confirms: *confirms,
            p50_ms: quantile(0.50),
            p75_ms: quantile(0.75),
            p95_ms: quantile(0.95),
            p99_ms: quantile(0.99),
            max_ms: quantile(1.0),
        }
    }
}

pub(super) fn moment(name: &str, text: Option<&str>) -> Result<Option<Wall>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let moment =
        text.parse().map_err(|allowed: NoMoment| Problem::bad_query(format!("{name}: found \"{text}\", {allowed}")));
    moment.map(|Moment(moment)| Some(moment))
}

fn step(text: Option<&str>) -> Result<Option<Duration>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let step = humantime::parse_duration(text).ok().filter(|step| *step >= Duration::from_secs(1));
    let allowed = "allowed: a duration from \"1s\" on, such as \"10s\", \"5m\" or \"1h\"";
    step.map(Some).ok_or_else(|| Problem::bad_query(format!("step: found \"{text}\", {allowed}")))
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if let StoreError::Closed = error {
            return Self::new(StatusCode::SERVICE_UNAVAILABLE, "history", error).retry_after(30);
        }
        tracing::error!(error = &error as &dyn std::error::Error, "history not read");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "history", "history could not be read")
    }
}
