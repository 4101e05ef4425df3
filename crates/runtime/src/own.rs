//! Our own metrics and spans, to an OTLP endpoint, through the OpenTelemetry SDK; off unless the configuration says where to.
//!
//! Both leave from threads of the SDK's, so that an endpoint that is dead delays nobody, and the farewell is bounded. That
//! nothing arrives is told once, and once that it does again.

use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, Temporality};
use opentelemetry_sdk::trace::{self, BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanData};
use reqwest::{Url, blocking, redirect};
use tracing::{info, warn};

use crate::config::{Table, kind};
use crate::logs::{self, Format};
use crate::meters::Meters;

/// The target of the spans that go out. They are few: each batch and each snapshot has one, no probe and no hint has.
pub const SPANS: &str = "isochrone::span";

const EVERY: Duration = Duration::from_secs(30);
const ALLOWED: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(1);
const OTLP: &str = "an http or https URL, such as \"http://127.0.0.1:4318\", without query or fragment";
const TIMEOUT: Duration = Duration::from_secs(5);
/// For what is left at the end. With the drain before it, a process ends within ten seconds.
const FAREWELL: Duration = Duration::from_millis(800);

/// The table `[telemetry]` of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    otlp: Otlp,
    every: Duration,
}

/// Below it are `/v1/metrics` and `/v1/traces`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Otlp(Url);

/// Who we are, in everything that goes out.
#[derive(Debug, Clone)]
pub struct Identity {
    pub service: &'static str,
    pub instance: String,
    pub version: &'static str,
}

/// Our own telemetry, running. Kept by `main` until everything else has stopped.
#[derive(Debug)]
pub struct Own {
    pub meters: Meters,
    export: Export,
}

#[derive(Debug)]
enum Export {
    Off,
    On(SdkTracerProvider),
}

#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("build the HTTP client: {0}")]
    Client(#[from] reqwest::Error),
    #[error("build the exporter: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

impl Destination {
    /// `None`: there is no such table, or a fault was reported.
    pub fn read(root: &mut Table<'_>) -> Option<Self> {
        root.table("telemetry", |table| {
            let otlp = table.required("otlp", kind::parsed(OTLP));
            let every = table.optional("every", kind::duration()).unwrap_or(EVERY);
            if !ALLOWED.contains(&every) {
                let [found, low, high] =
                    [&every, ALLOWED.start(), ALLOWED.end()].map(|d| humantime::format_duration(*d));
                table.refuse("every", &format!("found {found}"), &format!("allowed: from {low} to {high}"));
            }
            Some(Self { otlp: otlp?, every })
        })
    }
}

impl Identity {
    /// The one process of its kind on this host.
    pub fn of_host(service: &'static str, version: &'static str) -> Self {
        let host = nix::unistd::gethostname().unwrap_or_default();
        Self { service, instance: host.to_string_lossy().into_owned(), version }
    }

    fn resource(&self) -> Resource {
        let Self { service, instance, version } = self;
        let attributes =
            [("service.name", *service), ("service.instance.id", instance.as_str()), ("service.version", *version)];
        let attributes = attributes.map(|(key, value)| KeyValue::new(key, value.to_owned()));
        Resource::builder_empty().with_attributes(attributes).build()
    }
}

impl Own {
    /// Begins the logs, and what the configuration asks for. Call once, at the start of `main`, before there is a runtime.
    pub fn start(identity: &Identity, destination: Option<&Destination>, format: Format) -> Self {
        let resource = identity.resource();
        let exporters = destination.map(|destination| Ok::<_, ExportError>((destination, destination.exporters()?)));
        let off = || Self {
            meters: Meters::with_resource(resource.clone(), None::<PeriodicReader<Told<MetricExporter>>>),
            export: Export::Off,
        };
        match exporters {
            None => {
                logs::init(format);
                off()
            }
            Some(Err(error)) => {
                logs::init(format);
                warn!(%error, "our own telemetry is off");
                off()
            }
            Some(Ok((destination, (metrics, spans)))) => {
                let metrics = PeriodicReader::builder(metrics).with_interval(destination.every).build();
                let pace = BatchConfigBuilder::default().with_scheduled_delay(destination.every).build();
                let spans = BatchSpanProcessor::builder(spans).with_batch_config(pace).build();
                let provider = SdkTracerProvider::builder().with_resource(resource.clone()).with_span_processor(spans);
                let provider = provider.build();
                logs::init_with_spans(format, provider.tracer("isochrone"));
                Self { meters: Meters::with_resource(resource, Some(metrics)), export: Export::On(provider) }
            }
        }
    }

    /// Sends what is left, for a moment.
    pub fn farewell(self) {
        let Self { meters, export: Export::On(spans) } = self else { return };
        let (done, over) = mpsc::channel();
        let farewell = move || {
            // Whoever could not be reached has been told of already.
            spans.shutdown().ok();
            meters.shutdown().ok();
            done.send(()).ok();
        };
        if thread::Builder::new().name("farewell".to_owned()).spawn(farewell).is_ok() {
            over.recv_timeout(FAREWELL).ok();
        }
    }
}

impl Destination {
    fn exporters(&self) -> Result<(Told<MetricExporter>, Told<SpanExporter>), ExportError> {
        // It fails only where a provider is installed already, and then there is one.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client =
            blocking::Client::builder().timeout(TIMEOUT).no_proxy().redirect(redirect::Policy::none()).build()?;
        let metrics = MetricExporter::builder().with_http().with_http_client(client.clone());
        let metrics = metrics.with_endpoint(self.otlp.below("metrics")).with_timeout(TIMEOUT).build()?;
        let spans = SpanExporter::builder().with_http().with_http_client(client);
        let spans = spans.with_endpoint(self.otlp.below("traces")).with_timeout(TIMEOUT).build()?;
        Ok((Told::new("metrics", metrics), Told::new("traces", spans)))
    }
}

impl Otlp {
    fn below(&self, signal: &str) -> String {
        format!("{}/v1/{signal}", self.0.as_str().trim_end_matches('/'))
    }
}

impl FromStr for Otlp {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url: Url = text.parse().map_err(|_| OTLP)?;
        let plain = url.query().is_none() && url.fragment().is_none() && url.has_host();
        if plain && matches!(url.scheme(), "http" | "https") { Ok(Self(url)) } else { Err(OTLP) }
    }
}

