//! `POST /v1/metrics`: OTLP over HTTP, protobuf or JSON. A batch is answered with 200 only after it is durable.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use runtime::Clock;
use runtime::meters::Meters;
use runtime::own::SPANS;
use telemetry::otlp::{HEADER_AGENT, HEADER_BOOT, HEADER_SEQUENCE};
use telemetry::{Boot, Origin, Outcome, Sequence, Standing};
use tracing::{Instrument as _, info_span};
use uuid::Uuid;

use crate::bodies::Bodies;
use crate::config::Limits;
use crate::decode::{Catalog, DecodeError, Refused, inflate, sender};
use crate::entry::{Batch, Encoding, Entry, Envelope, Point, Record};
use crate::json::{self, JsonError};
use crate::log::{AppendError, Appender};
use crate::marks::Alarm;
use crate::meters::Ingested;
use crate::problem::Problem;

/// More batches than any boot will send.
const MAX_SEQUENCE: u64 = 1 << 62;

/// What a batch needs on its way in.
#[derive(Clone, Debug)]
pub struct Ingest {
    log: Appender,
    clock: Clock,
    alarm: Alarm,
    pub limits: Limits,
    catalog: Arc<Mutex<Catalog>>,
    bodies: Arc<Mutex<Bodies>>,
    meters: Arc<Ingested>,
}

/// Takes OTLP metrics; they are durable when it answers 200.
///
/// Answers as OTLP asks, in the form of the question: an empty message, or a partial success that names what was refused.
#[utoipa::path(
    post,
    path = "/v1/metrics",
    operation_id = "exportMetrics",
    params(
        ("isochrone-agent" = Option<String>, Header, description = "With boot and seq the name of the batch: all or none."),
        ("isochrone-boot" = Option<String>, Header, format = "uuid"),
        ("isochrone-seq" = Option<u64>, Header, minimum = 1),
        ("content-encoding" = Option<String>, Header, description = "`zstd` or `gzip`."),
    ),
    request_body(
        description = "An OTLP `ExportMetricsServiceRequest`.",
        content(("application/x-protobuf"), (Object = "application/json")),
    ),
    responses((
        status = 200,
        description = "An OTLP `ExportMetricsServiceResponse`: empty, or a partial success that names what was refused.",
        content(("application/x-protobuf"), (json::Response = "application/json")),
    )),
)]
pub async fn export(
    State(ingest): State<Ingest>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let posted = body.map_err(Problem::from).and_then(|body| Posted::read(&headers, body, &ingest.limits));
    let Posted { form, encoding, body } = posted.inspect_err(|problem| ingest.meters.refused(problem.code))?;
    let refused = ingest.export(&headers, encoding, &body).await?;
    Ok(match form {
        Form::Protobuf => {
            ([(header::CONTENT_TYPE, "application/x-protobuf")], partial_success(&refused)).into_response()
        }
        Form::Json => Json(json::partial_success(&refused)).into_response(),
    })
}

/// A body, in protobuf by now.
struct Posted {
    form: Form,
    encoding: Encoding,
    body: Bytes,
}

/// In which a body came, and is answered.
#[derive(Clone, Copy)]
enum Form {
    Protobuf,
    Json,
}

impl Posted {
    fn read(headers: &HeaderMap, body: Bytes, limits: &Limits) -> Result<Self, Problem> {
        let (encoding, form) = (encoding(headers)?, form(headers)?);
        Ok(match form {
            Form::Protobuf => Self { form, encoding, body },
            Form::Json => {
                let body = json::to_protobuf(&inflate(&body, encoding, limits.inflated_bytes)?)?;
                Self { form, encoding: Encoding::Identity, body: body.into() }
            }
        })
    }
}

impl Ingest {
    pub fn new(log: Appender, clock: Clock, alarm: Alarm, limits: Limits, meters: &Meters) -> Self {
        // Attributes are found by their hash: nobody outside may know how to make two meet.
        let catalog = Catalog::new(Uuid::new_v4().as_u128() as u64);
        let (catalog, meters) = (Arc::new(catalog.into()), Arc::new(Ingested::new(meters)));
        Self { log, clock, alarm, limits, catalog, bodies: Arc::default(), meters }
    }

    /// Takes a request, whoever carried it: HTTP's headers or gRPC's metadata may hold its name.
    pub async fn export(&self, headers: &HeaderMap, encoding: Encoding, body: &Bytes) -> Result<Refused, Problem> {
        let span = info_span!(target: SPANS, "ingest", bytes = body.len());
        let taken = self.take(headers, encoding, body).instrument(span).await;
        match &taken {
            Ok(refused) => self.meters.taken(body.len(), refused.points),
            Err(problem) => self.meters.refused(problem.code),
        }
        taken
    }

