use std::collections::BTreeMap;
use std::net::IpAddr;

use protocols::voice;
use telemetry::otlp::walk::{BadPoint, Point, Value, Visitor, walk};
use telemetry::otlp::{PROBE_DURATION, labels};
use telemetry::{FailureKind, Outcome};
use tempfile::TempDir;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use crate::collector::{Collector, until};
use crate::commands::run;
use crate::name_server::{Says, Server};

/// Outcomes, by phase.
#[derive(Default)]
pub(crate) struct Outcomes(BTreeMap<(String, Outcome), u64>);

impl Outcomes {
    pub(crate) fn count(collector: &Collector, phase: &str, outcome: Outcome) -> u64 {
        let mut outcomes = Self::default();
        for request in collector.requests() {
            walk(&zstd::decode_all(&request.body[..]).unwrap(), &mut outcomes).unwrap();
        }
        outcomes.0.get(&(phase.to_owned(), outcome)).copied().unwrap_or_default()
    }
}

impl<'a> Visitor<'a> for Outcomes {
    fn resource(&mut self, _: &'a [u8]) {}

    fn point(&mut self, point: Point<'a>) {
        let Value::Histogram(histogram) = &point.value else { return };
        if point.metric == PROBE_DURATION {
            let (agent, source) = ("fra-1".parse().unwrap(), "fra".parse().unwrap());
            let (series, outcome) = labels::series(&point.attributes, &agent, &source).unwrap();
            *self.0.entry((series.phase.to_string(), outcome)).or_default() += histogram.count();
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
