//! Builds a batch. It is encoded once; what is sent again is the same bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;

use super::{
    AGENT_LATENESS, AGENT_NOISE_FLOOR, AGENT_SPOOL_BATCHES, AGENT_SPOOL_BYTES, AGENT_SPOOL_GAP, PORTS_LOSING,
    PROBE_DURATION, PROBE_MISSED, TLS_NOT_AFTER, attribute,
};
use crate::histogram::Histogram;
use crate::names::{AgentId, RegionName};
use crate::series::{Gap, Series, Standing};
use crate::time::{UnixSeconds, Wall};
use crate::window::{Outcome, Window};

/// Who sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    pub agent: AgentId,
    pub source: RegionName,
    pub zone: Option<String>,
    pub version: String,
}

/// A series and what else its points say of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub series: Series,
    pub address: String,
    pub port: Option<u16>,
    /// `udp`, `tcp` or `icmp`.
    pub transport: &'static str,
}

/// One closed window of one series.
#[derive(Debug, Clone)]
pub struct Measured {
    pub subject: Arc<Subject>,
    pub window: Window,
}

/// What a target showed in a handshake: when the first of its certificates ends.
#[derive(Debug, Clone)]
pub struct Certificate {
    pub subject: Arc<Subject>,
    pub not_after: UnixSeconds,
    pub seen: Wall,
}

/// The share of a probe's source ports that lose what goes out from them.
#[derive(Debug, Clone)]
pub struct LosingPorts {
    pub subject: Arc<Subject>,
    pub share: f64,
    pub seen: Wall,
}

/// Probes of a series that were not sent, or are not known to have been, since the last batch.
#[derive(Debug, Clone)]
pub struct Missed {
    pub subject: Arc<Subject>,
    pub reason: &'static str,
    pub count: u64,
}

/// How the agent itself fared since its last batch, and what it learned beside what it measured.
#[derive(Debug, Clone, Default)]
pub struct AgentHealth {
    /// How long after it was due each probe was sent.
    pub lateness: Histogram,
    /// How long its probes of itself took.
    pub noise_floor: Histogram,
    pub certificates: Vec<Certificate>,
    pub losing_ports: Vec<LosingPorts>,
    pub missed: Vec<Missed>,
    pub spool_batches: u64,
    pub spool_bytes: u64,
    pub gaps: Vec<Gap>,
    pub begin: Wall,
    pub end: Wall,
}

pub fn encode(sender: &Sender, measured: &[Measured], health: &AgentHealth) -> Vec<u8> {
    let durations = measured.iter().flat_map(|measured| {
        let Window { begin, end, outcomes } = &measured.window;
        outcomes.iter().map(|(outcome, histogram)| {
            let attributes = point_attributes(&measured.subject, *outcome);
            exponential_point(*begin, *end, histogram, attributes)
        })
    });
    let own = |histogram| vec![exponential_point(health.begin, health.end, histogram, Vec::new())];
    let count = |value: u64| {
        let value = number_data_point::Value::AsInt(i64::try_from(value).unwrap_or(i64::MAX));
        vec![number_point(health.end, value, Vec::new())]
    };
    let mut metrics = vec![
        exponential(PROBE_DURATION, durations.collect()),
        exponential(AGENT_LATENESS, own(&health.lateness)),
        exponential(AGENT_NOISE_FLOOR, own(&health.noise_floor)),
        gauge(AGENT_SPOOL_BATCHES, "{batch}", count(health.spool_batches)),
        gauge(AGENT_SPOOL_BYTES, "By", count(health.spool_bytes)),
    ];
    if !health.certificates.is_empty() {
        let end = |Certificate { subject, not_after, seen }: &Certificate| {
            number_point(*seen, number_data_point::Value::AsInt(not_after.0), target_attributes(subject))
        };
        metrics.push(gauge(TLS_NOT_AFTER, "s", health.certificates.iter().map(end).collect()));
    }
    if !health.losing_ports.is_empty() {
        let share = |LosingPorts { subject, share, seen }: &LosingPorts| {
            let mut attributes = target_attributes(subject);
            attributes.push(text(attribute::PHASE, subject.series.phase.as_str()));
            number_point(*seen, number_data_point::Value::AsDouble(*share), attributes)
        };
        metrics.push(gauge(PORTS_LOSING, "1", health.losing_ports.iter().map(share).collect()));
    }
    if !health.missed.is_empty() {
        let missed = |Missed { subject, reason, count }: &Missed| {
            let mut attributes = target_attributes(subject);
            attributes.push(text(attribute::PHASE, subject.series.phase.as_str()));
            attributes.push(text(attribute::ERROR, reason));
            let value = number_data_point::Value::AsInt(i64::try_from(*count).unwrap_or(i64::MAX));
            let start_time_unix_nano = health.begin.0;
            NumberDataPoint { start_time_unix_nano, ..number_point(health.end, value, attributes) }
        };
        metrics.push(sum(PROBE_MISSED, "{probe}", health.missed.iter().map(missed).collect()));
    }
    if !health.gaps.is_empty() {
        let lost = |Gap { boot, from, to }: &Gap| {
            let batches = (to.0.saturating_sub(from.0)).saturating_add(1);
            let value = number_data_point::Value::AsInt(i64::try_from(batches).unwrap_or(i64::MAX));
            let sequence = |key, number: u64| text(key, &number.to_string());
            let names = [sequence(attribute::FROM, from.0), sequence(attribute::TO, to.0)];
            let attributes = std::iter::once(text(attribute::BOOT, &boot.to_string())).chain(names).collect();
            number_point(health.end, value, attributes)
        };
        metrics.push(gauge(AGENT_SPOOL_GAP, "{batch}", health.gaps.iter().map(lost).collect()));
    }
    request(resource_attributes(sender), metrics).encode_to_vec()
}

