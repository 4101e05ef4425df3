//! What is measured: every probe with its errand and its pace. What it measures stands in one series for each [`Aspect`].
//! Where a name stands is looked at when a probe is sent; one that opens connections by name asks for each of them itself.

mod places;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use protocols::dns::Question;
use telemetry::otlp::build::Subject;
use telemetry::{Family, Labels, Series, Standing, TargetId};

use crate::config::{Config, Http, IcmpBy, Probe, ProbeKind, Secure, Target, Train, Voice, WebSocket};
use crate::cron::Cron;
use crate::endpoint::Host;
use crate::names::{Addresses, Spot};

use places::{At, Place, Spots, places};

/// The phase of a train's packets.
pub const TRAIN: &str = "train";

#[derive(Debug, Clone)]
pub struct Plan {
    probes: Arc<[Planned]>,
}

#[derive(Debug)]
pub struct Planned {
    /// With its own phase; that of a probe of several phases is the last one.
    pub subject: Arc<Subject>,
    pub phase: &'static str,
    /// The address in it is that of [`Self::place`] when it is fixed.
    toward: Errand,
    place: Place,
    /// What few probes have is elsewhere: there may be ten thousand without.
    pub dial: Option<Box<Dial>>,
    /// What a DNS server is asked.
    pub question: Option<Box<Question>>,
    /// Of so many packets, where it is one.
    pub train: Option<u16>,
    pub every: Duration,
    /// When it is due, in place of `every`.
    pub cron: Option<Cron>,
    pub timeout: Duration,
    /// How many confirming packets its target may get in a second.
    confirms_per_second: u32,
}

/// What a task of the probe's own opens connections to, and what for.
#[derive(Debug, Clone)]
pub struct Dial {
    pub host: Host,
    pub port: u16,
    /// The one address of a name that this probe is for.
    pub pinned: Option<IpAddr>,
    /// The name server to ask. `None`: what the system says.
    pub resolver: Option<SocketAddr>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    /// The target's name has no address.
    Nowhere,
}

