//! `GET /api/v1/hints/…`: pre-rendered, tagged by meaning. The entity tag and the version change with what a router should
//! do, not with every figure. With `?index=` the answer waits until there is another version than that.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use telemetry::{RegionName, ServiceName};
use tokio::time::{Instant, timeout_at};
use utoipa::IntoParams;

use super::List;
use crate::core::{Board, Rendered, Snapshots};
use crate::hints::HintDocument;
use crate::problem::Problem;

const CACHE: HeaderValue = HeaderValue::from_static("max-age=5, stale-while-revalidate=30, stale-if-error=86400");

const WAIT: Duration = Duration::from_secs(30);
const WAITS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_mins(5);

/// A long poll: the version that is known, and for how long to wait for another one.
#[derive(Deserialize, IntoParams)]
pub(super) struct Poll {
    /// The version that is known: the answer waits for another one.
    index: Option<u64>,
    /// For how long: `0s` to `5m`, `30s` by default. Then the known version is answered.
    wait: Option<String>,
}

/// The ranking of one source, with weights, costs and reasons.
#[utoipa::path(
    get,
    path = "/api/v1/hints/{source}/{service}",
    operation_id = "readHint",
    params(("source" = RegionName, Path), ("service" = ServiceName, Path), ("if-none-match" = Option<String>, Header), Poll),
    responses(
        (status = 200, body = HintDocument, headers(
            ("etag" = String, description = "Of the meaning, not of every figure."),
            ("cache-control" = String),
        )),
        (status = 304, description = "The meaning is as the entity tag in `if-none-match` says."),
    ),
)]
pub(super) async fn read(
    State(snapshots): State<Snapshots>,
    Path((source, service)): Path<(String, String)>,
    Query(poll): Query<Poll>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let until = Instant::now() + poll.wait()?;
    let mut news = snapshots.news();
    loop {
        let rendered = find(&snapshots.board(), &source, &service)?;
        // Another version, not a higher one: a version that we never gave comes from another epoch.
        let answer = poll.index != Some(rendered.document.version)
            || !matches!(timeout_at(until, news.changed()).await, Ok(Ok(())));
        if answer {
            return Ok(respond(&rendered, &headers));
        }
    }
}

impl Poll {
    fn wait(&self) -> Result<Duration, Problem> {
        let Some(text) = &self.wait else { return Ok(WAIT) };
        let wait = humantime::parse_duration(text).ok().filter(|wait| WAITS.contains(wait));
        wait.ok_or_else(|| Problem::bad_query(format!("wait: found \"{text}\", allowed: from \"0s\" to \"5m\"")))
    }
}

fn respond(rendered: &Rendered, headers: &HeaderMap) -> Response {
    let known = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok()).unwrap_or_default();
    let unchanged =
        known.split(',').any(|tag| matches!(tag.trim(), "*") || tag.trim().trim_start_matches("W/") == rendered.etag);
    let tag = HeaderValue::from_str(&rendered.etag).unwrap_or(HeaderValue::from_static(""));
    let head = [(header::ETAG, tag), (header::CACHE_CONTROL, CACHE)];
    if unchanged {
        return (StatusCode::NOT_MODIFIED, head).into_response();
    }
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (head, kind, rendered.body.clone()).into_response()
}

#[derive(Deserialize, IntoParams)]
pub(super) struct Wanted {
    service: Option<String>,
}

/// The rankings of every source.
#[utoipa::path(get, path = "/api/v1/hints", operation_id = "listHints", params(Wanted), responses((status = 200, body = List<HintDocument>)))]
pub(super) async fn list(
    State(snapshots): State<Snapshots>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<List<Arc<HintDocument>>>, Problem> {
    let board = snapshots.board();
    let services: BTreeSet<_> = board.keys().map(|(_, service)| service.as_str()).collect();
    if let Some(unknown) = wanted.service.as_deref().filter(|service| !services.contains(service)) {
        return Err(Problem::unknown("service", unknown, services));
    }
    let asked =
        board.iter().filter(|((_, service), _)| wanted.service.as_deref().is_none_or(|it| it == service.as_str()));
    let items: Vec<_> = asked.map(|(_, rendered)| Arc::clone(&rendered.document)).collect();
    let as_of = items.iter().filter_map(|document| document.generated()).max().unwrap_or_default();
    Ok(Json(List::new(items, as_of)))
}

fn find(board: &Board, source: &str, service: &str) -> Result<Arc<Rendered>, Problem> {
    let found = board.iter().find(|((a, b), _)| a.as_str() == source && b.as_str() == service);
    if let Some((_, rendered)) = found {
        return Ok(Arc::clone(rendered));
    }
    let sources: BTreeSet<_> = board.keys().map(|(source, _)| source.as_str()).collect();
    let services: BTreeSet<_> = board.keys().map(|(_, service)| service.as_str()).collect();
    Err(if sources.contains(source) {
        Problem::unknown("service", service, services)
    } else {
        Problem::unknown("source", source, sources)
    })
}
