//! `GET /api/v1/hints/…`: pre-rendered, tagged by meaning. The entity tag and the version change with what a router should
//! do, not with every figure.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::List;
use crate::core::{Board, Rendered, Snapshots};
use crate::hints::HintDocument;
use crate::problem::Problem;

const CACHE: HeaderValue = HeaderValue::from_static("max-age=5, stale-while-revalidate=30, stale-if-error=86400");

pub(super) async fn read(
    State(snapshots): State<Snapshots>,
    Path((source, service)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let board = snapshots.board();
    let rendered = find(&board, &source, &service)?;
    let known = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok()).unwrap_or_default();
    let unchanged =
        known.split(',').any(|tag| matches!(tag.trim(), "*") || tag.trim().trim_start_matches("W/") == rendered.etag);
    let tag = HeaderValue::from_str(&rendered.etag).unwrap_or(HeaderValue::from_static(""));
    let head = [(header::ETAG, tag), (header::CACHE_CONTROL, CACHE)];
    if unchanged {
        return Ok((StatusCode::NOT_MODIFIED, head).into_response());
    }
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((head, kind, rendered.body.clone()).into_response())
}

#[derive(Deserialize)]
pub(super) struct Wanted {
    service: Option<String>,
}

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

fn find<'a>(board: &'a Board, source: &str, service: &str) -> Result<&'a Rendered, Problem> {
    let found = board.iter().find(|((a, b), _)| a.as_str() == source && b.as_str() == service);
    if let Some((_, rendered)) = found {
        return Ok(rendered);
    }
    let sources: BTreeSet<_> = board.keys().map(|(source, _)| source.as_str()).collect();
    let services: BTreeSet<_> = board.keys().map(|(_, service)| service.as_str()).collect();
    Err(if sources.contains(source) {
        Problem::unknown("service", service, services)
    } else {
        Problem::unknown("source", source, sources)
    })
}
