//! The collector's own metrics and spans, from the real binary to an OTLP endpoint.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use runtime::Clock;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::door::body;

/// A process that a test which fails does not leave behind.
struct Collector(Child);

impl Drop for Collector {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What came, by signal.
type Received = Arc<Mutex<Vec<(String, Bytes)>>>;

async fn keep(State(received): State<Received>, Path(signal): Path<String>, body: Bytes) {
    received.lock().unwrap().push((signal, body));
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), waiting).await.unwrap_or_else(|_| panic!("{what}: not within 60 s"));
}

fn spans(received: &Received) -> Vec<Span> {
    let received = received.lock().unwrap();
    let traces = received.iter().filter(|(signal, _)| signal == "traces");
    let requests = traces.map(|(_, body)| ExportTraceServiceRequest::decode(body.clone()).unwrap());
    let resources = requests.flat_map(|request| request.resource_spans);
    resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_batch_has_a_span_from_its_way_in_and_in_it_one_that_ends_when_it_is_durable() {
    let (folder, received, mut outside) = (TempDir::new().unwrap(), Received::default(), JoinSet::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let otlp = listener.local_addr().unwrap();
    let app = Router::new().route("/v1/{signal}", post(keep)).with_state(received.clone());
    outside.spawn(async move { axum::serve(listener, app).await.unwrap() });

    let file = |name| folder.path().join(name);
    let (config, data, address) = (file("collector.toml"), file("data"), file("address"));
    let text = format!("data_dir = \"unused\"\n[telemetry]\notlp = \"http://{otlp}\"\nevery = \"100ms\"\n");
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_isochrone-collector"));
    command.args(["run", "--listen", "127.0.0.1:0", "--config"]).arg(config);
    command.arg("--data").arg(data).arg("--address-file").arg(&address).stderr(Stdio::null());
    let _collector = Collector(command.spawn().unwrap());
    until("the address", || address.exists()).await;

    let body = body(Clock::start());
    let mut stream = TcpStream::connect(std::fs::read_to_string(address).unwrap().trim()).unwrap();
    let head = "POST /v1/metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: application/x-protobuf";
    write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n", body.len()).unwrap();
    stream.write_all(&body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));

    until("both spans", || spans(&received).len() >= 2).await;
    let spans = spans(&received);
    let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{name}: {spans:?}"));
    let (ingest, append) = (named("ingest"), named("append"));
    assert_eq!((&append.parent_span_id, &append.trace_id), (&ingest.span_id, &ingest.trace_id));
    assert!(append.end_time_unix_nano <= ingest.end_time_unix_nano);
    until("metrics", || received.lock().unwrap().iter().any(|(signal, _)| signal == "metrics")).await;
}