impl Plan {
    pub fn new(config: &Config, addresses: &Addresses) -> Self {
        let mut spots = Spots::new();
        let mut probes = Vec::new();
        for target in &config.targets {
            for at in places(config, target, addresses, &mut spots) {
                probes.extend(planned(config, target, &at));
            }
        }
        for (planned, index) in probes.iter_mut().zip(0..) {
            match &mut planned.toward {
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

    /// The names whose addresses probes are sent to.
    pub fn spots(&self) -> Vec<Spot> {
        let mut spots = BTreeMap::new();
        for planned in self.probes.iter().filter(|planned| planned.dial.is_none()) {
            if let Place::Named(spot) = &planned.place {
                spots.insert((&spot.name, spot.family), spot.clone());
            }
        }
        spots.into_values().collect()
    }

    /// The families that `of` finds in any errand, also where a name has no address yet.
    pub fn families(&self, of: impl Fn(Errand) -> Option<Family>) -> Vec<Family> {
        let has = |family: &Family| self.probes.iter().any(|planned| of(planned.toward) == Some(*family));
        [Family::Ipv4, Family::Ipv6].into_iter().filter(has).collect()
    }
}

impl Planned {
    /// Whom to ask as things stand now.
    pub fn errand(&self) -> Errand {
        match &self.place {
            Place::Named(spot) if self.dial.is_none() => {
                spot.address().map_or(Errand::Nowhere, |address| self.toward.at(address))
            }
            Place::Fixed(_) | Place::Named(_) => self.toward,
        }
    }

    /// What it asks, wherever that is.
    pub fn toward(&self) -> Errand {
        self.toward
    }

    /// Its target, and how many confirming packets that may get in a second.
    pub fn confirms(&self) -> (&TargetId, u32) {
        (&self.subject.series.target, self.confirms_per_second)
    }

    /// Of what it measures by its own phase alone.
    pub fn aspect(&self) -> Aspect {
        Aspect { phase: self.phase, labels: self.subject.series.labels.clone() }
    }

    /// Whether that is what it measures by its own phase.
    pub fn is_own(&self, aspect: &Aspect, standing: Standing) -> bool {
        standing == Standing::Regular && aspect.phase == self.phase && aspect.labels == self.subject.series.labels
    }

    /// Whose points those of an aspect are.
    pub fn subject_of(&self, aspect: &Aspect, standing: Standing) -> Arc<Subject> {
        if self.is_own(aspect, standing) {
            return self.subject.clone();
        }
        let mut subject = Subject::clone(&self.subject);
        subject.series.standing = standing;
        subject.series.phase = aspect.phase.parse().expect("a phase is a name");
        subject.series.labels = aspect.labels.clone();
        Arc::new(subject)
    }
}

impl Errand {
    /// Whether it is one small packet, which may be repeated at once to confirm a failure.
    pub fn is_datagram(self) -> bool {
        matches!(self, Self::Icmp(_) | Self::VoicePing(_) | Self::Stun(_) | Self::Stamp(_) | Self::Dns(..))
    }

    /// Whether its source ports are ours to choose.
    pub fn has_ports(self) -> bool {
        matches!(self, Self::Tcp(_) | Self::VoicePing(_) | Self::Stun(_) | Self::Stamp(_) | Self::Dns(..))
    }

    /// The same, elsewhere.
    fn at(self, ip: IpAddr) -> Self {
        let to = |to: SocketAddr| SocketAddr::new(ip, to.port());
        match self {
            Self::VoicePing(old) => Self::VoicePing(to(old)),
            Self::VoiceDiscovery(old) => Self::VoiceDiscovery(to(old)),
            Self::Stun(old) => Self::Stun(to(old)),
            Self::Stamp(old) => Self::Stamp(to(old)),
            Self::Icmp(_) => Self::Icmp(ip),
            Self::SurgePing(_) => Self::SurgePing(ip),
            Self::Tcp(old) => Self::Tcp(to(old)),
            Self::Dns(old, probe) => Self::Dns(to(old), probe),
            Self::Dial(_) | Self::Floor | Self::Nowhere => self,
        }
    }
}

fn planned(config: &Config, target: &Target, at: &At) -> Vec<Planned> {
    let At { place, family, labels } = at;
    let (family, by_name) = (*family, matches!(target.endpoint.host, Host::Name(_)));
    let fixed = if let Place::Fixed(address) = place { Some(*address) } else { None };
    let unspecified = match family {
        Family::Ipv4 => IpAddr::from([0; 4]),
        Family::Ipv6 => IpAddr::from([0; 16]),
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
            labels: labels.clone(),
        };
        let port = probe.kind.port(&target.endpoint);
        let dial = asked.purpose.map(|purpose| {
            let (host, port) = (target.endpoint.host.clone(), port.unwrap_or_default());
            Box::new(Dial { host, port, pinned: fixed.filter(|_| by_name), resolver: config.resolver, purpose })
        });
        let toward = (asked.errand)(fixed.unwrap_or(unspecified), port.unwrap_or_default());
        let place = place.clone();
        let address = target.endpoint.host.to_string();
        let subject = Arc::new(Subject { series, address, port, transport: asked.transport });
        let question = if let ProbeKind::Dns(question) = &probe.kind { Some(Box::new(question.clone())) } else { None };
        let (phase, every, train, timeout) = (asked.phase, asked.every, asked.train, probe.timeout);
        let cron = probe.cron.clone();
        let confirms_per_second = target.confirms_per_second;
        Planned { subject, phase, toward, place, dial, question, train, every, cron, timeout, confirms_per_second }
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
            let train = train
                .map(|Train { every, packets }| Asked { train: Some(packets), ..errand(TRAIN, "udp", every, ping) });
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

#[cfg(test)]
mod tests;
