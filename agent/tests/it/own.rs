//! The agent's own metrics and spans, from the real binary to an OTLP endpoint.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use axum::{Router, serve};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, metric, number_data_point};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::collector::{Collector, until};
use crate::commands::{Running, agent_file, run};

/// What an OTLP endpoint was sent.
#[derive(Clone, Default)]
pub(crate) struct Receiver(Arc<Mutex<Received>>);

#[derive(Default)]
struct Received {
    metrics: Vec<ExportMetricsServiceRequest>,
    traces: Vec<ExportTraceServiceRequest>,
}

impl Receiver {
    pub(crate) async fn listen(&self, tasks: &mut JoinSet<()>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let metrics = async |State(receiver): State<Self>, body: Bytes| {
            receiver.0.lock().unwrap().metrics.push(ExportMetricsServiceRequest::decode(body).unwrap());
        };
        let traces = async |State(receiver): State<Self>, body: Bytes| {
            receiver.0.lock().unwrap().traces.push(ExportTraceServiceRequest::decode(body).unwrap());
        };
        let app = Router::new().route("/v1/metrics", post(metrics)).route("/v1/traces", post(traces));
        let app = app.with_state(self.clone());
        tasks.spawn(async move { serve(listener, app).await.unwrap() });
        url
    }

    fn metrics(&self) -> Vec<String> {
        let received = self.0.lock().unwrap();
        let resources = received.metrics.iter().flat_map(|request| &request.resource_metrics);
        let metrics = resources.flat_map(|resource| &resource.scope_metrics).flat_map(|scope| &scope.metrics);
        metrics.map(|metric| metric.name.clone()).collect()
    }

    /// What a counter of ours stood at when it was last told, by the value of its one attribute.
    pub(crate) fn counted(&self, name: &str) -> BTreeMap<String, u64> {
        let received = self.0.lock().unwrap();
        let resources = received.metrics.iter().flat_map(|request| &request.resource_metrics);
        let metrics = resources.flat_map(|resource| &resource.scope_metrics).flat_map(|scope| &scope.metrics);
        let mut counted = BTreeMap::new();
        for metric in metrics.filter(|metric| metric.name == name) {
            let Some(metric::Data::Sum(sum)) = &metric.data else { panic!("{metric:?}") };
            assert_eq!(sum.aggregation_temporality, AggregationTemporality::Cumulative as i32);
            for point in &sum.data_points {
                let Some(number_data_point::Value::AsInt(value)) = point.value else { panic!("{point:?}") };
                counted.insert(text(&point.attributes[0]), value.cast_unsigned());
            }
        }
        counted
    }

    fn spans(&self) -> Vec<String> {
        let received = self.0.lock().unwrap();
        let resources = received.traces.iter().flat_map(|request| &request.resource_spans);
        let spans = resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| &scope.spans);
        spans.map(|span| span.name.clone()).collect()
    }

    /// Each as `service.name=isochrone-agent`.
    fn resources(&self) -> Vec<Vec<String>> {
        let received = self.0.lock().unwrap();
        let metrics = received.metrics.iter().flat_map(|request| &request.resource_metrics);
        let spans = received.traces.iter().flat_map(|request| &request.resource_spans);
        let of = |resource: &Resource| {
            let attribute = |attribute: &KeyValue| format!("{}={}", attribute.key, text(attribute));
            let mut all: Vec<_> = resource.attributes.iter().map(attribute).collect();
            all.sort();
            all
        };
        let metrics = metrics.map(|resource| of(resource.resource.as_ref().unwrap()));
        metrics.chain(spans.map(|resource| of(resource.resource.as_ref().unwrap()))).collect()
    }
}

fn text(attribute: &KeyValue) -> String {
    let value = attribute.value.clone().unwrap().value.unwrap();
    let any_value::Value::StringValue(text) = value else { panic!("{value:?}") };
    text
}

/// An agent that probes a port on which nothing answers, and exports to there.
fn exporting(folder: &TempDir, collector: &str, otlp: &str) -> Running {
    exporting_about(folder, "127.0.0.1:9", collector, otlp)
}

/// An agent that probes voice at that address, patiently, and exports to there.
pub(crate) fn exporting_about(folder: &TempDir, address: &str, collector: &str, otlp: &str) -> Running {
    let file = agent_file(folder, collector, address, ["200ms", "50ms"]);
    let text = fs::read_to_string(&file).unwrap();
    let mut text = text.replace("kind = \"voice\"\n", "kind = \"voice\"\ntimeout = \"20s\"\n");
    write!(text, "[telemetry]\notlp = \"{otlp}\"\nevery = \"100ms\"\n").unwrap();
    fs::write(&file, text).unwrap();
    run(&file)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_agents_own_metrics_and_a_span_for_each_push_reach_an_otlp_endpoint() {
    let (folder, mut outside) = (TempDir::new().unwrap(), JoinSet::new());
    let (collector, receiver) = (Collector::default(), Receiver::default());
    let (url, otlp) = (collector.listen(&mut outside).await, receiver.listen(&mut outside).await);
    let agent = exporting(&folder, &url, &otlp);
    until("metrics and spans", || {
        let metrics = receiver.metrics();
        let has = |name: &str| metrics.iter().any(|metric| metric == name);
        has("isochrone.agent.probe.sent") && has("isochrone.agent.push.batches") && !receiver.spans().is_empty()
    })
    .await;
    let (code, log) = agent.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(receiver.spans().iter().all(|name| name == "push"), "{:?}", receiver.spans());
    let version = concat!("service.version=", env!("CARGO_PKG_VERSION"));
    for resource in receiver.resources() {
        assert_eq!(resource, ["service.instance.id=fra-1", "service.name=isochrone-agent", version]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_endpoint_that_is_dead_is_told_of_once_and_holds_up_nothing() {
    let (folder, mut outside, collector) = (TempDir::new().unwrap(), JoinSet::new(), Collector::default());
    let url = collector.listen(&mut outside).await;
    // It takes connections and never says anything.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let agent = exporting(&folder, &url, &format!("http://{}", silent.local_addr().unwrap()));
    until("batches all the same", || collector.requests().len() >= 5).await;
    let (code, log) = agent.stop();
    assert_eq!(code, Some(0), "{log}");

    let closed = TempDir::new().unwrap();
    let agent = exporting(&closed, &url, "http://127.0.0.1:1");
    let before = collector.requests().len();
    until("more batches", || collector.requests().len() >= before + 5).await;
    let (code, log) = agent.stop();
    assert_eq!(code, Some(0), "{log}");
    for signal in ["metrics", "traces"] {
        let told = |line: &&str| line.contains("does not arrive") && line.contains(&format!("\"signal\":\"{signal}\""));
        assert_eq!(log.lines().filter(told).count(), 1, "{signal}: {log}");
    }
}
