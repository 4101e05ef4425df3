//! A collector without its listener, and batches to put through its door.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use collector::admission::{Gate, Room};
use collector::api::{self, Leaving};
use collector::config::{Backups, Config, Limits};
use collector::core::{self, Core, Keep};
use collector::entry::{Entry, Record};
use collector::history;
use collector::ingest::Ingest;
use collector::jobs::SnapshotDue;
use collector::log::{Appender, Log};
use collector::meters;
use collector::policy::Policy;
use collector::retention::Retention;
use collector::settle::Settle;
use collector::snapshot::Snapshots;
use collector::unpack::{Unpack, Unpacker};
use futures_util::StreamExt as _;
use runtime::meters::Meters;
use runtime::{Clock, Shutdown};
use serde_json::Value;
use telemetry::histogram::Scratch;
use telemetry::otlp::build::{AgentHealth, Measured, Sender, Subject, encode};
use telemetry::{Histogram, Outcome, Series, Wall, Window};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use tower::ServiceExt as _;

/// Beyond it a batch is turned away, also one that came after the last was acknowledged, if the fold is behind.
pub(crate) const WAITING: Room = Room { batches: 20, bytes: 10_000_000 };

/// A collector without its listener.
pub(crate) struct Door {
    pub(crate) router: Router,
    pub(crate) log: Appender,
    pub(crate) meters: Meters,
    pub(crate) snapshots: core::Snapshots,
    pub(crate) clock: Clock,
    unpacker: Option<Unpacker>,
    threads: Vec<std::thread::JoinHandle<()>>,
    shutdown: Shutdown,
    pub(crate) dir: Option<TempDir>,
}

impl Door {
    pub(crate) async fn open(dir: TempDir) -> Self {
        let mut door = Self::closed(dir).await;
        door.unpack();
        door
    }

    /// Lets batches in, and opens none before it is told to.
    pub(crate) async fn closed(dir: TempDir) -> Self {
        let due = SnapshotDue::default();
        let log = Log::open(dir.path()).unwrap();
        let (history, intake, keeper) = history::open(dir.path(), Retention::default()).unwrap();
        let keep = Keep { snapshots: Snapshots::open(dir.path()).unwrap(), history: intake, due: Arc::clone(&due) };
        let keeper = std::thread::spawn(move || keeper.run());
        let core = Core::recover(&log, keep).unwrap();
        let (log, feed) = log.start(core.folded());
        let (clock, shutdown) = (Clock::start(), Shutdown::new());
        let meters = Meters::new("test");
        let limits = Limits { wire_bytes: 100_000, inflated_bytes: 200_000, points: 500, waiting: WAITING };
        let snapshots = core.snapshots();
        let (unpack, unpacker) = Unpack::new(log.clone(), snapshots.clone(), clock, limits);
        let gate = Gate::new(WAITING, clock);
        meters::observe_gate(&meters, &gate);
        let ingest = Ingest::new(gate, unpack, Arc::default(), limits, &meters);
        let settle = Settle { due, log: log.clone(), history };
        let backup = Some(Backups { dir: dir.path().join("backups"), keep: 2 });
        let leaving = Leaving { settle, data_dir: dir.path().to_owned(), backup, clock };
        let router = api::router(ingest, snapshots.clone(), leaving, meters.clone());
        let fold = std::thread::spawn({
            let (log, shutdown) = (log.clone(), shutdown.clone());
            move || {
                core.run(&feed, &log, &shutdown).unwrap();
                keeper.join().unwrap();
            }
        });
        let door = Self {
            router,
            log,
            meters,
            snapshots,
            clock,
            unpacker: Some(unpacker),
            threads: vec![fold],
            shutdown,
            dir: Some(dir),
        };
        door.adopt(|_| {}).await;
        door
    }

    pub(crate) fn unpack(&mut self) {
        let unpacker = self.unpacker.take().unwrap();
        self.threads.push(std::thread::spawn(|| unpacker.run()));
    }

    /// A mark, folded: readers see what came before it.
    pub(crate) async fn mark(&self) {
        let now = self.clock.wall();
        self.log.append(&Record::Mark(now), Entry::Mark { now }).await.unwrap();
        let wanted = now.to_string();
        while self.json("/api/v1/hints").await["as_of"].as_str() < Some(wanted.as_str()) {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn ask(&self, request: Request<Body>) -> (StatusCode, header::HeaderMap, Vec<u8>) {
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = answer.into_parts();
        (head.status, head.headers, to_bytes(body, usize::MAX).await.unwrap().to_vec())
    }

    pub(crate) async fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.text(path).await).unwrap()
    }

