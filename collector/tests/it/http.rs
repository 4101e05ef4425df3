//! The door: what ingest takes and refuses, and what the hints answer.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use collector::api;
use collector::config::{Config, Limits};
use collector::core::{Core, Keep};
use collector::decode::Catalog;
use collector::entry::{Entry, Record};
use collector::ingest::Ingest;
use collector::log::{Appender, Log};
use collector::meters::Ingested;
use collector::snapshot::Snapshots;
use futures_util::StreamExt as _;
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::metrics::v1::{Histogram, HistogramDataPoint, ResourceMetrics, metric};
use prost::Message as _;
use runtime::meters::Meters;
use runtime::{Clock, Shutdown};
use serde_json::Value;
use telemetry::histogram::Scratch;
use telemetry::otlp::build::{AgentHealth, Measured, Sender, Subject, encode};
use telemetry::{Family, Outcome, Series, Wall, Window};
use tempfile::TempDir;
use tower::ServiceExt as _;

/// A collector without its listener.
struct Door {
    router: Router,
    log: Appender,
    clock: Clock,
    fold: Option<std::thread::JoinHandle<()>>,
    shutdown: Shutdown,
    dir: Option<TempDir>,
}

impl Door {
    async fn open(dir: TempDir) -> Self {
        let log = Log::open(dir.path()).unwrap();
        let keep = Keep { snapshots: Snapshots::open(dir.path()).unwrap(), due: Arc::default() };
        let core = Core::recover(&log, keep).unwrap();
        let (log, feed) = log.start().unwrap();
        let (clock, shutdown) = (Clock::start(), Shutdown::new());
        let meters = Meters::new("test");
        let ingest = Ingest {
            log: log.clone(),
            clock,
            alarm: Arc::default(),
            limits: Limits { wire_bytes: 100_000, inflated_bytes: 200_000 },
            catalog: Arc::new(Catalog::new(7).into()),
            bodies: Arc::default(),
            meters: Arc::new(Ingested::new(&meters)),
        };
        let router = api::router(ingest, core.snapshots(), meters);
        let fold = std::thread::spawn({
            let (log, shutdown) = (log.clone(), shutdown.clone());
            move || core.run(&feed, &log, &shutdown)
        });
        let door = Self { router, log, clock, fold: Some(fold), shutdown, dir: Some(dir) };
        let policy = Config::load(Path::new("../config/collector.toml")).unwrap().policy;
        let at = clock.wall();
        let entry = Entry::Config { at, policy: Arc::new(policy.clone()) };
        door.log.append(&Record::Config(at, policy), entry).await.unwrap();
        door.mark().await;
        door
    }

    /// A mark, folded: readers see what came before it.
    async fn mark(&self) {
        let now = self.clock.wall();
        self.log.append(&Record::Mark(now), Entry::Mark { now }).await.unwrap();
        let wanted = now.to_string();
        while self.json("/api/v1/hints").await["as_of"].as_str() < Some(wanted.as_str()) {
            tokio::task::yield_now().await;
        }
    }

    async fn ask(&self, request: Request<Body>) -> (StatusCode, header::HeaderMap, Vec<u8>) {
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = answer.into_parts();
        (head.status, head.headers, to_bytes(body, usize::MAX).await.unwrap().to_vec())
    }

    async fn json(&self, path: &str) -> Value {
        let (_, _, body) = self.ask(Request::get(path).body(Body::empty()).unwrap()).await;
        serde_json::from_slice(&body).unwrap()
    }

    async fn post(&self, sequence: &str, encoding: Option<&str>, body: Vec<u8>) -> (StatusCode, Value) {
        let mut request = Request::post("/v1/metrics")
            .header("content-type", "application/x-protobuf")
            .header("isochrone-agent", "fra-1")
            .header("isochrone-boot", "00000000-0000-0000-0000-000000000001")
            .header("isochrone-seq", sequence);
        if let Some(encoding) = encoding {
            request = request.header("content-encoding", encoding);
        }
        let (status, _, body) = self.ask(request.body(Body::from(body)).unwrap()).await;
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// The configuration without that target, in the log.
    async fn drop_target(&self, target: &str) {
        let mut policy = Config::load(Path::new("../config/collector.toml")).unwrap().policy;
        policy.targets.remove(target).unwrap();
        let at = self.clock.wall();
        let entry = Entry::Config { at, policy: Arc::new(policy.clone()) };
        self.log.append(&Record::Config(at, policy), entry).await.unwrap();
        self.mark().await;
    }

    /// As anyone's collector sends, with no name of ours.
    async fn post_unnamed(&self, body: Vec<u8>) -> (StatusCode, Vec<u8>) {
        let request = Request::post("/v1/metrics").header("content-type", "application/x-protobuf");
        let (status, _, answer) = self.ask(request.body(Body::from(body)).unwrap()).await;
        (status, answer)
    }

    /// Stops it and opens it again on the same data.
    async fn reopen(mut self) -> Self {
        let dir = self.dir.take().unwrap();
        drop(self);
        Self::open(dir).await
    }

    async fn samples(&self) -> u64 {
        self.mark().await;
        let paths = self.json("/api/v1/paths?source=fra&window=15m").await;
        paths["items"].as_array().unwrap().iter().map(|path| path["samples"].as_u64().unwrap()).sum()
    }
}

/// Server-sent events, as they come.
struct Events {
    body: axum::body::BodyDataStream,
    text: String,
}

impl Events {
    async fn follow(door: &Door, path: &str) -> Self {
        let answer = door.router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self { body: answer.into_body().into_data_stream(), text: String::new() }
    }

