//! OTLP over gRPC, on the port of everything else. A message is handed on as bytes, the three names come as metadata, and what
//! is taken or refused is decided where HTTP's is.
//!
//! A refusal keeps its reason: 400 and 415 are `INVALID_ARGUMENT`, 409 `ALREADY_EXISTS`, 413 `RESOURCE_EXHAUSTED`, 429 and
//! 503 `UNAVAILABLE`. OTLP's clients send again after the last only: after `RESOURCE_EXHAUSTED` they would need a `RetryInfo`.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use axum::response::Response;
use bytes::{Buf as _, BufMut as _};
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, UnaryService};
use tonic::{Code, Status};

use crate::entry::Encoding;
use crate::ingest::{Ingest, partial_success};
use crate::problem::Problem;

const SERVICE: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/{*method}";
const EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

pub fn router(ingest: Ingest) -> Router {
    let service = tower::service_fn(move |request| {
        let ingest = ingest.clone();
        async move { Ok::<_, Infallible>(answer(ingest, request).await) }
    });
    Router::new().route_service(SERVICE, service)
}

async fn answer(ingest: Ingest, request: Request<Body>) -> Response {
    if request.uri().path() != EXPORT {
        return Status::unimplemented("only Export is here").into_http();
    }
    let mut grpc = Grpc::new(Raw)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .max_decoding_message_size(ingest.limits.inflated_bytes);
    let answer = grpc.unary(Export(ingest), request).await;
    match Status::from_header_map(answer.headers()) {
        // Tonic's word for a message that is too large; OTLP's clients would send it again for ever.
        Some(status) if status.code() == Code::OutOfRange => Status::resource_exhausted(status.message()).into_http(),
        _ => answer.map(Body::new),
    }
}

struct Export(Ingest);

impl UnaryService<Bytes> for Export {
    type Response = Bytes;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Bytes>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let ingest = self.0.clone();
        Box::pin(async move {
            let (metadata, _, body) = request.into_parts();
            let refused = ingest.export(metadata.as_ref(), Encoding::Identity, &body).await?;
            Ok(tonic::Response::new(partial_success(&refused).into()))
        })
    }
}

/// A codec of messages as they stand on the wire.
#[derive(Debug, Clone, Copy)]
pub struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let code = match problem.status {
            StatusCode::CONFLICT => Code::AlreadyExists,
            StatusCode::PAYLOAD_TOO_LARGE => Code::ResourceExhausted,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
            _ => Code::InvalidArgument,
        };
        Self::new(code, format!("{}: {}", problem.code, problem.detail))
    }
}
