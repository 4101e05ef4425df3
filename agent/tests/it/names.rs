use std::collections::BTreeMap;
use std::net::IpAddr;

use protocols::voice;
use telemetry::otlp::walk::{BadPoint, Point, Value, Visitor, walk};
use telemetry::otlp::{PROBE_DURATION, labels};
use telemetry::{FailureKind, Label, Outcome};
use tempfile::TempDir;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use crate::collector::{Collector, until};
use crate::commands::run;
use crate::name_server::{Says, Server};

/// Outcomes, by phase; and of which address each was.
#[derive(Default)]
pub(crate) struct Outcomes {
    counts: BTreeMap<(String, Outcome), u64>,
    addresses: BTreeMap<(String, Option<String>), u64>,
}

impl Outcomes {
    fn of(collector: &Collector) -> Self {
        let mut outcomes = Self::default();
        for request in collector.requests() {
            walk(&zstd::decode_all(&request.body[..]).unwrap(), &mut outcomes).unwrap();
        }
        outcomes
    }

    pub(crate) fn count(collector: &Collector, phase: &str, outcome: Outcome) -> u64 {
        Self::of(collector).counts.get(&(phase.to_owned(), outcome)).copied().unwrap_or_default()
    }
}

impl<'a> Visitor<'a> for Outcomes {
    fn resource(&mut self, _: &'a [u8]) {}

    fn point(&mut self, point: Point<'a>) {
        let Value::Histogram(histogram) = &point.value else { return };
        if point.metric == PROBE_DURATION {
            let (agent, source) = ("fra-1".parse().unwrap(), "fra".parse().unwrap());
            let (series, outcome) = labels::series(&point.attributes, &agent, &source).unwrap();
            *self.counts.entry((series.phase.to_string(), outcome)).or_default() += histogram.count();
            let address = series.labels.get(&Label::Address).map(ToString::to_string);
            *self.addresses.entry((series.phase.to_string(), address)).or_default() += histogram.count();
        }
    }

    fn bad_point(&mut self, metric: &'a str, _: std::borrow::Cow<'a, [u8]>, fault: BadPoint) {
        panic!("{metric}: {fault}");
    }

    fn other(&mut self, metric: &'a str) {
        panic!("{metric} is of no kind that we send");
    }
}

/// Answers each ping, and says so.
async fn reflect(socket: UdpSocket, answered: tokio::sync::watch::Sender<u64>) {
    let mut packet = [0; 128];
    loop {
        let (length, from) = socket.recv_from(&mut packet).await.unwrap();
        socket.send_to(&voice::answer(&packet[..length], from).unwrap(), from).await.unwrap();
        answered.send_modify(|count| *count += 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_follows_a_name_from_nowhere_to_one_address_and_on_to_another_without_a_restart() {
    let (folder, collector, mut outside) = (TempDir::new().unwrap(), Collector::default(), JoinSet::new());
    let url = collector.listen(&mut outside).await;
    let first = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    let port = first.local_addr().unwrap().port();
    let second = UdpSocket::bind(("127.0.0.3", port)).await.unwrap();
    let [(one, first_answered), (two, second_answered)] = [0, 0].map(tokio::sync::watch::channel);
    outside.spawn(reflect(first, one));
    outside.spawn(reflect(second, two));
    let server = Server::start(Says::NoSuchName, &mut outside).await;
    let file = folder.path().join("agent.toml");
    let text = format!(
        "region = \"fra\"\nagent = \"fra-1\"\ncollector = \"{url}\"\nwindow = \"500ms\"\nresolver = \"{}\"\n[[target]]\n\
         id = \"iad-1\"\nservice = \"voice\"\nregion = \"iad\"\naddress = \"voice.example.com:{port}\"\n\
         [[target.probe]]\nkind = \"voice\"\nevery = \"50ms\"\ndiscovery_every = \"100ms\"\n\
         [[target.probe]]\nkind = \"http\"\ntls = false\nevery = \"100ms\"\n",
        server.address
    );
    std::fs::write(&file, text).unwrap();
    let run = run(&file);

    let dns = Outcome::Failure(FailureKind::Dns);
    until("failures of dns", || Outcomes::count(&collector, "rtt", dns) >= 5).await;
    until("a lookup of a connection's own that fails", || Outcomes::count(&collector, "dns", dns) >= 1).await;
    let at = |address: &str| Says::Addresses(vec![address.parse::<IpAddr>().unwrap()], 1);
    server.say(at("127.0.0.2"));
    until("answers of the first address", || *first_answered.borrow() >= 5).await;
    until("replies told", || Outcomes::count(&collector, "rtt", Outcome::Reply) >= 5).await;
    until("a lookup of a connection's own", || Outcomes::count(&collector, "dns", Outcome::Reply) >= 1).await;
    assert_eq!(*second_answered.borrow(), 0);
    server.say(at("127.0.0.3"));
    until("answers of the second address", || *second_answered.borrow() >= 5).await;
    for says in [Says::Nothing, Says::ServFail] {
        server.say(says);
        let (asked, failed) = (server.asked(), Outcomes::count(&collector, "rtt", dns));
        until("questions that get no answer", || server.asked() >= asked + 5).await;
        let answered = *second_answered.borrow();
        until("answers of the address that was known", || *second_answered.borrow() >= answered + 5).await;
        assert_eq!(Outcomes::count(&collector, "rtt", dns), failed);
    }
    let (code, log) = run.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("the name stands for another address"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_address_of_a_name_is_measured_in_series_of_its_own_where_that_is_asked_for() {
    let (folder, collector, mut outside) = (TempDir::new().unwrap(), Collector::default(), JoinSet::new());
    let url = collector.listen(&mut outside).await;
    let first = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let port = first.local_addr().unwrap().port();
    let second = TcpListener::bind(("127.0.0.3", port)).await.unwrap();
    for listener in [first, second] {
        outside.spawn(async move { axum::serve(listener, axum::Router::new()).await.unwrap() });
    }
    let addresses = ["127.0.0.2", "127.0.0.3"].map(|address| address.parse::<IpAddr>().unwrap());
    let server = Server::start(Says::Addresses(addresses.to_vec(), 1), &mut outside).await;
    let file = folder.path().join("agent.toml");
    let text = format!(
        "region = \"fra\"\nagent = \"fra-1\"\ncollector = \"{url}\"\nwindow = \"500ms\"\nresolver = \"{}\"\n[[target]]\n\
         id = \"iad-1\"\nservice = \"cdn\"\nregion = \"iad\"\naddress = \"cdn.example.com:{port}\"\naddresses = \"all\"\n\
         [[target.probe]]\nkind = \"tcp\"\nevery = \"100ms\"\n\
         [[target.probe]]\nkind = \"http\"\ntls = false\nevery = \"100ms\"\n",
        server.address
    );
    std::fs::write(&file, text).unwrap();
    let run = run(&file);
    let of = |phase: &str, address: IpAddr| (phase.to_owned(), Some(address.to_string()));
    until("some of each phase at each address", || {
        let told = Outcomes::of(&collector).addresses;
        let count = |key| told.get(&key).copied().unwrap_or_default();
        addresses.iter().all(|address| {
            count(of("connect", *address)) >= 5
                && count(of("first_byte", *address)) >= 5
                && count(of("transfer", *address)) >= 5
        })
    })
    .await;
    let (code, log) = run.stop();
    assert_eq!(code, Some(0), "{log}");
    let told = Outcomes::of(&collector).addresses;
    assert!(told.keys().all(|(phase, address)| phase != "dns" && address.is_some()), "{told:?}");
}
