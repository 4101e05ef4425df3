//! Batches are sent on: what came, all of it, whatever the receiver does.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use collector::decode::inflate;
use collector::entry::{Encoding, Envelope, Record};
use collector::export::{Export, Otlp, Place};
use collector::log::Records;
use collector::meters::Exported;
use collector::server;
use journal::{Committer, Journal, Options, Position, QueueLimits, RealDisk};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message as _;
use runtime::Shutdown;
use telemetry::Wall;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::door::{Door, body_of, gzip, until};

#[tokio::test]
async fn what_came_goes_on_message_for_message_under_its_name() {
    let (door, receiver) = (Door::open(TempDir::new().unwrap()).await, Receiver::start().await);
    let export = Running::start(&door, &receiver);
    let now = door.clock.wall();
    let second = Duration::from_secs(1);
    let bodies: Vec<_> = (0..4).map(|age| body_of("fra-1", now - second * (age + 1), now - second * age)).collect();
    assert!(door.post("1", None, bodies[0].clone()).await.0.is_success());
    assert!(door.post("2", Some("zstd"), zstd::encode_all(bodies[1].as_slice(), 3).unwrap()).await.0.is_success());
    assert!(door.post("3", Some("gzip"), gzip(&bodies[2])).await.0.is_success());
    assert!(door.post_unnamed(bodies[3].clone()).await.0.is_success());
    let mut arrived = receiver.wait_for(&door, 4).await;
    arrived.sort_by_key(|arrived| arrived.sequence.clone().unwrap_or("unnamed".to_owned()));
    let messages: Vec<_> =
        bodies.iter().map(|body| ExportMetricsServiceRequest::decode(body.as_slice()).unwrap()).collect();
    assert_eq!(arrived.iter().map(|arrived| &arrived.message).collect::<Vec<_>>(), messages.iter().collect::<Vec<_>>());
    let names: Vec<_> = arrived.iter().map(|arrived| arrived.sequence.as_deref()).collect();
    assert_eq!(names, [Some("1"), Some("2"), Some("3"), None]);
    export.stop().await;
}

#[tokio::test]
async fn a_receiver_that_comes_back_misses_nothing_also_after_a_restart() {
    let (door, receiver) = (Door::open(TempDir::new().unwrap()).await, Receiver::start().await);
    receiver.answer([(503, Some("1")), (429, None), (502, None), (504, None)]);
    let (begin, export) = (Instant::now(), Running::start(&door, &receiver));
    push(&door, 1..=5).await;
    receiver.wait_for(&door, 5).await;
    assert!(begin.elapsed() >= Duration::from_secs(1), "it comes back no sooner than it was asked to");
    export.stop().await;

    receiver.answer(vec![(503, None); 1000]);
    let export = Running::start(&door, &receiver);
    push(&door, 6..=9).await;
    let metrics = door.text("/metrics").await;
    assert!(metrics.contains("isochrone_export_behind"), "{metrics}");
    export.stop().await;
    receiver.answer([]);
    let export = Running::start(&door, &receiver);
    let arrived = receiver.wait_for(&door, 9).await;
    let numbers: BTreeSet<u64> = arrived.iter().map(|it| it.sequence.as_ref().unwrap().parse().unwrap()).collect();
    assert_eq!(numbers, (1..=9).collect());
    export.stop().await;
}

#[tokio::test]
async fn a_receiver_that_hangs_delays_no_acknowledgement() {
    let (door, receiver) = (Door::open(TempDir::new().unwrap()).await, Receiver::start().await);
    receiver.open.forget_permits(Semaphore::MAX_PERMITS);
    let export = Running::start(&door, &receiver);
    push(&door, 1..=50).await;
    assert_eq!(receiver.arrived().len(), 0, "all are acknowledged, and none has gone on");
    receiver.open.add_permits(100);
    receiver.wait_for(&door, 50).await;
    export.stop().await;
}

#[tokio::test]
async fn a_batch_that_is_refused_is_counted_and_holds_up_nothing() {
    let (door, receiver) = (Door::open(TempDir::new().unwrap()).await, Receiver::start().await);
    receiver.answer([(400, None)]);
    let export = Running::start(&door, &receiver);
    push(&door, 1..=2).await;
    receiver.wait_for(&door, 1).await;
    for count in ["{outcome=\"refused\"} 1\n", "{outcome=\"sent\"} 1\n"] {
        let count = format!("isochrone_export_batches_total{count}");
        until(&count, async || door.text("/metrics").await.contains(&count).then_some(())).await;
    }
    export.stop().await;
}

