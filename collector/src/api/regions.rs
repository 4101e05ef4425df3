//! `GET /api/v1/regions`: the health of every service in every region.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use telemetry::{RegionName, ServiceName};
use utoipa::ToSchema;

use super::List;
use crate::core::Snapshots;
use crate::regions::Health;
use crate::state::State as Concluded;

#[derive(Serialize, ToSchema)]
#[schema(as = Region)]
pub(super) struct Item {
    pub(super) region: RegionName,
    pub(super) service: ServiceName,
    health: Health,
    reason: String,
    #[schema(format = DateTime)]
    since: String,
    vantages: Vantages,
}

/// The sources that may vote, and those of them that see something wrong.
#[derive(Serialize, ToSchema)]
struct Vantages {
    eligible: usize,
    bad: usize,
}

/// The health of every service in every region.
#[utoipa::path(get, path = "/api/v1/regions", operation_id = "listRegions", responses((status = 200, body = List<Item>)))]
pub(super) async fn list(State(snapshots): State<Snapshots>) -> Json<List<Item>> {
    let state = snapshots.state();
    Json(List::new(items(&state).collect(), state.now))
}

pub(super) fn items(state: &Concluded) -> impl Iterator<Item = Item> {
    state.regions.iter().map(|(service, region, health)| Item {
        region: region.clone(),
        service: service.clone(),
        health: health.health,
        reason: health.to_string(),
        since: health.since.to_string(),
        vantages: Vantages { eligible: health.eligible, bad: health.bad },
    })
}