pub(super) fn exponential(name: &str, data_points: Vec<ExponentialHistogramDataPoint>) -> Metric {
    let aggregation_temporality = AggregationTemporality::Delta as i32;
    let data = metric::Data::ExponentialHistogram(ExponentialHistogram { data_points, aggregation_temporality });
    Metric { name: name.to_owned(), unit: "s".to_owned(), data: Some(data), ..Metric::default() }
}

fn gauge(name: &str, unit: &str, data_points: Vec<NumberDataPoint>) -> Metric {
    let data = Some(metric::Data::Gauge(Gauge { data_points }));
    Metric { name: name.to_owned(), unit: unit.to_owned(), data, ..Metric::default() }
}

fn sum(name: &str, unit: &str, data_points: Vec<NumberDataPoint>) -> Metric {
    let aggregation_temporality = AggregationTemporality::Delta as i32;
    let data = Some(metric::Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic: true }));
    Metric { name: name.to_owned(), unit: unit.to_owned(), data, ..Metric::default() }
}

fn number_point(time: Wall, value: number_data_point::Value, attributes: Vec<KeyValue>) -> NumberDataPoint {
    NumberDataPoint { attributes, time_unix_nano: time.0, value: Some(value), ..NumberDataPoint::default() }
}

pub(super) fn exponential_point(
    begin: Wall,
    end: Wall,
    histogram: &Histogram,
    attributes: Vec<KeyValue>,
) -> ExponentialHistogramDataPoint {
    ExponentialHistogramDataPoint {
        attributes,
        start_time_unix_nano: begin.0,
        time_unix_nano: end.0,
        count: histogram.count(),
        scale: i32::from(histogram.scale()),
        zero_count: u64::from(histogram.zeros()),
        positive: Some(dense(histogram)),
        ..ExponentialHistogramDataPoint::default()
    }
}

/// OTLP's buckets are dense between the lowest and the highest.
fn dense(histogram: &Histogram) -> Buckets {
    let buckets: BTreeMap<i32, u64> =
        histogram.buckets().iter().map(|bucket| (bucket.index, u64::from(bucket.count))).collect();
    let (Some((&first, _)), Some((&last, _))) = (buckets.first_key_value(), buckets.last_key_value()) else {
        return Buckets::default();
    };
    let bucket_counts = (first..=last).map(|index| buckets.get(&index).copied().unwrap_or(0)).collect();
    Buckets { offset: first, bucket_counts }
}

/// One resource and what is told of it.
pub(super) fn request(resource: Vec<KeyValue>, metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let scope = InstrumentationScope { name: "isochrone".to_owned(), ..InstrumentationScope::default() };
    let resource = Resource { attributes: resource, ..Resource::default() };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource),
            scope_metrics: vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }],
            ..ResourceMetrics::default()
        }],
    }
}

fn resource_attributes(sender: &Sender) -> Vec<KeyValue> {
    let mut attributes = vec![
        text(attribute::SERVICE_NAME, "isochrone-agent"),
        text(attribute::INSTANCE, sender.agent.as_str()),
        text(attribute::VERSION, &sender.version),
        text(attribute::SOURCE, sender.source.as_str()),
    ];
    attributes.extend(sender.zone.as_deref().map(|zone| text(attribute::ZONE, zone)));
    attributes
}

fn point_attributes(subject: &Subject, outcome: Outcome) -> Vec<KeyValue> {
    let mut attributes = target_attributes(subject);
    attributes.extend(outcome_attributes(&subject.series, outcome));
    attributes
}

/// What tells the point from others to the same target.
pub(super) fn outcome_attributes(series: &Series, outcome: Outcome) -> Vec<KeyValue> {
    let mut attributes = vec![text(attribute::PHASE, series.phase.as_str())];
    let standing = match series.standing {
        Standing::Regular => None,
        Standing::Confirming => Some(attribute::CONFIRM),
        Standing::Suspect => Some(attribute::SUSPECT),
    };
    attributes.extend(standing.map(|key| key_value(key, any_value::Value::BoolValue(true))));
    attributes.extend(series.labels.iter().map(|(label, value)| text(label.attribute(), value.as_str())));
    if let Outcome::Failure(kind) = outcome {
        attributes.push(text(attribute::ERROR, kind.as_str()));
    }
    attributes
}

/// Of what a probe goes to, without what it measures there.
fn target_attributes(subject: &Subject) -> Vec<KeyValue> {
    let Subject { series, address, port, transport } = subject;
    let mut attributes = vec![
        text(attribute::TARGET, series.target.as_str()),
        text(attribute::REGION, series.region.as_str()),
        text(attribute::SERVICE, series.service.as_str()),
        text(attribute::PROBE, series.probe.as_str()),
        text(attribute::ADDRESS, address),
        text(attribute::TRANSPORT, transport),
        text(attribute::FAMILY, series.family.as_str()),
    ];
    attributes.extend(port.map(|port| key_value(attribute::PORT, any_value::Value::IntValue(i64::from(port)))));
    attributes
}

pub(super) fn text(key: &str, value: &str) -> KeyValue {
    key_value(key, any_value::Value::StringValue(value.to_owned()))
}

fn key_value(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