    pub(crate) async fn text(&self, path: &str) -> String {
        let (_, _, body) = self.ask(Request::get(path).body(Body::empty()).unwrap()).await;
        String::from_utf8(body).unwrap()
    }

    pub(crate) async fn post(&self, sequence: &str, encoding: Option<&str>, body: Vec<u8>) -> (StatusCode, Value) {
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

    /// As anyone's collector sends, with no name of ours.
    pub(crate) async fn post_unnamed(&self, body: Vec<u8>) -> (StatusCode, Vec<u8>) {
        let request = Request::post("/v1/metrics").header("content-type", "application/x-protobuf");
        let (status, _, answer) = self.ask(request.body(Body::from(body)).unwrap()).await;
        (status, answer)
    }

    /// The configuration without that target, in the log.
    pub(crate) async fn drop_target(&self, target: &str) {
        self.adopt(|policy| drop(policy.targets.remove(target).unwrap())).await;
    }

    /// The configuration, changed, in the log.
    pub(crate) async fn adopt(&self, change: impl FnOnce(&mut Policy)) {
        let mut policy = Config::load(Path::new("../config/collector.toml")).unwrap().policy;
        change(&mut policy);
        let at = self.clock.wall();
        let entry = Entry::Config { at, policy: Arc::new(policy.clone()) };
        self.log.append(&Record::Config(at, policy), entry).await.unwrap();
        self.mark().await;
    }

    /// Stops it and opens it again on the same data.
    pub(crate) async fn reopen(mut self) -> Self {
        let dir = self.dir.take().unwrap();
        drop(self);
        Self::open(dir).await
    }

    pub(crate) async fn samples(&self) -> u64 {
        self.mark().await;
        let paths = self.json("/api/v1/paths?source=fra&window=15m").await;
        paths["items"].as_array().unwrap().iter().map(|path| path["samples"].as_u64().unwrap()).sum()
    }
}

/// Server-sent events, as they come.
pub(crate) struct Events {
    body: axum::body::BodyDataStream,
    text: String,
}

impl Events {
    pub(crate) async fn follow(door: &Door, path: &str) -> Self {
        let answer = door.router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self { body: answer.into_body().into_data_stream(), text: String::new() }
    }

    /// The name and the data of the next one.
    pub(crate) async fn next(&mut self) -> (String, Value) {
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
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

pub(crate) fn body(clock: Clock) -> Vec<u8> {
    let now = clock.wall();
    body_of("fra-1", now - Duration::from_secs(1), now)
}

/// Three replies that this agent in fra saw.
pub(crate) fn body_of(agent: &str, begin: Wall, end: Wall) -> Vec<u8> {
    batch(vec![(series(agent), replies(&[90, 91, 92]))], begin, end)
}

pub(crate) fn series(agent: &str) -> Series {
    Series { agent: agent.parse().unwrap(), ..telemetry::sample::series() }
}

pub(crate) type Outcomes = BTreeMap<Outcome, Histogram>;

pub(crate) fn replies(ms: &[u64]) -> Outcomes {
    let replies = Scratch::default().fold(ms.iter().copied().map(Duration::from_millis));
    [(Outcome::Reply, replies)].into()
}

/// What one agent saw in one window, one series or several.
pub(crate) fn batch(seen: Vec<(Series, Outcomes)>, begin: Wall, end: Wall) -> Vec<u8> {
    batch_made(end, seen, begin, end)
}

/// By its agent's clock.
pub(crate) fn batch_made(made: Wall, seen: Vec<(Series, Outcomes)>, begin: Wall, end: Wall) -> Vec<u8> {
    let Series { agent, source, .. } = seen[0].0.clone();
    let sender = Sender { agent, source, zone: None, version: "0".to_owned() };
    let measured = seen.into_iter().map(|(series, outcomes)| {
        let subject = Arc::new(Subject { series, address: "127.0.0.1".to_owned(), port: None, transport: "udp" });
        Measured { subject, window: Window { begin, end, outcomes } }
    });
    let measured: Vec<_> = measured.collect();
    encode(&sender, &measured, &AgentHealth { begin: made, end: made, ..AgentHealth::default() })
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Looks again and again until there is an answer.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = timeout(Duration::from_mins(1), async {
        loop {
            match look().await {
                Some(found) => return found,
                None => sleep(Duration::from_millis(50)).await,
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("{what}: not within a minute"))
}
