//! `GET /api/v1/agents`: who measures, and how well each fares itself.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use telemetry::{AgentId, RegionName};
use utoipa::ToSchema;

use super::List;
use crate::clocks::{Offset, Verdict};
use crate::core::Snapshots;

#[derive(Serialize, ToSchema)]
#[schema(as = Agent)]
pub(super) struct Item {
    agent: AgentId,
    region: RegionName,
    version: String,
    #[schema(format = DateTime)]
    last_seen: String,
    /// The collector's clock less the agent's, and the least time of a batch's way: below zero where the agent's is ahead.
    clock_offset_ms: Option<f64>,
    clock: Verdict,
    lateness_ms: Lateness,
    noise_floor_ms: NoiseFloor,
    spool: Spool,
    /// Batches that are missing below the highest number that came, or that the agent says it has lost.
    gaps: u64,
}

/// How late its own timers ran.
#[derive(Serialize, ToSchema)]
struct Lateness {
    p99: Option<f64>,
}

/// What it takes to probe itself.
#[derive(Serialize, ToSchema)]
struct NoiseFloor {
    p50: Option<f64>,
    p99: Option<f64>,
}

/// What waits to be acknowledged.
#[derive(Serialize, ToSchema)]
struct Spool {
    batches: u64,
    bytes: u64,
}

/// Who measures, and how well each fares itself.
#[utoipa::path(get, path = "/api/v1/agents", operation_id = "listAgents", responses((status = 200, body = List<Item>)))]
pub(super) async fn list(State(snapshots): State<Snapshots>) -> Json<List<Item>> {
    let state = snapshots.state();
    let items = state.agents.iter().map(|(id, agent)| Item {
        agent: id.clone(),
        region: agent.region.clone(),
        version: agent.version.clone(),
        last_seen: agent.last_seen.to_string(),
        clock_offset_ms: agent.clock.offset().map(Offset::millis),
        clock: agent.clock.verdict(),
        lateness_ms: Lateness { p99: agent.lateness.quantile_ms(0.99) },
        noise_floor_ms: NoiseFloor {
            p50: agent.noise_floor.quantile_ms(0.50),
            p99: agent.noise_floor.quantile_ms(0.99),
        },
        spool: Spool { batches: agent.spool_batches, bytes: agent.spool_bytes },
        gaps: state.sequences.gaps(id),
    });
    Json(List::new(items.collect(), state.now))
}
