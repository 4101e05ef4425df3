//! OTLP in JSON: read into protobuf, so that what is walked, logged and replayed has one form.
//!
//! 64-bit numbers come as strings or as numbers, names in camel case, enums as numbers (OTLP 1.x, JSON Protobuf Encoding).

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message as _;
use serde_json::{Value, json};

use crate::decode::Refused;

#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    #[error("the body is not an OTLP ExportMetricsServiceRequest in JSON: {0}")]
    Parse(#[from] serde_json::Error),
    /// The parser passes over data that it cannot read; points must not vanish that way.
    #[error("metric \"{0}\" has no data that can be read")]
    NoData(String),
}

pub fn to_protobuf(body: &[u8]) -> Result<Vec<u8>, JsonError> {
    let request: ExportMetricsServiceRequest = serde_json::from_slice(body)?;
    let mut metrics =
        request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics).flat_map(|scope| &scope.metrics);
    if let Some(metric) = metrics.find(|metric| metric.data.is_none()) {
        return Err(JsonError::NoData(metric.name.chars().take(64).collect()));
    }
    Ok(request.encode_to_vec())
}

/// `ExportMetricsServiceResponse`.
pub fn partial_success(refused: &Refused) -> Value {
    if refused.points == 0 {
        return json!({});
    }
    json!({ "partialSuccess": { "rejectedDataPoints": refused.points.to_string(), "errorMessage": refused.why } })
}
