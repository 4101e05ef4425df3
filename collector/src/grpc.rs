//! OTLP over gRPC, on the port of everything else. A call carries one message, which is handed on as it came: it is opened where
//! HTTP's are, and what is taken or refused is decided there.
//!
//! A refusal keeps its reason: 400 is `INVALID_ARGUMENT`, 408 and 503 `UNAVAILABLE`, 409 `ALREADY_EXISTS`, 413 and 429
//! `RESOURCE_EXHAUSTED`, 415 `UNIMPLEMENTED`. Those that pass say with a `RetryInfo` when to come again: after `RESOURCE_EXHAUSTED` OTLP's clients come
//! again only where there is one.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::{Buf as _, BufMut as _, BytesMut};
use http_body_util::{BodyExt as _, Full};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::decode::Refused;
use crate::entry::Encoding;
use crate::ingest::{Ingest, encoding, origin, partial_success};
use crate::problem::Problem;
use crate::unpack::{Form, Packed};

const SERVICE: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/{*method}";
const EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const CONTENT: HeaderValue = HeaderValue::from_static("application/grpc");
const ACCEPTED: HeaderValue = HeaderValue::from_static("identity,gzip,zstd");

pub fn router(ingest: Ingest) -> Router {
    let service = tower::service_fn(move |request| {
        let ingest = ingest.clone();
        async move { Ok::<_, Infallible>(answer(&ingest, request).await) }
    });
    Router::new().route_service(SERVICE, service)
}

async fn answer(ingest: &Ingest, request: Request<Body>) -> Response {
    if request.uri().path() != EXPORT {
        return Status::unimplemented("only Export is here").into_http();
    }
    match ingest.counted(export(ingest, request)).await {
        Ok(refused) => success(&partial_success(&refused)),
        Err(problem) => {
            let mut refusal: Response = Status::from(problem).into_http();
            refusal.headers_mut().insert("grpc-accept-encoding", ACCEPTED);
            refusal
        }
    }
}

async fn export(ingest: &Ingest, request: Request<Body>) -> Result<Refused, Problem> {
    let (head, body) = request.into_parts();
    let (named, origin) = (encoding(head.headers.get("grpc-encoding"))?, origin(&head.headers)?);
    let (frame, ticket) = ingest.receive(body).await?;
    let (encoding, body) = message(frame, named)?;
    ingest.take(Packed { origin, form: Form::Protobuf, encoding, body, ticket }).await
}

/// Of the one frame of a call: a byte that says whether it is compressed, its length in four, itself.
fn message(mut frame: Bytes, named: Encoding) -> Result<(Encoding, Bytes), Problem> {
    let malformed = || Problem::new(StatusCode::BAD_REQUEST, "malformed", "the call is not one gRPC message");
    let compressed = frame.try_get_u8().map_err(|_| malformed())?;
    let length = frame.try_get_u32().map_err(|_| malformed())?;
    if length as usize != frame.len() {
        return Err(malformed());
    }
    match (compressed, named) {
        (0, _) => Ok((Encoding::Identity, frame)),
        (1, Encoding::Gzip | Encoding::Zstd) => Ok((named, frame)),
        _ => Err(malformed()),
    }
}

fn success(message: &[u8]) -> Response {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(message);
    let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from(Code::Ok as i32))]);
    let body = Full::new(frame.freeze()).with_trailers(std::future::ready(Some(Ok(trailers))));
    ([(header::CONTENT_TYPE, CONTENT)], Body::new(body)).into_response()
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let code = match problem.status {
            StatusCode::CONFLICT => Code::AlreadyExists,
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => Code::ResourceExhausted,
            StatusCode::REQUEST_TIMEOUT | StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::Unimplemented,
            _ => Code::InvalidArgument,
        };
        let message = format!("{}: {}", problem.code, problem.detail);
        let Some(seconds) = problem.retry_after_s else { return Self::new(code, message) };
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(seconds.into())));
        Self::with_error_details(code, message, details)
    }
}