    /// The name and the data of the next one.
    async fn next(&mut self) -> (String, Value) {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let event: String = self.text.drain(..end + 2).collect();
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap();
                return (field("event: ").to_owned(), serde_json::from_str(field("data: ")).unwrap());
            }
            let chunk = tokio::time::timeout(Duration::from_secs(30), self.body.next()).await.unwrap();
            self.text += std::str::from_utf8(&chunk.unwrap().unwrap()).unwrap();
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.router = Router::new();
        self.fold.take().unwrap().join().unwrap();
    }
}

fn body(clock: Clock) -> Vec<u8> {
    let now = clock.wall();
    body_of("fra-1", now - Duration::from_secs(1), now)
}

/// Three replies that this agent in fra saw.
fn body_of(agent: &str, begin: Wall, end: Wall) -> Vec<u8> {
    let series = Series {
        agent: agent.parse().unwrap(),
        source: "fra".parse().unwrap(),
        target: "iad-voice-1".parse().unwrap(),
        region: "iad".parse().unwrap(),
        service: "voice".parse().unwrap(),
        probe: "voice".parse().unwrap(),
        phase: "rtt".parse().unwrap(),
        family: Family::Ipv4,
        confirm: false,
        labels: telemetry::Labels::new(),
    };
    let replies = Scratch::default().fold([90, 91, 92].map(Duration::from_millis));
    let window = Window { begin, end, outcomes: [(Outcome::Reply, replies)].into() };
    let sender =
        Sender { agent: series.agent.clone(), source: series.source.clone(), zone: None, version: "0".to_owned() };
    let subject = Arc::new(Subject { series, address: "127.0.0.1".to_owned(), port: None, transport: "udp" });
    encode(&sender, &[Measured { subject, window }], &AgentHealth { begin, end, ..AgentHealth::default() })
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What a partial success says.
fn partial(answer: &[u8]) -> (i64, String) {
    let answer = ExportMetricsServiceResponse::decode(answer).unwrap().partial_success.unwrap_or_default();
    (answer.rejected_data_points, answer.error_message)
}

/// The first metric of the first resource is the probe's.
fn changed(body: &[u8], change: impl Fn(&mut ResourceMetrics)) -> Vec<u8> {
    let mut request = ExportMetricsServiceRequest::decode(body).unwrap();
    change(&mut request.resource_metrics[0]);
    request.encode_to_vec()
}

#[tokio::test]
async fn a_batch_is_counted_once_however_often_it_comes_and_whatever_restarts() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let batch = zstd::encode_all(body(door.clock).as_slice(), 3).unwrap();
    assert_eq!(door.post("1", Some("zstd"), batch.clone()).await.0, StatusCode::OK);
    assert_eq!(door.post("1", Some("zstd"), batch.clone()).await.0, StatusCode::OK);
    assert_eq!(door.samples().await, 3);
    let door = door.reopen().await;
    assert_eq!(door.post("1", Some("zstd"), batch.clone()).await.0, StatusCode::OK);
    assert_eq!(door.samples().await, 3);
    assert_eq!(door.post("2", Some("zstd"), batch).await.0, StatusCode::OK);
    assert_eq!(door.samples().await, 6);
}

