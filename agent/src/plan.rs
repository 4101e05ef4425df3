//! What is measured: every series with its labels, its errand and its pace. Names are resolved once, when the plan is made.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use telemetry::otlp::build::Subject;
use telemetry::{Family, Series};
use tokio::task::JoinSet;
use tracing::warn;

use crate::config::{Config, Probe, ProbeKind, Target};
use crate::endpoint::Host;

/// A name server that says nothing must not keep the other targets waiting.
const RESOLVE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub struct Plan {
    series: Arc<[Planned]>,
}

#[derive(Debug)]
pub struct Planned {
    pub subject: Arc<Subject>,
    pub errand: Errand,
    pub every: Duration,
    pub timeout: Duration,
}

/// The place of a series in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesIndex(pub u32);

/// What to ask, and whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    VoicePing(SocketAddr),
    VoiceDiscovery(SocketAddr),
    Icmp(IpAddr),
    Tcp(SocketAddr),
    /// The target's name had no address when the plan was made.
    Nowhere,
}

/// What the names of a plan stand for. A name without an address is absent.
pub type Addresses = BTreeMap<String, IpAddr>;

impl Plan {
    pub fn new(config: &Config, addresses: &Addresses) -> Self {
        let each = |target| planned(config, target, addresses);
        Self { series: config.targets.iter().flat_map(each).collect() }
    }

    pub fn series(&self) -> &[Planned] {
        &self.series
    }

    pub fn get(&self, series: SeriesIndex) -> &Planned {
        &self.series[series.0 as usize]
    }

    /// The families that `of` finds in any errand.
    pub fn families(&self, of: impl Fn(Errand) -> Option<Family>) -> Vec<Family> {
        let has = |family: &Family| self.series.iter().any(|planned| of(planned.errand) == Some(*family));
        [Family::Ipv4, Family::Ipv6].into_iter().filter(has).collect()
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
            confirm: false,
            labels: telemetry::Labels::new(),
        };
        let port = target.endpoint.port.filter(|_| probe.kind != ProbeKind::Icmp);
        let errand = address.map_or(Errand::Nowhere, |address| (asked.errand)(address, port.unwrap_or_default()));
        let address = target.endpoint.host.to_string();
        let subject = Arc::new(Subject { series, address, port, transport: asked.transport });
        Planned { subject, errand, every: asked.every, timeout: probe.timeout }
    };
    let asked = target.probes.iter().flat_map(|probe| asked(probe).into_iter().map(move |asked| (probe, asked)));
    asked.map(|(probe, asked)| each(probe, asked)).collect()
}

/// One series of a probe.
struct Asked {
    phase: &'static str,
    transport: &'static str,
    every: Duration,
    errand: fn(IpAddr, u16) -> Errand,
}

fn asked(probe: &Probe) -> Vec<Asked> {
    let every = probe.every;
    let errand = |phase, transport, every, errand| Asked { phase, transport, every, errand };
    match probe.kind {
        ProbeKind::Voice { discovery_every } => vec![
            errand("rtt", "udp", every, |ip, port| Errand::VoicePing(SocketAddr::new(ip, port))),
            errand("discovery", "udp", discovery_every, |ip, port| Errand::VoiceDiscovery(SocketAddr::new(ip, port))),
        ],
        ProbeKind::Icmp => vec![errand("rtt", "icmp", every, |ip, _| Errand::Icmp(ip))],
        ProbeKind::Tcp => vec![errand("connect", "tcp", every, |ip, port| Errand::Tcp(SocketAddr::new(ip, port)))],
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
            .series()
            .iter()
            .map(|planned| (planned.subject.series.phase.to_string(), planned.errand, planned.every.as_secs()))
            .collect();
        let expected =
            [("rtt".to_owned(), Errand::VoicePing(to), 1), ("discovery".to_owned(), Errand::VoiceDiscovery(to), 10)];
        assert_eq!(met, expected);
        assert_eq!(config.series(), 2);
    }

    #[test]
    fn an_icmp_series_has_no_port_and_the_family_of_its_address() {
        let plan = Plan::new(&config("[2001:db8::1]:443", "icmp"), &Addresses::new());
        let Planned { subject, errand, .. } = &plan.series()[0];
        assert_eq!((subject.port, subject.address.as_str(), subject.transport), (None, "2001:db8::1", "icmp"));
        assert_eq!((subject.series.family, *errand), (Family::Ipv6, Errand::Icmp("2001:db8::1".parse().unwrap())));
    }

    #[test]
    fn a_name_that_was_not_resolved_leads_nowhere() {
        let plan = |addresses| Plan::new(&config("edge.example.com:443", "tcp"), &addresses).series()[0].errand;
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
