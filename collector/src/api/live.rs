//! `/livez`, `/readyz`, `/metrics`.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use runtime::meters::Meters;

use super::exposition;
use crate::core::Snapshots;
use crate::history::{History, Standing};
use crate::problem::Problem;

/// The process answers.
#[utoipa::path(get, path = "/livez", operation_id = "livez", responses((status = 200, body = String)))]
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// Ready once there are hints; 503 before. A second line tells where history is not kept: what else is asked of the collector does not wait for it.
#[utoipa::path(get, path = "/readyz", operation_id = "readyz", responses((status = 200, body = String)))]
pub(super) async fn readyz(State((snapshots, history)): State<(Snapshots, History)>) -> Result<&'static str, Problem> {
    if snapshots.board().is_empty() {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "starting", "nothing was judged yet").retry_after(1));
    }
    Ok(match history.standing() {
        Standing::Kept => "ok\n",
        Standing::Refused => "ok\nhistory: cannot be written; the log is kept\n",
        Standing::Lapsed => "ok\nhistory: stands still until the next start; the log is kept\n",
    })
}

/// The collector's own meters, and what was measured lately, in the Prometheus text format.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", responses((status = 200, body = String)))]
pub(super) async fn metrics(State((meters, snapshots)): State<(Meters, Snapshots)>) -> impl IntoResponse {
    let probes = exposition::probes(&snapshots.state());
    let text = meters.render() + &exposition::render(&probes, exposition::MOST);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