#[tokio::test]
async fn what_is_not_a_batch_is_refused_for_its_own_reason_and_changes_nothing() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let good = body(door.clock);
    let bomb = zstd::encode_all(vec![0; 1_000_000].as_slice(), 3).unwrap();
    let cases = [
        ("1", None, b"garbage".to_vec(), 400, "malformed"),
        ("1", Some("zstd"), good.clone(), 400, "inflate"),
        ("1", Some("gzip"), good.clone(), 400, "inflate"),
        ("1", Some("br"), good.clone(), 415, "encoding"),
        ("1", Some("zstd"), bomb, 413, "inflated-size"),
        ("1", Some("gzip"), gzip(&vec![0; 1_000_000]), 413, "inflated-size"),
        ("0", None, good.clone(), 400, "header"),
        ("one", None, good.clone(), 400, "header"),
        ("1", None, Vec::new(), 400, "resource"),
    ];
    for (sequence, encoding, body, status, code) in cases {
        let (found, problem) = door.post(sequence, encoding, body).await;
        assert_eq!((found.as_u16(), problem["code"].as_str()), (status, Some(code)), "{problem}");
    }
    let (status, problem) = door.post("1", None, vec![0; 150_000]).await;
    assert_eq!((status, problem["code"].as_str()), (StatusCode::PAYLOAD_TOO_LARGE, Some("wire-size")));
    assert_eq!(door.samples().await, 0);
    assert_eq!(door.post("1", None, good).await.0, StatusCode::OK);
    let (status, problem) = door.post("1", None, body(door.clock)).await;
    assert_eq!((status, problem["code"].as_str()), (StatusCode::CONFLICT, Some("conflict")));
    assert_eq!(door.samples().await, 3);
}

#[tokio::test]
async fn a_batch_in_gzip_is_a_batch() {
    let door = Door::open(TempDir::new().unwrap()).await;
    assert_eq!(door.post("1", Some("gzip"), gzip(&body(door.clock))).await.0, StatusCode::OK);
    let door = door.reopen().await;
    assert_eq!(door.samples().await, 3);
}

#[tokio::test]
async fn a_point_that_comes_again_through_someone_elses_collector_is_counted_once() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let (second, now) = (Duration::from_secs(1), door.clock.wall());
    let (first, other) = (body_of("fra-1", now - second, now), body_of("fra-2", now - second, now));
    assert_eq!(door.post_unnamed(first.clone()).await, (StatusCode::OK, Vec::new()));
    assert_eq!(door.samples().await, 3);
    // Batched anew on its way: two resources in one body, each with its own sender.
    assert_eq!(door.post_unnamed([first.clone(), other].concat()).await, (StatusCode::OK, Vec::new()));
    assert_eq!(door.samples().await, 6);
    let agents = door.json("/api/v1/agents").await;
    assert_eq!(agents["items"].as_array().unwrap().len(), 2, "{agents}");
    let door = door.reopen().await;
    assert_eq!(door.post_unnamed(first).await.0, StatusCode::OK);
    assert_eq!(door.samples().await, 6);
    let next = body_of("fra-1", now, now + second);
    assert_eq!(door.post_unnamed(next).await.0, StatusCode::OK);
    assert_eq!(door.samples().await, 9);
}

#[tokio::test]
async fn a_point_wider_than_a_slot_is_news_of_when_it_ends() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let now = door.clock.wall();
    // Its begin alone would make it older than anything that is kept.
    assert_eq!(door.post_unnamed(body_of("fra-1", now - Duration::from_hours(1), now)).await.0, StatusCode::OK);
    assert_eq!(door.samples().await, 3);
}

#[tokio::test]
async fn a_batch_has_all_three_names_or_none() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let request = Request::post("/v1/metrics")
        .header("content-type", "application/x-protobuf")
        .header("isochrone-agent", "fra-1")
        .body(Body::from(body(door.clock)));
    let (status, _, problem) = door.ask(request.unwrap()).await;
    let problem: Value = serde_json::from_slice(&problem).unwrap();
    assert_eq!((status.as_u16(), problem["code"].as_str()), (400, Some("header")));
    let said = "headers isochrone-agent, isochrone-boot, isochrone-seq: all of them or none";
    assert_eq!(problem["detail"], said);
}

#[tokio::test]
async fn what_is_refused_is_refused_by_name_and_the_rest_is_kept() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let good = body(door.clock);
    let nameless = changed(&good, |resource| {
        resource.resource.as_mut().unwrap().attributes.retain(|attribute| attribute.key != "cloud.region");
    });
    let cumulative = changed(&good, |resource| {
        let metric = &mut resource.scope_metrics[0].metrics[0];
        let Some(metric::Data::ExponentialHistogram(data)) = &mut metric.data else { panic!("a histogram") };
        data.aggregation_temporality = 2;
    });
    let explicit = changed(&good, |resource| {
        let data_points = vec![HistogramDataPoint::default(); 3];
        let data = metric::Data::Histogram(Histogram { data_points, aggregation_temporality: 1 });
        resource.scope_metrics[0].metrics[0].data = Some(data);
    });
    let foreign = changed(&good, |resource| {
        resource.scope_metrics[0].metrics.truncate(1);
        "http.server.request.duration".clone_into(&mut resource.scope_metrics[0].metrics[0].name);
    });
    let cases = [
        (nameless, 4, "isochrone.probe.duration: the resource does not say who sends: cloud.region is missing"),
        (cumulative, 1, "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=delta"),
        (explicit, 3, "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION=base2_exponential_bucket_histogram"),
        (foreign, 1, "http.server.request.duration: nothing here reads this metric"),
    ];
    for (bad, points, why) in cases {
        let (status, answer) = door.post_unnamed([bad, good.clone()].concat()).await;
        let (rejected, said) = partial(&answer);
        assert_eq!((status, rejected), (StatusCode::OK, points), "{said}");
        assert!(said.contains(why), "{said}");
    }
    assert_eq!(door.samples().await, 3);
}

