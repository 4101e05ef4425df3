//! `GET /api/v1/regions`: the health of every service in every region.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use telemetry::{RegionName, ServiceName};

use super::List;
use crate::core::Snapshots;
use crate::regions::Health;

#[derive(Serialize)]
pub(super) struct Item {
    region: RegionName,
    service: ServiceName,
    health: Health,
    reason: String,
    since: String,
    vantages: Vantages,
}

#[derive(Serialize)]
struct Vantages {
    eligible: usize,
    bad: usize,
}

pub(super) async fn list(State(snapshots): State<Snapshots>) -> Json<List<Item>> {
    let state = snapshots.state();
    let items = state.regions.iter().map(|(service, region, health)| Item {
        region: region.clone(),
        service: service.clone(),
        health: health.health,
        reason: health.to_string(),
        since: health.since.to_string(),
        vantages: Vantages { eligible: health.eligible, bad: health.bad },
    });
    Json(List::new(items.collect(), state.now))
}
