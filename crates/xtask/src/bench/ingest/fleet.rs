//! Who measures what, and what each series saw: drawn once, so that every server is sent the same.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand_pcg::Pcg64Mcg;
use telemetry::otlp::attribute;
use telemetry::otlp::build::{Sender, Subject};
use telemetry::sample::{self, Drawn};
use telemetry::{Family, Labels, Name, Series, Standing, window};

pub(in super::super) const WIDTH: Duration = window::DEFAULT_WIDTH;
/// A probe a second.
pub(in super::super) const SAMPLES: usize = 10;
/// Of one agent, so many points in a batch.
const EACH: usize = 1000;
const REGIONS: usize = 20;

/// Its name, its primary measurement, and how its targets are probed.
type Service = (&'static str, &'static str, &'static [Probe]);
/// A probe, one phase of it, and over what.
type Probe = (&'static str, &'static str, &'static str);

pub(in super::super) const SERVICES: [Service; 3] = [
    ("voice", "voice/rtt", &[("voice", "rtt", "udp"), ("icmp", "rtt", "icmp")]),
    (
        "gateway",
        "websocket/heartbeat",
        &[("websocket", "heartbeat", "tcp"), ("websocket", "connect", "tcp"), ("websocket", "tls", "tcp")],
    ),
    (
        "cdn",
        "http/first_byte",
        &[
            ("http", "first_byte", "tcp"),
            ("http", "connect", "tcp"),
            ("http", "tls", "tcp"),
            ("http", "dns", "udp"),
            ("http", "transfer", "tcp"),
        ],
    ),
];

#[derive(Debug)]
pub(in super::super) struct Fleet {
    pub(in super::super) agents: Vec<Agent>,
    /// How many windows each series has.
    pub(in super::super) windows: usize,
}

#[derive(Debug)]
pub(in super::super) struct Agent {
    pub(in super::super) sender: Sender,
    pub(in super::super) subjects: Vec<Arc<Subject>>,
    /// By window, then by subject.
    pub(in super::super) seen: Vec<Vec<Drawn>>,
}

impl Fleet {
    pub(in super::super) fn new(series: usize, windows: usize) -> Self {
        let mut rng = Pcg64Mcg::new(1);
        let agents = (0..series / EACH).map(|number| Agent::new(number, windows, &mut rng)).collect();
        Self { agents, windows }
    }

    pub(in super::super) fn series(&self) -> usize {
        self.agents.iter().map(|agent| agent.subjects.len()).sum()
    }

    pub(in super::super) fn regions() -> impl Iterator<Item = String> {
        (0..REGIONS).map(region)
    }
}

impl Agent {
    fn new(number: usize, windows: usize, rng: &mut Pcg64Mcg) -> Self {
        let source = region(number % REGIONS);
        let sender = Sender {
            agent: name(&format!("{source}-{}", number / REGIONS + 1)),
            source: name(&source),
            zone: None,
            version: "1.0.0".to_owned(),
        };
        let subjects: Vec<_> = (0..EACH).map(|index| Arc::new(subject(&sender, index))).collect();
        // A region is somewhere between next door and the other side of the world.
        let usual: Vec<f64> = subjects.iter().map(|_| rng.random_range(0.002..0.300)).collect();
        let seen = (0..windows)
            .map(|_| usual.iter().map(|usual| sample::window(*usual, SAMPLES, || rng.random_range(0.0..1.0))).collect())
            .collect();
        Self { sender, subjects, seen }
    }
}

fn subject(sender: &Sender, index: usize) -> Subject {
    let kinds: Vec<_> =
        SERVICES.iter().flat_map(|(service, _, probes)| probes.iter().map(move |it| (*service, *it))).collect();
    let (service, (probe, phase, transport)) = kinds[index % kinds.len()];
    let place = index / kinds.len();
    let (region, host) = (region(place % REGIONS), place / REGIONS);
    let series = Series {
        agent: sender.agent.clone(),
        source: sender.source.clone(),
        target: name(&format!("{region}-{service}-{host}")),
        region: name(&region),
        service: name(service),
        probe: name::<Name>(probe),
        phase: name(phase),
        family: Family::Ipv4,
        standing: Standing::Regular,
        labels: Labels::new(),
    };
    let port = (transport != "icmp").then_some(443);
    Subject { series, address: format!("{service}-{host}.{region}.example.net"), port, transport }
}

/// What a point says beside its values, and its resource, as OpenTelemetry's names become Prometheus' labels: in their order.
pub(in super::super) fn labels(agent: &Agent, subject: &Subject) -> Vec<(String, String)> {
    let series = &subject.series;
    let port = subject.port.map(|port| port.to_string());
    let attributes = [
        (attribute::TARGET, Some(series.target.as_str())),
        (attribute::REGION, Some(series.region.as_str())),
        (attribute::SERVICE, Some(series.service.as_str())),
        (attribute::PROBE, Some(series.probe.as_str())),
        (attribute::PHASE, Some(series.phase.as_str())),
        (attribute::ADDRESS, Some(subject.address.as_str())),
        (attribute::TRANSPORT, Some(subject.transport)),
        (attribute::FAMILY, Some(series.family.as_str())),
        (attribute::PORT, port.as_deref()),
        (attribute::SOURCE, Some(agent.sender.source.as_str())),
        ("instance", Some(agent.sender.agent.as_str())),
        ("job", Some("isochrone-agent")),
    ];
    let given = attributes.into_iter().filter_map(|(name, value)| Some((name.replace('.', "_"), value?.to_owned())));
    let mut labels: Vec<_> = given.collect();
    labels.sort();
    labels
}

pub(in super::super) fn region(number: usize) -> String {
    format!("region-{number:02}")
}

fn name<T: std::str::FromStr<Err = telemetry::InvalidName>>(text: &str) -> T {
    text.parse().expect("a name")
}
