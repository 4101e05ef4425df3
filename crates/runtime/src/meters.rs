//! Our own meters: instruments of the OpenTelemetry SDK, read on demand and written as Prometheus text.

use std::fmt::Display;
use std::sync::{Arc, Weak};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, Metric, MetricData, ResourceMetrics, ScopeMetrics};
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{InstrumentKind, ManualReader, Pipeline, SdkMeterProvider, Temporality};

/// The SDK's provider and a reader that answers when asked.
#[derive(Debug, Clone)]
pub struct Meters {
    provider: SdkMeterProvider,
    reader: Shared,
}

impl Meters {
    pub fn new(program: &'static str) -> Self {
        Self::with_resource(Resource::builder_empty().with_service_name(program).build(), None::<Shared>)
    }

    /// The same, and what is measured goes to another reader as well.
    pub(crate) fn with_resource(resource: Resource, also: Option<impl MetricReader>) -> Self {
        let reader = Shared::default();
        let provider = SdkMeterProvider::builder().with_resource(resource).with_reader(reader.clone());
        let provider = if let Some(also) = also { provider.with_reader(also) } else { provider }.build();
        Self { provider, reader }
    }

    /// Nothing is measured after it; readers tell what they have.
    pub(crate) fn shutdown(&self) -> OTelSdkResult {
        self.provider.shutdown()
    }

    pub fn meter(&self, name: &'static str) -> Meter {
        self.provider.meter(name)
    }

    /// The Prometheus text format, version 0.0.4.
    pub fn render(&self) -> String {
        let mut metrics = ResourceMetrics::default();
        if let Err(error) = self.reader.collect(&mut metrics) {
            tracing::warn!(%error, "cannot read our own meters");
        }
        let mut text = String::new();
        for metric in metrics.scope_metrics().flat_map(ScopeMetrics::metrics) {
            render_metric(&mut text, metric);
        }
        text
    }
}

fn render_metric(text: &mut String, metric: &Metric) {
    match metric.data() {
        AggregatedMetrics::F64(data) => render_data(text, metric, data),
        AggregatedMetrics::U64(data) => render_data(text, metric, data),
        AggregatedMetrics::I64(data) => render_data(text, metric, data),
    }
}

/// Histograms of our own go out by OTLP, not here: classic buckets would blur what they measure.
fn render_data<T: Display + Copy>(text: &mut String, metric: &Metric, data: &MetricData<T>) {
    match data {
        MetricData::Sum(sum) if sum.is_monotonic() => {
            let name = head(text, metric, "counter", "_total");
            sum.data_points().for_each(|point| sample(text, &name, point.attributes(), point.value()));
        }
        MetricData::Sum(sum) => {
            let name = head(text, metric, "gauge", "");
            sum.data_points().for_each(|point| sample(text, &name, point.attributes(), point.value()));
        }
        MetricData::Gauge(gauge) => {
            let name = head(text, metric, "gauge", "");
            gauge.data_points().for_each(|point| sample(text, &name, point.attributes(), point.value()));
        }
        MetricData::Histogram(_) | MetricData::ExponentialHistogram(_) => {}
    }
}

/// `isochrone.ingest.bytes`, unit `By` → `isochrone_ingest_bytes_total`.
fn head(text: &mut String, metric: &Metric, kind: &str, suffix: &str) -> String {
    let unit = match metric.unit() {
        "s" => "_seconds",
        "By" => "_bytes",
        _ => "",
    };
    let base = metric.name().replace('.', "_");
    let unit = if base.ends_with(unit) { "" } else { unit };
    let name = format!("{base}{unit}{suffix}");
    text.extend([format!("# HELP {name} {}\n# TYPE {name} {kind}\n", metric.description())]);
    name
}

fn sample<'a>(text: &mut String, name: &str, labels: impl Iterator<Item = &'a KeyValue>, value: impl Display) {
    let labels: Vec<_> = labels.map(|label| format!("{}=\"{}\"", label_name(label), label_value(label))).collect();
    let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
    text.extend([format!("{name}{labels} {value}\n")]);
}

fn label_name(label: &KeyValue) -> String {
    label.key.as_str().replace('.', "_")
}

fn label_value(label: &KeyValue) -> String {
    label.value.to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The SDK takes its reader by value; this lets us keep one end of it.
#[derive(Debug, Clone, Default)]
struct Shared(Arc<ManualReader>);

impl MetricReader for Shared {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_gauges_are_written_as_prometheus_reads_them() {
        let meters = Meters::new("test");
        let meter = meters.meter("test");
        let refused = meter.u64_counter("isochrone.ingest.refused").with_description("Batches refused.").build();
        refused.add(2, &[KeyValue::new("reason", "too \"big\"")]);
        meter.f64_gauge("isochrone.log.age").with_unit("s").with_description("Age.").build().record(1.5, &[]);
        insta::assert_snapshot!(meters.render());
    }
}
