//! What is measured: every probe with its errand and its pace. What it measures stands in one series for each [`Aspect`].
//! Names are resolved once, when the plan is made; a probe that opens connections by name asks again for each of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use protocols::dns::Question;
use telemetry::otlp::build::Subject;
use telemetry::{Family, Labels, Series, Standing};
use tokio::task::JoinSet;
use tracing::warn;

use crate::config::{Config, Http, IcmpBy, Probe, ProbeKind, Secure, Target, Train, Voice, WebSocket};
use crate::endpoint::Host;
use crate::trains;

/// A name server that says nothing must not keep the other targets waiting.
const RESOLVE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub struct Plan {
    probes: Arc<[Planned]>,
}

#[derive(Debug)]
pub struct Planned {
    /// With its own phase; that of a probe of several phases is the last one.
    pub subject: Subject,
    pub phase: &'static str,
    pub errand: Errand,
    pub dial: Option<Dial>,
    /// What a DNS server is asked.
    pub question: Option<Question>,
    /// Of so many packets, where it is one.
    pub train: Option<u16>,
    pub every: Duration,
    pub timeout: Duration,
}

/// What a task of the probe's own opens connections to, and what for.
#[derive(Debug, Clone)]
pub struct Dial {
    pub host: Host,
    pub port: u16,
    pub purpose: Purpose,
}

#[derive(Debug, Clone)]
pub enum Purpose {
    Tls(Secure),
    Http(Http),
    /// Opens the connection that the beats of the same target go over.
    GatewayConnection(WebSocket),
    GatewayBeat(WebSocket),
}

/// What tells the series of one probe apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Aspect {
    pub phase: &'static str,
    pub labels: Labels,
}

/// The place of a probe in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ProbeIndex(pub u32);

/// What to ask, and whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    VoicePing(SocketAddr),
    VoiceDiscovery(SocketAddr),
    Stun(SocketAddr),
    Stamp(SocketAddr),
    Icmp(IpAddr),
    SurgePing(IpAddr),
    Tcp(SocketAddr),
    /// The question of that probe.
    Dns(SocketAddr, ProbeIndex),
    /// What the [`Dial`] of that probe says.
    Dial(ProbeIndex),
    /// The reflector inside ourselves.
    Floor,
    /// The target's name had no address when the plan was made.
    Nowhere,
}

/// What the names of a plan stand for. A name without an address is absent.
pub type Addresses = BTreeMap<String, IpAddr>;

impl Plan {
    pub fn new(config: &Config, addresses: &Addresses) -> Self {
        let each = |target| planned(config, target, addresses);
        let mut probes: Vec<_> = config.targets.iter().flat_map(each).collect();
        for (planned, index) in probes.iter_mut().zip(0..) {
            match &mut planned.errand {
                Errand::Dns(_, probe) => *probe = ProbeIndex(index),
                errand if planned.dial.is_some() => *errand = Errand::Dial(ProbeIndex(index)),
                _ => {}
            }
        }
        Self { probes: probes.into() }
    }

    pub fn probes(&self) -> &[Planned] {
        &self.probes
    }

    pub fn get(&self, probe: ProbeIndex) -> &Planned {
        &self.probes[probe.0 as usize]
    }

    /// The families that `of` finds in any errand.
    pub fn families(&self, of: impl Fn(Errand) -> Option<Family>) -> Vec<Family> {
        let has = |family: &Family| self.probes.iter().any(|planned| of(planned.errand) == Some(*family));
        [Family::Ipv4, Family::Ipv6].into_iter().filter(has).collect()
    }
}

impl Errand {
    /// Whether it is one small packet, which may be repeated at once to confirm a failure.
    pub fn is_datagram(self) -> bool {
        matches!(self, Self::Icmp(_)) || self.has_ports()
    }

    /// Whether its source ports are ours to choose.
    pub fn has_ports(self) -> bool {
        matches!(self, Self::VoicePing(_) | Self::Stun(_) | Self::Stamp(_) | Self::Dns(..))
    }
}

impl Planned {
    /// Of what it measures by its own phase alone.
    pub fn aspect(&self) -> Aspect {
        Aspect { phase: self.phase, labels: Labels::new() }
    }

    /// Whose points those of an aspect are.
    pub fn subject_of(&self, aspect: &Aspect, standing: Standing) -> Subject {
        let mut subject = self.subject.clone();
        subject.series.standing = standing;
        subject.series.phase = aspect.phase.parse().expect("a phase is a name");
        subject.series.labels = aspect.labels.clone();
        subject
    }
}

