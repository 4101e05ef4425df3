//! The control port: faults in, truth and counts out.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::serve::ListenerExt as _;
use axum::{Json, Router};
use runtime::{Clock, Shutdown};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::info;

use crate::counts::Counts;
use crate::faults::{Book, Fault, FaultId, Refusal, Request};
use crate::lateness::Lateness;
use crate::{Planet, truth};

/// What the threads and the port share.
#[derive(Debug)]
pub struct Control {
    pub clock: Clock,
    pub planet: Arc<Planet>,
    /// Of the targets, in their order.
    pub addresses: Vec<SocketAddr>,
    pub faults: Book,
    /// Which paths no fault takes down, by [`Planet::row`].
    pub up: watch::Sender<Vec<bool>>,
    pub counts: Counts,
    pub lateness: Lateness,
}

/// RFC 9457.
#[derive(Debug)]
struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
}

#[derive(Serialize)]
struct Opened {
    id: FaultId,
}

#[derive(Serialize)]
struct Faults<'a> {
    items: Vec<FaultRow<'a>>,
}

#[derive(Serialize)]
struct FaultRow<'a> {
    id: FaultId,
    #[serde(flatten)]
    request: &'a Request,
    since: String,
}

impl Control {
    pub fn new(planet: Arc<Planet>, addresses: Vec<SocketAddr>) -> Self {
        let counts = Counts::new(Arc::clone(&planet));
        let up = watch::Sender::new(vec![true; planet.sources().count() * planet.targets().len()]);
        let (faults, lateness) = (Book::default(), Lateness::default());
        Self { clock: Clock::start(), planet, addresses, faults, up, counts, lateness }
    }
}

pub async fn serve(listener: TcpListener, control: Arc<Control>, shutdown: Shutdown) -> std::io::Result<()> {
    // An answer in two writes would wait for an acknowledgement in between. Without the option it is only slower.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    axum::serve(listener, routes(control)).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

fn routes(control: Arc<Control>) -> Router {
    Router::new()
        .route("/truth", get(truth))
        .route("/counts", get(counts))
        .route("/lateness", get(lateness))
        .route("/faults", get(faults).post(open_fault))
        .route("/faults/{id}", delete(close_fault))
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method)
        .with_state(control)
}

async fn truth(State(control): State<Arc<Control>>) -> Response {
    let (active, now) = (control.faults.active(), control.clock.mono());
    Json(truth::Document::new(&control.planet, &control.addresses, &active, now)).into_response()
}

async fn counts(State(control): State<Arc<Control>>) -> Response {
    Json(control.counts.document()).into_response()
}

async fn lateness(State(control): State<Arc<Control>>) -> Response {
    Json(control.lateness.document()).into_response()
}

async fn faults(State(control): State<Arc<Control>>) -> Response {
    let active = control.faults.active();
    Json(Faults { items: active.iter().map(FaultRow::from).collect() }).into_response()
}

/// The body is JSON whatever its content type: scripts post with plain curl.
async fn open_fault(State(control): State<Arc<Control>>, body: Bytes) -> Result<Response, Problem> {
    let request: Request = serde_json::from_slice(&body).map_err(|error| Refusal::Shape(error.to_string()))?;
    let id = control.faults.open(&control.planet, request.clone(), control.clock.mono(), control.clock.wall())?;
    info!(id = id.0, ?request, "fault opened");
    Ok((StatusCode::CREATED, Json(Opened { id })).into_response())
}

async fn close_fault(State(control): State<Arc<Control>>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    let closed = id.parse().is_ok_and(|id| control.faults.close(FaultId(id)));
    if !closed {
        return Err(Problem::not_found(format!("no fault {id}; GET /faults lists those in force")));
    }
    info!(id, "fault closed");
    Ok(StatusCode::NO_CONTENT)
}

async fn no_such_route() -> Problem {
    Problem::not_found("known: /truth, /counts, /lateness, /faults, /faults/{id}".to_owned())
}

async fn no_such_method() -> Problem {
    let detail = "known: GET /truth, /counts, /lateness; GET and POST /faults; DELETE /faults/{id}".to_owned();
    Problem { status: StatusCode::METHOD_NOT_ALLOWED, code: "method_not_allowed", detail }
}

impl Problem {
    fn not_found(detail: String) -> Self {
        Self { status: StatusCode::NOT_FOUND, code: "not_found", detail }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: refusal.code(), detail: refusal.to_string() }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
        });
        (self.status, [("content-type", "application/problem+json")], body.to_string()).into_response()
    }
}

impl<'a> From<&'a Fault> for FaultRow<'a> {
    fn from(fault: &'a Fault) -> Self {
        Self { id: fault.id, request: &fault.request, since: fault.since.to_string() }
    }
}