/// Tells when what is exported arrives no more, and when it does again.
#[derive(Debug)]
struct Told<E> {
    signal: &'static str,
    exporter: E,
    arrives: AtomicBool,
}

impl<E> Told<E> {
    fn new(signal: &'static str, exporter: E) -> Self {
        Self { signal, exporter, arrives: AtomicBool::new(true) }
    }

    fn tell(&self, result: OTelSdkResult) -> OTelSdkResult {
        let signal = self.signal;
        match (self.arrives.swap(result.is_ok(), Ordering::Relaxed), &result) {
            (true, Err(error)) => warn!(signal, %error, "our own telemetry does not arrive; told once"),
            (false, Ok(())) => info!(signal, "our own telemetry arrives again"),
            _ => {}
        }
        result
    }
}

impl PushMetricExporter for Told<MetricExporter> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.tell(self.exporter.export(metrics).await)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

impl trace::SpanExporter for Told<SpanExporter> {
    async fn export(&self, spans: Vec<SpanData>) -> OTelSdkResult {
        self.tell(self.exporter.export(spans).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Faults, parse};

    fn read(text: &str) -> Result<Option<Destination>, Faults> {
        parse("agent.toml", text.to_owned(), |root| Some(Destination::read(root)))
    }

    #[test]
    fn without_the_table_it_is_off_and_with_it_every_key_but_the_url_has_a_default() {
        assert_eq!(read("").unwrap(), None);
        let destination = read("[telemetry]\notlp = \"http://127.0.0.1:4318/\"\n").unwrap().unwrap();
        assert_eq!(destination.every, EVERY);
        assert_eq!(destination.otlp.below("metrics"), "http://127.0.0.1:4318/v1/metrics");
        assert_eq!(destination.otlp.below("traces"), "http://127.0.0.1:4318/v1/traces");
    }

    #[test]
    fn a_fault_in_the_table_is_told_with_what_is_allowed() {
        let faults = read("[telemetry]\notlp = \"127.0.0.1:4318\"\nevery = \"1ms\"\ntraces = true\n").unwrap_err();
        insta::assert_snapshot!(faults.to_string());
    }
}