fn planned(config: &Config, target: &Target, addresses: &Addresses) -> Vec<Planned> {
    let address = match &target.endpoint.host {
        Host::Address(address) => Some(*address),
        Host::Name(name) => addresses.get(name).copied(),
    };
    let family = match address {
        Some(IpAddr::V6(_)) => Family::Ipv6,
        Some(IpAddr::V4(_)) | None => Family::Ipv4,
    };
    let each = |probe: &Probe, asked: Asked| {
        let series = Series {
            agent: config.agent.clone(),
            source: config.region.clone(),
            target: target.id.clone(),
            region: target.region.clone(),
            service: target.service.clone(),
            probe: probe.kind.as_str().parse().expect("a kind is a name"),
            phase: asked.phase.parse().expect("a phase is a name"),
            family,
            standing: Standing::Regular,
            labels: Labels::new(),
        };
        let port = probe.kind.port(&target.endpoint);
        let dial = asked.purpose.map(|purpose| {
            let (host, port) = (target.endpoint.host.clone(), port.unwrap_or_default());
            Dial { host, port, purpose }
        });
        let errand = address.map_or(Errand::Nowhere, |address| (asked.errand)(address, port.unwrap_or_default()));
        let address = target.endpoint.host.to_string();
        let subject = Subject { series, address, port, transport: asked.transport };
        let question = if let ProbeKind::Dns(question) = &probe.kind { Some(question.clone()) } else { None };
        let (phase, every, train) = (asked.phase, asked.every, asked.train);
        Planned { subject, phase, errand, dial, question, train, every, timeout: probe.timeout }
    };
    let asked =
        target.probes.iter().flat_map(|probe| asked(probe, config.icmp).into_iter().map(move |asked| (probe, asked)));
    asked.map(|(probe, asked)| each(probe, asked)).collect()
}

/// One errand of a probe.
struct Asked {
    phase: &'static str,
    transport: &'static str,
    every: Duration,
    errand: fn(IpAddr, u16) -> Errand,
    purpose: Option<Purpose>,
    train: Option<u16>,
}

fn asked(probe: &Probe, icmp: IcmpBy) -> Vec<Asked> {
    let every = probe.every;
    let errand =
        |phase, transport, every, errand| Asked { phase, transport, every, errand, purpose: None, train: None };
    let dial = |phase, purpose| Asked { purpose: Some(purpose), ..errand(phase, "tcp", every, |_, _| Errand::Nowhere) };
    match &probe.kind {
        ProbeKind::Voice(Voice { discovery_every, train }) => {
            let ping = |ip, port| Errand::VoicePing(SocketAddr::new(ip, port));
            let discovery = |ip, port| Errand::VoiceDiscovery(SocketAddr::new(ip, port));
            let train = train.map(|Train { every, packets }| Asked {
                train: Some(packets),
                ..errand(trains::TRAIN, "udp", every, ping)
            });
            let single = [errand("rtt", "udp", every, ping), errand("discovery", "udp", *discovery_every, discovery)];
            single.into_iter().chain(train).collect()
        }
        ProbeKind::Stun => vec![errand("rtt", "udp", every, |ip, port| Errand::Stun(SocketAddr::new(ip, port)))],
        ProbeKind::Stamp => vec![errand("rtt", "udp", every, |ip, port| Errand::Stamp(SocketAddr::new(ip, port)))],
        ProbeKind::Icmp => match icmp {
            IcmpBy::Ourselves => vec![errand("rtt", "icmp", every, |ip, _| Errand::Icmp(ip))],
            IcmpBy::SurgePing => vec![errand("rtt", "icmp", every, |ip, _| Errand::SurgePing(ip))],
        },
        ProbeKind::Tcp => vec![errand("connect", "tcp", every, |ip, port| Errand::Tcp(SocketAddr::new(ip, port)))],
        ProbeKind::Dns(_) => {
            let ask = |ip, port| Errand::Dns(SocketAddr::new(ip, port), ProbeIndex::default());
            vec![errand("rtt", "udp", every, ask)]
        }
        ProbeKind::Tls(secure) => vec![dial("tls", Purpose::Tls(secure.clone()))],
        ProbeKind::Http(http) => vec![dial("transfer", Purpose::Http(http.clone()))],
        ProbeKind::WebSocket(gateway) => vec![
            Asked { every: gateway.reconnect_every, ..dial("hello", Purpose::GatewayConnection(gateway.clone())) },
            dial("heartbeat", Purpose::GatewayBeat(gateway.clone())),
        ],
    }
}

/// Asks the system's resolver for every name of the configuration, all at once. Of several addresses the first one counts
/// that has the family of our source, else the first: the resolver knows best which of them this machine reaches.
pub async fn resolve(config: &Config) -> Addresses {
    let mut lookups = JoinSet::new();
    for target in &config.targets {
        if let Host::Name(name) = target.endpoint.host.clone() {
            let (target, source) = (target.id.clone(), config.source_address);
            lookups.spawn(async move {
                let address = lookup(&name, source).await;
                if let Err(reason) = &address {
                    warn!(%target, name, reason, "the name has no address; its probes count as dns failures");
                }
                Some((name, address.ok()?))
            });
        }
    }
    lookups.join_all().await.into_iter().flatten().collect()
}

