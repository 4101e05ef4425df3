//! `GET /api/v1/agents`: who measures, and how well each fares itself.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use telemetry::{AgentId, RegionName};

use super::List;
use crate::core::Snapshots;

#[derive(Serialize)]
pub(super) struct Item {
    agent: AgentId,
    region: RegionName,
    version: String,
    last_seen: String,
    clock_offset_ms: Option<f64>,
    lateness_ms: Lateness,
    noise_floor_ms: NoiseFloor,
    spool: Spool,
    gaps: u64,
}

#[derive(Serialize)]
struct Lateness {
    p99: Option<f64>,
}

/// Not measured yet: unknown, and said so.
#[derive(Serialize, Default)]
struct NoiseFloor {
    p50: Option<f64>,
    p99: Option<f64>,
}

#[derive(Serialize)]
struct Spool {
    batches: u64,
    bytes: u64,
}

pub(super) async fn list(State(snapshots): State<Snapshots>) -> Json<List<Item>> {
    let state = snapshots.state();
    let items = state.agents.iter().map(|(id, agent)| Item {
        agent: id.clone(),
        region: agent.region.clone(),
        version: agent.version.clone(),
        last_seen: agent.last_seen.to_string(),
        clock_offset_ms: None,
        lateness_ms: Lateness { p99: agent.vitals.lateness.quantile(0.99).map(|seconds| seconds * 1e3) },
        noise_floor_ms: NoiseFloor::default(),
        spool: Spool { batches: agent.vitals.spool_batches, bytes: agent.vitals.spool_bytes },
        gaps: state.sequences.gaps(id),
    });
    Json(List::new(items.collect(), state.now))
}
