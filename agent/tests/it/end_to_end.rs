use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agent::{Config, pipeline};
use protocols::voice::{self, Question};
use runtime::meters::Meters;
use runtime::{Tasks, Wall};
use telemetry::otlp::walk::{BadPoint, Point, Value, Visitor, walk};
use telemetry::otlp::{AGENT_LATENESS, AGENT_NOISE_FLOOR, PROBE_DURATION, labels};
use telemetry::{FailureKind, Outcome, Standing};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use crate::collector::{Collector, Request, until};

const LOST: Outcome = Outcome::Failure(FailureKind::Timeout);
const REFUSED: Outcome = Outcome::Failure(FailureKind::Refused);
const NOT_FOUND: Outcome = Outcome::Failure(FailureKind::Status);

/// What a reflector answered: the oracle that the windows are held against.
#[derive(Clone, Default)]
pub(crate) struct Answered {
    pub(crate) pings: Arc<AtomicU64>,
    pub(crate) discoveries: Arc<AtomicU64>,
}

pub(crate) async fn reflect(socket: UdpSocket, answered: Answered) {
    let mut packet = [0; 128];
    loop {
        let (length, from) = socket.recv_from(&mut packet).await.unwrap();
        let answer = voice::answer(&packet[..length], from).unwrap();
        let count = if answer.question() == Question::Ping { &answered.pings } else { &answered.discoveries };
        count.fetch_add(1, Ordering::SeqCst);
        socket.send_to(&answer, from).await.unwrap();
    }
}

/// What the batches say, by target, phase and outcome.
#[derive(Default)]
pub(crate) struct Sums {
    counts: BTreeMap<(String, String, Outcome), u64>,
    lateness: u64,
    noise_floor: u64,
    /// Losses of confirming probes.
    confirmed: u64,
    jitters: u64,
    slots: Vec<(Wall, Wall)>,
    worst_reply: f64,
}

impl Sums {
    fn of(collector: &Collector) -> Self {
        Self::of_bodies(collector.requests().iter().map(|request| &request.body[..]))
    }

    pub(crate) fn of_bodies<'a>(bodies: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut sums = Self::default();
        for body in bodies {
            let body = zstd::decode_all(body).unwrap();
            walk(&body, &mut sums).unwrap();
        }
        sums
    }

    pub(crate) fn count(&self, target: &str, phase: &str, outcome: Outcome) -> u64 {
        self.counts.get(&(target.to_owned(), phase.to_owned(), outcome)).copied().unwrap_or_default()
    }
}

impl<'a> Visitor<'a> for Sums {
    fn resource(&mut self, attributes: &'a [u8]) {
        let resource = labels::resource(attributes).unwrap();
        assert_eq!((resource.agent.as_str(), resource.source.as_str()), ("fra-1", "fra"));
    }

    fn point(&mut self, point: Point<'a>) {
        let Value::Histogram(histogram) = &point.value else { return };
        if point.metric == AGENT_LATENESS {
            self.lateness += histogram.count();
        }
        if point.metric == AGENT_NOISE_FLOOR {
            self.noise_floor += histogram.count();
        }
        if point.metric == PROBE_DURATION {
            let (agent, source) = ("fra-1".parse().unwrap(), "fra".parse().unwrap());
            let (series, outcome) = labels::series(&point.attributes, &agent, &source).unwrap();
            if series.standing == Standing::Confirming && outcome == LOST {
                self.confirmed += histogram.count();
            }
            let key = (series.target.to_string(), series.phase.to_string(), outcome);
            *self.counts.entry(key).or_default() += histogram.count();
            self.slots.push((point.begin, point.end));
            if series.phase.as_str() == "jitter" {
                self.jitters += histogram.count();
            } else if outcome == Outcome::Reply {
                self.worst_reply = self.worst_reply.max(histogram.max().unwrap());
            }
        }
    }

    fn bad_point(&mut self, metric: &'a str, _: std::borrow::Cow<'a, [u8]>, fault: BadPoint) {
        panic!("{metric}: {fault}");
    }