async fn lookup(name: &str, source: Option<IpAddr>) -> Result<IpAddr, String> {
    let found = tokio::time::timeout(RESOLVE, tokio::net::lookup_host((name, 0))).await;
    let found = found.map_err(|_| format!("no answer within {RESOLVE:?}"))?.map_err(|error| error.to_string())?;
    let found: Vec<_> = found.map(|address| address.ip()).collect();
    let ours = found.iter().find(|ip| source.is_some_and(|source| source.is_ipv4() == ip.is_ipv4()));
    ours.or(found.first()).copied().ok_or_else(|| "no addresses".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(address: &str, kind: &str) -> Config {
        let text = format!(
            "region = \"fra\"\nagent = \"fra-1\"\ncollector = \"http://127.0.0.1:1\"\n[[target]]\nid = \"iad-1\"\n\
             service = \"voice\"\nregion = \"iad\"\naddress = \"{address}\"\n[[target.probe]]\nkind = \"{kind}\"\n"
        );
        Config::parse("agent.toml", text).unwrap()
    }

    #[test]
    fn a_voice_probe_makes_a_ping_and_a_discovery_series() {
        let config = config("192.0.2.7:50000", "voice");
        let plan = Plan::new(&config, &Addresses::new());
        let to = "192.0.2.7:50000".parse().unwrap();
        let met: Vec<_> = plan
            .probes()
            .iter()
            .map(|planned| (planned.subject.series.phase.to_string(), planned.errand, planned.every.as_secs()))
            .collect();
        let expected =
            [("rtt".to_owned(), Errand::VoicePing(to), 1), ("discovery".to_owned(), Errand::VoiceDiscovery(to), 10)];
        assert_eq!(met, expected);
        assert_eq!(config.series(), 2);
    }

    #[test]
    fn a_voice_probe_with_trains_makes_a_series_of_them_too() {
        let config = config("192.0.2.7:50000", "voice\"\ntrain_every = \"1m");
        let plan = Plan::new(&config, &Addresses::new());
        let Planned { phase, train, every, errand, .. } = plan.probes().last().unwrap();
        assert_eq!((*phase, *train, *every), ("train", Some(50), Duration::from_mins(1)));
        assert_eq!(*errand, Errand::VoicePing("192.0.2.7:50000".parse().unwrap()));
        assert_eq!(config.series(), 4, "ping, discovery, train, jitter");
    }

    #[test]
    fn an_icmp_series_has_no_port_and_the_family_of_its_address() {
        let plan = Plan::new(&config("[2001:db8::1]:443", "icmp"), &Addresses::new());
        let Planned { subject, errand, .. } = &plan.probes()[0];
        assert_eq!((subject.port, subject.address.as_str(), subject.transport), (None, "2001:db8::1", "icmp"));
        assert_eq!((subject.series.family, *errand), (Family::Ipv6, Errand::Icmp("2001:db8::1".parse().unwrap())));
    }

    #[test]
    fn a_dns_probe_asks_its_own_question_at_port_53_unless_the_address_says_otherwise() {
        let plan = |address| Plan::new(&config(address, "dns\"\nname = \"www.example.com"), &Addresses::new());
        let plain = plan("192.0.2.53");
        let Planned { subject, errand, question, .. } = &plain.probes()[0];
        assert_eq!((subject.port, subject.transport, subject.series.phase.as_str()), (Some(53), "udp", "rtt"));
        assert_eq!(*errand, Errand::Dns("192.0.2.53:53".parse().unwrap(), ProbeIndex(0)));
        assert!(question.is_some());
        let elsewhere = plan("192.0.2.53:5353").probes()[0].errand;
        assert_eq!(elsewhere, Errand::Dns("192.0.2.53:5353".parse().unwrap(), ProbeIndex(0)));
    }

    #[test]
    fn a_name_that_was_not_resolved_leads_nowhere() {
        let plan = |addresses| Plan::new(&config("edge.example.com:443", "tcp"), &addresses).probes()[0].errand;
        assert_eq!(plan(Addresses::new()), Errand::Nowhere);
        let known = Addresses::from([("edge.example.com".to_owned(), "192.0.2.9".parse().unwrap())]);
        assert_eq!(plan(known), Errand::Tcp("192.0.2.9:443".parse().unwrap()));
    }

    #[tokio::test]
    async fn a_name_in_the_hosts_file_is_resolved_to_our_sources_family() {
        let mut config = config("localhost:443", "tcp");
        config.source_address = Some("127.0.0.1".parse().unwrap());
        assert_eq!(resolve(&config).await.get("localhost"), Some(&"127.0.0.1".parse().unwrap()));
    }
}
