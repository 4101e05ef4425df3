//! `POST /v1/metrics`: OTLP over HTTP, protobuf or JSON. A batch is answered with 200 only after it is durable.

use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use runtime::meters::Meters;
use runtime::own::SPANS;
use telemetry::otlp::{HEADER_AGENT, HEADER_BOOT, HEADER_SEQUENCE};
use telemetry::{Boot, Origin, Sequence};
use tokio::time::timeout;
use tracing::{Instrument as _, info_span};

use crate::admission::{Gate, Ticket};
use crate::config::Limits;
use crate::decode::Refused;
use crate::entry::Encoding;
use crate::json;
use crate::marks::Alarm;
use crate::meters::Ingested;
use crate::problem::Problem;
use crate::unpack::{Form, News, Packed, Taken, Unpack};

/// More batches than any boot will send.
const MAX_SEQUENCE: u64 = 1 << 62;
/// What is let in has room kept for it, so it must come.
const BODY: Duration = Duration::from_secs(10);

/// What a batch needs on its way in.
#[derive(Clone, Debug)]
pub struct Ingest {
    gate: Gate,
    unpack: Unpack,
    alarm: Alarm,
    limits: Limits,
    meters: Ingested,
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
pub async fn export(State(ingest): State<Ingest>, request: Request) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let as_asked = async {
        let (form, encoding) = (form(&head.headers)?, encoding(head.headers.get(header::CONTENT_ENCODING))?);
        let origin = origin(&head.headers)?;
        let (body, ticket) = ingest.receive(body).await?;
        let refused = ingest.take(Packed { origin, form, encoding, body, ticket }).await?;
        Ok((form, refused))
    };
    let (form, refused) = ingest.counted(as_asked).await?;
    Ok(match form {
        Form::Protobuf => {
            ([(header::CONTENT_TYPE, "application/x-protobuf")], partial_success(&refused)).into_response()
        }
        Form::Json => Json(json::partial_success(&refused)).into_response(),
    })
}

impl Ingest {
    pub fn new(gate: Gate, unpack: Unpack, alarm: Alarm, limits: Limits, meters: &Meters) -> Self {
        Self { gate, unpack, alarm, limits, meters: Ingested::new(meters) }
    }

    /// Lets a body in and reads it. Nothing of it is kept where there is no room.
    pub async fn receive(&self, body: Body) -> Result<(Bytes, Ticket), Problem> {
        let most = self.limits.wire_bytes;
        let too_large = || Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "wire-size", "the body is too large");
        let length = body.size_hint().exact().map_or(most, |length| length as usize);
        if length > most {
            return Err(too_large());
        }
        let body = Limited::new(body, most);
        let ticket = match self.gate.enter(length) {
            Ok(ticket) => ticket,
            Err(overload) => {
                // Heard out, or else its sender would see a connection that breaks and not when to come again.
                let passed = timeout(BODY, body.into_data_stream().for_each(async |_| {}));
                drop(passed.await);
                return Err(overload.into());
            }
        };
        match timeout(BODY, body.collect()).await {
            Ok(Ok(body)) => Ok((body.to_bytes(), ticket)),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(_)) => Err(Problem::new(StatusCode::BAD_REQUEST, "body", "the body did not arrive whole")),
            Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body", "the body did not arrive in 10 s")),
        }
    }

    /// Resolves once the batch is durable.
    pub async fn take(&self, packed: Packed) -> Result<Refused, Problem> {
        let bytes = packed.body.len();
        let taking = async {
            let Taken { refused, pending, news } = self.unpack.take(packed).await?;
            if let Some(pending) = pending {
                pending.durable().instrument(info_span!(target: SPANS, "append")).await?;
            }
            if news == News::Bad {
                self.alarm.notify_one();
            }
            Ok(refused)
        };
        let refused = taking.instrument(info_span!(target: SPANS, "ingest", bytes)).await;
        refused.inspect(|refused| self.meters.taken(bytes, refused.points))
    }

    /// Counts what a request is refused for, whoever carried it.
    pub async fn counted<T>(&self, request: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
        request.await.inspect_err(|problem| self.meters.refused(problem.code))
    }
}

/// What an agent calls its batch. A batch from anyone else has no name.
///
/// HTTP's headers or gRPC's metadata hold it.
pub fn origin(headers: &HeaderMap) -> Result<Option<Origin>, Problem> {
    let names = [HEADER_AGENT, HEADER_BOOT, HEADER_SEQUENCE];
    let [Some(agent), Some(boot), Some(sequence)] = names.map(|name| headers.get(name)) else {
        if names.iter().any(|name| headers.contains_key(*name)) {
            let detail = format!("headers {}: all of them or none", names.join(", "));
            return Err(Problem::new(StatusCode::BAD_REQUEST, "header", detail));
        }
        return Ok(None);
    };
    let agent = text(HEADER_AGENT, agent)?.parse().map_err(|error| bad_header(HEADER_AGENT, error))?;
    let boot: Boot = text(HEADER_BOOT, boot)?.parse().map_err(|error| bad_header(HEADER_BOOT, error))?;
    let sequence =
        text(HEADER_SEQUENCE, sequence)?.parse().ok().filter(|sequence| (1..=MAX_SEQUENCE).contains(sequence));
    let sequence = Sequence(sequence.ok_or_else(|| bad_header(HEADER_SEQUENCE, "a whole number from 1"))?);
    Ok(Some(Origin { agent, boot, sequence }))
}

pub fn encoding(named: Option<&header::HeaderValue>) -> Result<Encoding, Problem> {
    match named.map(header::HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(Encoding::Identity),
        Some(b"zstd") => Ok(Encoding::Zstd),
        Some(b"gzip") => Ok(Encoding::Gzip),
        Some(_) => {
            let detail = "the encoding of the content: zstd, gzip or none";
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
