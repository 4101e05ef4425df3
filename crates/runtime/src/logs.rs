//! Logs on stderr: one line for a change of state, none for steady state.

use std::io::{self, IsTerminal};

use opentelemetry_sdk::trace::SdkTracer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Identity, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::own::SPANS;

type Stderr = fn() -> io::Stderr;
type Lines<S, N, F> = fmt::Layer<S, N, F, Stderr>;

/// Spans are not for the log: what it says stands in its own lines.
const USUAL: &str = "info,surge_ping=error,tokio_cron_scheduler=warn,isochrone::span=off";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    #[default]
    Text,
    Json,
}

impl std::str::FromStr for Format {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("allowed: text, json"),
        }
    }
}

/// Installs the subscriber. Call once, at the start of `main`.
pub fn init(format: Format) {
    install(format, USUAL, None::<Identity>);
}

/// The same, and our own spans go to that tracer.
pub(crate) fn init_with_spans(format: Format, tracer: SdkTracer) {
    let ours = filter_fn(|metadata| metadata.is_span() && metadata.target() == SPANS);
    let spans = tracing_opentelemetry::layer().with_location(false).with_threads(false).with_tracked_inactivity(false);
    install(format, USUAL, Some(spans.with_tracer(tracer).with_filter(ours)));
}

/// For a command that a person waits for: what it has to say stands on stdout.
pub fn warnings() {
    let logs = fmt::layer().with_writer(io::stderr as Stderr).with_target(false).without_time();
    let filter = EnvFilter::new("warn,surge_ping=error");
    tracing_subscriber::registry().with(coloured(logs).with_filter(filter)).init();
}

fn install(format: Format, filter: &str, spans: Option<impl Layer<Registry> + Send + Sync>) {
    let logs = fmt::layer().with_writer(io::stderr as Stderr).with_target(false);
    let registry = tracing_subscriber::registry().with(spans);
    let filter = EnvFilter::new(filter);
    match format {
        Format::Text => registry.with(coloured(logs).with_filter(filter)).init(),
        Format::Json => registry.with(logs.json().with_filter(filter)).init(),
    }
}

/// On a terminal alone, and there unless `NO_COLOR` is set, which the layer itself looks at.
fn coloured<S, N, F>(logs: Lines<S, N, F>) -> Lines<S, N, F> {
    if io::stderr().is_terminal() { logs } else { logs.with_ansi(false) }
}