    fn other(&mut self, metric: &'a str) {
        panic!("{metric} is of no kind that we send");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_collector_is_told_is_what_the_targets_answered() {
    let (collector, mut outside) = (Collector::default(), JoinSet::new());
    let url = collector.listen(&mut outside).await;
    let reflector = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let alive = reflector.local_addr().unwrap();
    let answered = Answered::default();
    outside.spawn(reflect(reflector, answered.clone()));
    let mute = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let silent = mute.local_addr().unwrap();
    let gateway = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let open = gateway.local_addr().unwrap();
    outside.spawn(async move {
        loop {
            drop(gateway.accept().await.unwrap());
        }
    });
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();

    let cdn = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let served = cdn.local_addr().unwrap();
    outside.spawn(async move { axum::serve(cdn, axum::Router::new()).await.unwrap() });
    let missing = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let absent = missing.local_addr().unwrap();
    drop(missing);

    let voice = "service = \"voice\"\nregion = \"iad\"\n";
    let probe = |kind: &str| format!("[[target.probe]]\nkind = \"{kind}\"\nevery = \"50ms\"\ntimeout = \"200ms\"\n");
    let target =
        |id: &str, address, kind| format!("[[target]]\nid = \"{id}\"\n{voice}address = \"{address}\"\n{}", probe(kind));
    let text = [
        format!("region = \"fra\"\nagent = \"fra-1\"\ncollector = \"{url}\"\nwindow = \"1s\"\n"),
        target("alive", alive, "voice"),
        "discovery_every = \"100ms\"\ntrain_every = \"700ms\"\ntrain_packets = 5\n".to_owned(),
        target("silent", silent, "voice"),
        target("open", open, "tcp"),
        target("closed", closed, "tcp"),
        target("served", served, "http"),
        "tls = false\n".to_owned(),
        target("absent", absent, "websocket"),
        "reconnect_every = \"1s\"\n".to_owned(),
    ];
    let config = Config::parse("agent.toml", text.concat()).unwrap();
    let (tasks, meters) = (Tasks::default(), Meters::new("isochrone-agent"));
    pipeline::start(&config, &meters, &tasks).await.unwrap();

    until("two seconds of everything", || {
        let sums = Sums::of(&collector);
        sums.count("alive", "rtt", Outcome::Reply) >= 30
            && sums.count("alive", "discovery", Outcome::Reply) >= 15
            && sums.count("alive", "train", Outcome::Reply) >= 10
            && sums.count("silent", "rtt", LOST) >= 30
            && sums.count("open", "connect", Outcome::Reply) >= 30
            && sums.count("closed", "connect", REFUSED) >= 30
            && sums.count("served", "connect", Outcome::Reply) >= 1
            && sums.count("served", "first_byte", NOT_FOUND) >= 30
            && sums.count("absent", "hello", REFUSED) >= 1
            && sums.count("absent", "heartbeat", REFUSED) >= 20
    })
    .await;
    tasks.shutdown().cancel();
    let [pings, discoveries] = [&answered.pings, &answered.discoveries].map(|count| || count.load(Ordering::SeqCst));
    until("every answer in a window, after the drain", || {
        let sums = Sums::of(&collector);
        let told = |phase| sums.count("alive", phase, Outcome::Reply) + sums.count("alive", phase, LOST);
        (told("rtt") + told("train"), told("discovery")) == (pings(), discoveries())
    })
    .await;

    let sums = Sums::of(&collector);
    assert_eq!(sums.count("silent", "rtt", Outcome::Reply), 0);
    assert_eq!(sums.count("closed", "connect", Outcome::Reply), 0);
    assert!(sums.worst_reply <= 0.2, "a reply after its timeout is none: {}", sums.worst_reply);
    let second = Duration::from_secs(1);
    for (begin, end) in &sums.slots {
        assert!(*begin == begin.slot(second) && begin < end && *end <= *begin + second, "{begin} to {end}");
    }
    let sequence = |r: &Request| r.headers["isochrone-seq"].to_str().unwrap().parse::<usize>().unwrap();
    let mut sequences: Vec<_> = collector.requests().iter().map(sequence).collect();
    sequences.sort_unstable();
    let expected: Vec<_> = (1..=sequences.len()).collect();
    assert_eq!(sequences, expected, "from 1, none left out, none twice");
    assert!(sums.lateness >= 100);
    assert!(sums.noise_floor >= 10, "{}", sums.noise_floor);
    assert!(sums.jitters >= 2, "{}", sums.jitters);
    assert!(sums.confirmed >= 5, "what never answers is doubted");
}
