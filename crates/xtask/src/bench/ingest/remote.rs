//! Prometheus' remote write: of its messages what is sent here.

use anyhow::Context as _;
use prost::Message as _;

use super::load::Batch;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub(super) labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub(super) samples: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    pub(super) histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Label {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Sample {
    #[prost(double, tag = "1")]
    pub(super) value: f64,
    /// In milliseconds.
    #[prost(int64, tag = "2")]
    pub(super) timestamp: i64,
}

/// A native histogram of whole counts.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Histogram {
    #[prost(uint64, tag = "1")]
    pub(super) count: u64,
    #[prost(double, tag = "3")]
    pub(super) sum: f64,
    #[prost(sint32, tag = "4")]
    pub(super) schema: i32,
    #[prost(double, tag = "5")]
    pub(super) zero_threshold: f64,
    #[prost(uint64, tag = "6")]
    pub(super) zero_count: u64,
    #[prost(message, repeated, tag = "11")]
    pub(super) positive_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "12")]
    pub(super) positive_deltas: Vec<i64>,
    #[prost(int64, tag = "15")]
    pub(super) timestamp: i64,
}

/// Neighbouring buckets: how many, and how far behind those before.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct BucketSpan {
    #[prost(sint32, tag = "1")]
    pub(super) offset: i32,
    #[prost(uint32, tag = "2")]
    pub(super) length: u32,
}

impl WriteRequest {
    pub(super) fn batch(&self) -> anyhow::Result<Batch> {
        let headers = vec![
            ("content-type", "application/x-protobuf".to_owned()),
            ("content-encoding", "snappy".to_owned()),
            ("x-prometheus-remote-write-version", "0.1.0".to_owned()),
        ];
        let body = snap::raw::Encoder::new().compress_vec(&self.encode_to_vec()).context("compress a batch")?;
        Ok(Batch { headers, body })
    }
}

/// With the metric's name, in order.
pub(super) fn labels(metric: &str, labels: impl IntoIterator<Item = (String, String)>) -> Vec<Label> {
    let name = ("__name__".to_owned(), metric.to_owned());
    let mut labels: Vec<_> = [name].into_iter().chain(labels).map(|(name, value)| Label { name, value }).collect();
    labels.sort_by(|one, other| one.name.cmp(&other.name));
    labels
}
