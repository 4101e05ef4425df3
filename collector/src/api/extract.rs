//! `GET /api/v1/export`: what was measured in a range, for other tools, as it is read.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::sleep;
use utoipa::IntoParams;

use super::history::moment;
use crate::core::Snapshots;
use crate::extract::{Extract, Format, USUAL};
use crate::history::Tier;
use crate::problem::Problem;
use crate::settle::{Settle, Unsettled};

/// Each reads the disk, and keeps what it reads from being tidied.
const AT_ONCE: usize = 2;
const CHUNK: usize = 64 << 10;
/// Chunks on their way to who asked.
const WAITING: usize = 4;
/// Who takes nothing for so long is gone.
const STALLED: Duration = Duration::from_mins(1);

#[derive(Debug, Clone)]
pub(super) struct Exports {
    snapshots: Snapshots,
    settle: Settle,
    room: Arc<Semaphore>,
}

#[derive(Deserialize, IntoParams)]
pub(super) struct Wanted {
    /// `otlp` or `prometheus`.
    #[param(value_type = Format, inline)]
    format: String,
    /// RFC 3339, or seconds since the epoch; an hour before `to` by default.
    from: Option<String>,
    /// RFC 3339, or seconds since the epoch; now by default.
    to: Option<String>,
    /// `raw`, `minute` or `hour`; by default the finest that still has all of the range.
    #[param(value_type = Option<Tier>)]
    tier: Option<String>,
}

/// A part of what is told, or its end: without one the connection breaks, so that a part is never taken for the whole.
enum Part {
    Chunk(Bytes),
    End,
}

impl Exports {
    pub(super) fn new(snapshots: Snapshots, settle: Settle) -> Self {
        Self { snapshots, settle, room: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

/// What was measured in a range, as OTLP in JSON, a request a line, or as `OpenMetrics` text with times.
#[utoipa::path(
    get, path = "/api/v1/export", operation_id = "exportHistory",
    params(Wanted),
    responses((status = 200, content((String = "application/jsonl"), (String = "application/openmetrics-text")))),
)]
pub(super) async fn read(
    State(Exports { snapshots, settle, room }): State<Exports>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let busy = || {
        let detail = format!("{AT_ONCE} exports are under way");
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "busy", detail).retry_after(10)
    };
    let room = room.try_acquire_owned().map_err(|_| busy())?;
    let format: Format = kind("format", &wanted.format)?;
    let tier: Option<Tier> = wanted.tier.as_deref().map(|tier| kind("tier", tier)).transpose()?;
    let (now, width) = {
        let state = snapshots.state();
        (state.now, state.policy.as_ref().map_or(telemetry::window::DEFAULT_WIDTH, |policy| policy.window))
    };
    let to = moment("to", wanted.to.as_deref())?.unwrap_or(now);
    let from = moment("from", wanted.from.as_deref())?.unwrap_or(to - USUAL);
    settle.settle().await?;
    let extract = Extract::new(&settle.history, format, from..to, tier, width)?.map_err(Problem::unanswerable)?;
    let tier = extract.tier.as_str();
    let (parts, told) = mpsc::channel(WAITING);
    let mut out = Out { parts, chunk: Vec::with_capacity(CHUNK), folds: snapshots.news(), runtime: Handle::current() };
    tokio::task::spawn_blocking(move || {
        let written = extract.write(&settle.history, &mut out).map_err(|error| error.to_string());
        if let Err(error) = written.and_then(|()| out.end().map_err(|error| error.to_string())) {
            tracing::info!(error, "export broken off");
        }
        drop(room);
    });
    let told = unfold(Some(told), async |told| {
        let mut told = told?;
        match told.recv().await {
            Some(Part::Chunk(chunk)) => Some((Ok(chunk), Some(told))),
            Some(Part::End) => None,
            None => Some((Err(io::Error::from(io::ErrorKind::UnexpectedEof)), None)),
        }
    });
    let headers =
        [(header::CONTENT_TYPE, format.media_type()), (header::HeaderName::from_static("isochrone-tier"), tier)];
    Ok((headers, Body::from_stream(told)).into_response())
}

/// Gathers what is written into chunks.
struct Out {
    parts: mpsc::Sender<Part>,
    chunk: Vec<u8>,
    /// Ends with the fold.
    folds: watch::Receiver<()>,
    runtime: Handle,
}

impl Out {
    /// Whoever reads no further must not keep the store open, nor the process.
    fn send(&mut self, part: Part) -> io::Result<()> {
        let (parts, folds) = (&self.parts, &mut self.folds);
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = over(folds) => Err(io::Error::other("the collector stops")),
                sent = parts.send(part) => sent.map_err(|_| io::ErrorKind::BrokenPipe.into()),
                () = sleep(STALLED) => Err(io::Error::from(io::ErrorKind::TimedOut)),
            }
        })
    }

    fn end(&mut self) -> io::Result<()> {
        self.send(Part::End)
    }
}

async fn over(folds: &mut watch::Receiver<()>) {
    while folds.changed().await.is_ok() {}
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        if chunk.is_empty() { Ok(()) } else { self.send(Part::Chunk(chunk.into())) }
    }
}

fn kind<T: std::str::FromStr<Err = &'static str>>(name: &str, text: &str) -> Result<T, Problem> {
    text.parse().map_err(|allowed| Problem::bad_query(format!("{name}: found \"{text}\", {allowed}")))
}

impl From<Unsettled> for Problem {
    fn from(unsettled: Unsettled) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "history", unsettled).retry_after(30)
    }
}