    async fn take(&self, headers: &HeaderMap, encoding: Encoding, body: &Bytes) -> Result<Refused, Problem> {
        let (entry, refused, envelope) = {
            let inflated = inflate(body, encoding, self.limits.inflated_bytes)?;
            let origin = origin(headers, &inflated)?;
            let mut bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
            if origin.as_ref().is_some_and(|origin| !bodies.agree(origin, body)) {
                let detail = "another body came under this agent, boot and sequence";
                return Err(Problem::new(StatusCode::CONFLICT, "conflict", detail));
            }
            drop(bodies);
            let envelope = Envelope { origin, received: self.clock.wall(), encoding };
            let mut catalog = self.catalog.lock().unwrap_or_else(PoisonError::into_inner);
            let (batch, refused) = catalog.read(envelope.clone(), &inflated)?;
            if batch.points.len() > self.limits.points {
                let detail = format!("{} points, {} are allowed in a batch", batch.points.len(), self.limits.points);
                return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "points", detail));
            }
            (batch, refused, envelope)
        };
        if entry.origin.is_none() && entry.reports.is_empty() {
            return Ok(refused);
        }
        let bad_news = is_bad_news(&entry);
        let record = Record::Batch(envelope, body);
        let durable = self.log.append(&record, Entry::Batch(entry));
        durable.instrument(info_span!(target: SPANS, "append")).await?;
        if bad_news {
            self.alarm.notify_one();
        }
        Ok(refused)
    }
}

/// What an agent calls its batch. A batch from anyone else has no name.
fn origin(headers: &HeaderMap, body: &[u8]) -> Result<Option<Origin>, Problem> {
    let names = [HEADER_AGENT, HEADER_BOOT, HEADER_SEQUENCE];
    let [Some(agent), Some(boot), Some(sequence)] = names.map(|name| headers.get(name)) else {
        if names.iter().any(|name| headers.contains_key(*name)) {
            let detail = format!("headers {}: all of them or none", names.join(", "));
            return Err(Problem::new(StatusCode::BAD_REQUEST, "header", detail));
        }
        return Ok(None);
    };
    let resource = sender(body)?;
    let agent = text(HEADER_AGENT, agent)?.parse().map_err(|error| bad_header(HEADER_AGENT, error))?;
    let boot: Boot = text(HEADER_BOOT, boot)?.parse().map_err(|error| bad_header(HEADER_BOOT, error))?;
    let sequence =
        text(HEADER_SEQUENCE, sequence)?.parse().ok().filter(|sequence| (1..=MAX_SEQUENCE).contains(sequence));
    let sequence = Sequence(sequence.ok_or_else(|| bad_header(HEADER_SEQUENCE, "a whole number from 1"))?);
    if agent != resource.agent {
        return Err(bad_header(HEADER_AGENT, "not the agent that the resource names"));
    }
    Ok(Some(Origin { agent, boot, sequence }))
}

fn is_bad_news(batch: &Batch) -> bool {
    let votes = |point: &&Point| point.series.standing != Standing::Suspect;
    batch.points.iter().filter(votes).any(|point| matches!(point.outcome, Outcome::Failure(_)))
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Problem> {
    match headers.get(header::CONTENT_ENCODING).map(header::HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(Encoding::Identity),
        Some(b"zstd") => Ok(Encoding::Zstd),
        Some(b"gzip") => Ok(Encoding::Gzip),
        Some(_) => {
            let detail = "content-encoding: zstd, gzip or none";
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "encoding", detail))
        }
    }
}

fn form(headers: &HeaderMap) -> Result<Form, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match kind.split(';').next().map(str::trim) {
        Some("application/x-protobuf") => Ok(Form::Protobuf),
        Some("application/json") => Ok(Form::Json),
        _ => {
            let detail = "content-type: application/x-protobuf or application/json";
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-type", detail))
        }
    }
}

fn text(name: &'static str, value: &header::HeaderValue) -> Result<String, Problem> {
    value.to_str().map(str::to_owned).map_err(|_| bad_header(name, "not text"))
}

fn bad_header(name: &'static str, fault: impl std::fmt::Display) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "header", format!("header {name}: {fault}"))
}

/// `ExportMetricsServiceResponse`, written by hand: field 1, `partial_success { rejected_data_points, error_message }`.
pub fn partial_success(refused: &Refused) -> Vec<u8> {
    if refused.points == 0 {
        return Vec::new();
    }
    let mut inner = vec![0x08];
    varint(&mut inner, refused.points);
    inner.push(0x12);
    varint(&mut inner, refused.why.len() as u64);
    inner.extend_from_slice(refused.why.as_bytes());
    let mut outer = vec![0x0a];
    varint(&mut outer, inner.len() as u64);
    outer.extend(inner);
    outer
}

fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "wire-size", "the body is too large")
            }
            status => Self::new(status, "body", "the body did not arrive whole"),
        }
    }
}

impl From<JsonError> for Problem {
    fn from(error: JsonError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", error)
    }
}

impl From<DecodeError> for Problem {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::TooLarge(_) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "inflated-size", error),
            DecodeError::Inflate(_) => Self::new(StatusCode::BAD_REQUEST, "inflate", error),
            DecodeError::Malformed(_) => Self::new(StatusCode::BAD_REQUEST, "malformed", error),
            DecodeError::Resource(_) => Self::new(StatusCode::BAD_REQUEST, "resource", error),
        }
    }
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Submit(journal::SubmitError::Full { .. }) => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "overload", "the log is behind").retry_after(1)
            }
            AppendError::Submit(journal::SubmitError::TooLarge { .. }) => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "size", "the batch is too large for the log")
            }
            _ => Self::new(StatusCode::SERVICE_UNAVAILABLE, "log", "the log takes nothing now").retry_after(5),
        }
    }
}