#[tokio::test]
async fn what_the_log_no_longer_holds_is_counted_and_the_rest_goes_on() {
    let (door, receiver) = (Door::open(TempDir::new().unwrap()).await, Receiver::start().await);
    let dir = TempDir::new().unwrap();
    let mut journal = Journal::open(RealDisk::open(dir.path()).unwrap(), Options { segment_bytes: 2000 }).unwrap();
    let now = door.clock.wall();
    for _ in 0..20 {
        let envelope = Envelope { origin: None, received: Wall::default(), encoding: Encoding::Identity };
        let body = body_of("fra-1", now - Duration::from_secs(1), now);
        journal.append(&Record::Batch(envelope, &body).encode().unwrap()).unwrap();
    }
    journal.sync().unwrap();
    let first = journal.cut_before(Position(10)).unwrap();
    assert!(first > Position(5), "{first}");
    let left = 20 - first.0;
    let log = Committer::start(journal, "test", QueueLimits { records: 1, bytes: 1 }).unwrap();
    let place = place(dir.path(), Position::START);
    let export = Running::of(&door, &receiver, place, Box::new(log.reader(Position::START)));
    receiver.wait_for(&door, left as usize).await;
    let metrics = door.text("/metrics").await;
    assert!(metrics.contains(&format!("isochrone_export_cut_total {}\n", first.0)), "{metrics}");
    export.stop().await;
}

async fn push(door: &Door, sequences: std::ops::RangeInclusive<u64>) {
    for sequence in sequences {
        let end = door.clock.wall();
        let body = body_of("fra-1", end - Duration::from_secs(1), end);
        assert!(door.post(&sequence.to_string(), None, body).await.0.is_success());
    }
}

fn place(dir: &Path, end: Position) -> Place {
    Place::open(dir.join("export.position"), end).unwrap()
}

/// An export that runs; its place is kept beside the log.
struct Running {
    tasks: JoinSet<()>,
    shutdown: Shutdown,
}

impl Running {
    fn start(door: &Door, receiver: &Receiver) -> Self {
        let place = place(door.dir.as_ref().unwrap().path(), door.log.durable());
        let reader = door.log.reader(place.next);
        Self::of(door, receiver, place, reader)
    }

    fn of(door: &Door, receiver: &Receiver, place: Place, reader: Box<dyn Records>) -> Self {
        let meters = Arc::new(Exported::new(&door.meters, &door.log, place.next));
        let receiver = Otlp::new(receiver.url.parse().unwrap()).unwrap();
        let news = door.snapshots.news();
        let (shutdown, mut tasks) = (Shutdown::new(), JoinSet::new());
        let export =
            Export { reader, place, receiver, meters, news, takes: AtomicBool::new(true) }.run(shutdown.clone());
        tasks.spawn(async { export.await.unwrap() });
        Self { tasks, shutdown }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.tasks.join_all().await;
    }
}

/// A status, and when to come again.
type Answer = (u16, Option<&'static str>);

/// Someone's OTLP receiver, which answers as the script says and then takes everything.
struct Receiver {
    url: String,
    script: Arc<Mutex<VecDeque<Answer>>>,
    arrived: Arc<Mutex<Vec<Arrived>>>,
    /// A permit for each request that may be answered.
    open: Arc<Semaphore>,
    shutdown: Shutdown,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Clone)]
struct Arrived {
    message: ExportMetricsServiceRequest,
    sequence: Option<String>,
}

impl Receiver {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/metrics", listener.local_addr().unwrap());
        let (script, arrived) = (Arc::default(), Arc::default());
        let open = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        let state = (Arc::clone(&script), Arc::clone(&arrived), Arc::clone(&open));
        let router = Router::new().route("/v1/metrics", post(take)).with_state(state);
        let (shutdown, mut tasks) = (Shutdown::new(), JoinSet::new());
        let served = server::serve(listener, router, shutdown.clone());
        tasks.spawn(async { served.await.unwrap() });
        Self { url, script, arrived, open, shutdown, _tasks: tasks }
    }

    fn answer(&self, script: impl IntoIterator<Item = Answer>) {
        *self.script.lock().unwrap() = script.into_iter().collect();
    }

    fn arrived(&self) -> Vec<Arrived> {
        self.arrived.lock().unwrap().clone()
    }

    async fn wait_for(&self, door: &Door, batches: usize) -> Vec<Arrived> {
        let what = format!("{batches} batches");
        let arrived = until(&what, async || {
            door.mark().await;
            let arrived = self.arrived();
            (arrived.len() >= batches).then_some(arrived)
        });
        let arrived = arrived.await;
        assert_eq!(arrived.len(), batches);
        arrived
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

type Shared = (Arc<Mutex<VecDeque<Answer>>>, Arc<Mutex<Vec<Arrived>>>, Arc<Semaphore>);

async fn take(
    State((script, arrived, open)): State<Shared>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, [(&'static str, &'static str); 1]) {
    open.acquire().await.unwrap().forget();
    if let Some((status, after)) = script.lock().unwrap().pop_front() {
        return (StatusCode::from_u16(status).unwrap(), [("retry-after", after.unwrap_or("0"))]);
    }
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let encoding = match text("content-encoding").as_deref() {
        None => Encoding::Identity,
        Some("gzip") => Encoding::Gzip,
        Some(other) => panic!("a receiver need not know {other}"),
    };
    let message = ExportMetricsServiceRequest::decode(&*inflate(&body, encoding, 1 << 20).unwrap()).unwrap();
    arrived.lock().unwrap().push(Arrived { message, sequence: text("isochrone-seq") });
    (StatusCode::OK, [("content-type", "application/x-protobuf")])
}