#[tokio::test]
async fn a_hint_is_not_sent_again_while_its_meaning_stays() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let ask = |tag: Option<String>| {
        let request = Request::get("/api/v1/hints/fra/voice");
        let request = if let Some(tag) = tag { request.header("if-none-match", tag) } else { request };
        door.ask(request.body(Body::empty()).unwrap())
    };
    let (status, headers, hint) = ask(None).await;
    assert_eq!(status, StatusCode::OK);
    let hint: Value = serde_json::from_slice(&hint).unwrap();
    assert_eq!((hint["basis"].as_str(), hint["ranked"][0]["region"].as_str()), (Some("prior"), Some("fra")));
    let tag = headers["etag"].to_str().unwrap().to_owned();
    door.mark().await;
    let (status, _, body) = ask(Some(tag)).await;
    assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0));
    assert_eq!(ask(Some("\"other\"".to_owned())).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_long_poll_waits_for_another_version_and_no_longer_than_it_may() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let version = door.json("/api/v1/hints/fra/voice").await["version"].as_u64().unwrap();
    let same = door.json(&format!("/api/v1/hints/fra/voice?index={version}&wait=1ms")).await;
    assert_eq!(same["version"].as_u64(), Some(version));
    let other_epoch = door.json(&format!("/api/v1/hints/fra/voice?index={}&wait=5m", version + 100)).await;
    assert_eq!(other_epoch["version"].as_u64(), Some(version));
    let bad = door.json("/api/v1/hints/fra/voice?index=1&wait=1d").await;
    assert_eq!(bad["detail"], "wait: found \"1d\", allowed: from \"0s\" to \"5m\"");

    let poll = format!("/api/v1/hints/fra/voice?index={version}&wait=5m");
    let (changed, ()) = tokio::join!(door.json(&poll), door.drop_target("iad-voice-1"));
    assert!(changed["version"].as_u64() > Some(version), "{changed}");
}

#[tokio::test]
async fn the_stream_begins_with_a_snapshot_of_each_topic_and_goes_on_by_number() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let mut events = Events::follow(&door, "/api/v1/stream").await;
    for (number, topic) in [(1, "regions"), (2, "matrix"), (3, "hints")] {
        let (name, document) = events.next().await;
        assert_eq!((name.as_str(), &document["number"]), (topic, &number.into()));
        assert_eq!(document["kind"], "snapshot");
    }
    door.mark().await;
    let (name, mark) = events.next().await;
    assert_eq!((name.as_str(), &mark["number"], mark["items"].as_array().unwrap().len()), ("mark", &4.into(), 0));

    assert_eq!(door.post("1", None, body(door.clock)).await.0, StatusCode::OK);
    door.mark().await;
    let (name, change) = events.next().await;
    let cell = &change["items"][0];
    assert_eq!((name.as_str(), &change["kind"], &change["number"]), ("matrix", &"change".into(), &5.into()));
    assert_eq!((&cell["source"], &cell["region"], &cell["samples"]), (&"fra".into(), &"iad".into(), &3.into()));
    assert_eq!(change["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_stream_says_which_topics_there_are() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let bad = door.json("/api/v1/stream?topics=regions,weather").await;
    assert_eq!(bad["detail"], "topics: found \"weather\", allowed: regions, matrix, hints");
    assert_eq!(door.json("/api/v1/stream?service=fax").await["code"], "service");
}

#[tokio::test]
async fn an_unknown_name_is_answered_with_the_known_ones() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let unknown = door.json("/api/v1/hints/nowhere/voice").await;
    assert_eq!(unknown["detail"], "\"nowhere\" is not known; known: fra, iad");
    let unknown = door.json("/api/v1/hints/fra/fax").await;
    assert_eq!(unknown["detail"], "\"fax\" is not known; known: voice");
    let unknown = door.json("/api/v1/matrix?service=fax").await;
    assert_eq!((unknown["status"].as_u64(), unknown["code"].as_str()), (Some(404), Some("service")));
    let bad = door.json("/api/v1/matrix?window=1y").await;
    assert_eq!(bad["code"], "query");
}

#[tokio::test]
async fn the_page_may_load_nothing_from_elsewhere() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let (status, headers, page) = door.ask(Request::get("/").body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::OK);
    assert!(headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'self'"));
    let page = String::from_utf8(page).unwrap();
    assert!(page.contains("Isochrone") && !page.contains("https://"), "{page}");
}
