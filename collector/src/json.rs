//! OTLP in JSON: read into protobuf, so that what is walked, logged and replayed has one form.
//!
//! 64-bit numbers come as strings or as numbers, names in camel case, enums as numbers (OTLP 1.x, JSON Protobuf Encoding).

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message as _;
use serde::Serialize;
use utoipa::ToSchema;

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
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ExportMetricsServiceResponse)]
pub struct Response {
    /// Only where something was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    partial_success: Option<PartialSuccess>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PartialSuccess {
    /// A whole number: OTLP writes 64 bits as text.
    rejected_data_points: String,
    /// Why the first of them was refused.
    error_message: String,
}

pub fn partial_success(refused: &Refused) -> Response {
    let Refused { points, why } = refused;
    let partial = || PartialSuccess { rejected_data_points: points.to_string(), error_message: why.clone() };
    Response { partial_success: (*points > 0).then(partial) }
}
