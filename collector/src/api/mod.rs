//! What the outside may ask: REST under `/api/v1`, hints, meters, probes of our own health, and the dashboard.

mod agents;
mod alerts;
mod backups;
mod exposition;
mod extract;
mod heatmap;
mod hints;
mod history;
mod live;
mod matrix;
mod openapi;
mod page;
mod paths;
mod regions;
mod stream;

use std::path::PathBuf;

use axum::Router;
use runtime::Clock;
use runtime::meters::Meters;
use serde::Serialize;
use telemetry::Wall;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::config;
use crate::core::Snapshots;
use crate::grpc;
use crate::ingest::{self, Ingest};
use crate::settle::Settle;
use backups::Backups;
use extract::Exports;

/// A list, as every list is answered.
#[derive(Debug, Serialize, ToSchema)]
struct List<T> {
    #[schema(schema_with = openapi::array_of::<T>)]
    items: Vec<T>,
    #[schema(format = DateTime)]
    as_of: String,
}

impl<T> List<T> {
    fn new(items: Vec<T>, as_of: Wall) -> Self {
        Self { items, as_of: as_of.to_string() }
    }
}

/// What copies of all that is here are made of, and where they go.
#[derive(Debug, Clone)]
pub struct Leaving {
    pub settle: Settle,
    pub data_dir: PathBuf,
    pub backup: Option<config::Backups>,
    pub clock: Clock,
}

/// One port for everything. What is REST is described where it is answered; the rest is gRPC and the page.
pub fn router(ingest: Ingest, snapshots: Snapshots, leaving: Leaving, meters: Meters) -> Router {
    let otlp = OpenApiRouter::default().routes(routes!(ingest::export)).with_state(ingest.clone());
    let concluded = OpenApiRouter::default()
        .routes(routes!(regions::list))
        .routes(routes!(paths::list))
        .routes(routes!(agents::list))
        .routes(routes!(alerts::alerts))
        .routes(routes!(alerts::deliveries))
        .routes(routes!(hints::list))
        .routes(routes!(hints::read))
        .routes(routes!(stream::follow))
        .with_state(snapshots.clone());
    let past = OpenApiRouter::default()
        .routes(routes!(matrix::read))
        .routes(routes!(history::read))
        .routes(routes!(heatmap::read))
        .routes(routes!(live::readyz))
        .with_state((snapshots.clone(), leaving.settle.history.clone()));
    let exports = OpenApiRouter::default()
        .routes(routes!(extract::read))
        .with_state(Exports::new(snapshots.clone(), leaving.settle.clone()));
    let backups =
        OpenApiRouter::default().routes(routes!(backups::list, backups::take)).with_state(Backups::new(leaving));
    let own = OpenApiRouter::default().routes(routes!(live::metrics)).with_state((meters, snapshots));
    let rest = OpenApiRouter::default()
        .merge(otlp)
        .merge(concluded)
        .merge(past)
        .merge(exports)
        .merge(backups)
        .merge(own)
        .routes(routes!(live::livez))
        .routes(routes!(openapi::read));
    openapi::serve(rest)
        .merge(grpc::router(ingest))
        .merge(page::router())
        .fallback(crate::problem::not_found)
        .method_not_allowed_fallback(crate::problem::wrong_method)
}
