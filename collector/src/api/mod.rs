//! What the outside may ask: REST under `/api/v1`, hints, meters, probes of our own health, and the dashboard.

mod agents;
mod hints;
mod live;
mod matrix;
mod page;
mod paths;
mod regions;
mod stream;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use runtime::meters::Meters;
use serde::Serialize;
use telemetry::Wall;

use crate::core::Snapshots;
use crate::grpc;
use crate::ingest::{self, Ingest};

/// A list, as every list is answered.
#[derive(Debug, Serialize)]
struct List<T> {
    items: Vec<T>,
    as_of: String,
}

impl<T> List<T> {
    fn new(items: Vec<T>, as_of: Wall) -> Self {
        Self { items, as_of: as_of.to_string() }
    }
}

/// One port for everything.
pub fn router(ingest: Ingest, snapshots: Snapshots, meters: Meters) -> Router {
    let limit = DefaultBodyLimit::max(ingest.limits.wire_bytes);
    let otlp = Router::new().route("/v1/metrics", post(ingest::export)).layer(limit).with_state(ingest.clone());
    let api = Router::new()
        .route("/api/v1/regions", get(regions::list))
        .route("/api/v1/matrix", get(matrix::read))
        .route("/api/v1/paths", get(paths::list))
        .route("/api/v1/agents", get(agents::list))
        .route("/api/v1/hints", get(hints::list))
        .route("/api/v1/hints/{source}/{service}", get(hints::read))
        .route("/api/v1/stream", get(stream::follow))
        .route("/readyz", get(live::readyz))
        .with_state(snapshots);
    let own = Router::new().route("/metrics", get(live::metrics)).with_state(meters);
    Router::new()
        .merge(otlp)
        .merge(grpc::router(ingest))
        .merge(api)
        .merge(own)
        .route("/livez", get(live::livez))
        .merge(page::router())
        .fallback(crate::problem::not_found)
        .method_not_allowed_fallback(crate::problem::wrong_method)
}
