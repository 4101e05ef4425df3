//! The agent's file: TOML in, a resolved type out, every fault told at once.

mod collectors;
mod probe;
mod spool;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use runtime::config::{self, Faults, Table, kind};
use runtime::own::Destination;
use telemetry::window::DEFAULT_WIDTH;
use telemetry::{AgentId, Family, RegionName, ServiceName, TargetId};

use crate::endpoint::{self, Endpoint, Host};

pub use collectors::{Collector, Collectors};
pub use probe::{
    Http, HttpVersion, Probe, ProbeKind, RequestPath, Roots, Secure, TRAIN_APART, Train, Voice, WebSocket,
};
pub use spool::Limits;

/// Probes of one series. A timeout is shorter than so many intervals, or a silent target would hold more.
pub const MAX_IN_FLIGHT: u32 = 1000;

/// Every address multiplies the series.
pub const MAX_ADDRESSES: usize = 8;

#[derive(Debug, Clone)]
pub struct Config {
    pub region: RegionName,
    pub agent: AgentId,
    pub collectors: Collectors,
    /// Where probes go out from; its family's only.
    pub source_address: Option<IpAddr>,
    /// The name server to ask. `None`: what the system says.
    pub resolver: Option<SocketAddr>,
    pub icmp: IcmpBy,
    /// How many confirming packets may go out in a second; 0: none.
    pub confirms_per_second: u32,
    pub data_dir: Option<String>,
    pub spool: Limits,
    pub zone: Option<String>,
    /// The width of a slot.
    pub window: Duration,
    /// Where our own metrics and spans go.
    pub telemetry: Option<Destination>,
    pub targets: Vec<Target>,
}

#[derive(Debug, Clone)]
pub struct Target {
    pub id: TargetId,
    pub service: ServiceName,
    pub region: RegionName,
    pub endpoint: Endpoint,
    pub family: FamilyChoice,
    pub addresses: AddressChoice,
    /// What routers are told; never probed, never guessed from the address.
    pub advertise: Vec<String>,
    /// How many confirming packets it may get in a second.
    pub confirms_per_second: u32,
    pub probes: Vec<Probe>,
}

/// In which families a name is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FamilyChoice {
    /// That of the source address, else the one that this machine prefers at start.
    Usual,
    One(Family),
    /// A series of each, also where the name has no address of one.
    Both,
}

/// Which of a name's addresses are probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressChoice {
    /// One at a time, whichever stands.
    One,
    /// Each that was there at start, up to [`MAX_ADDRESSES`] of a family, in a series of its own.
    All,
}

/// Who sends and receives ICMP echoes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpBy {
    /// Sockets of the pacer's own, with the kernel's receive stamps.
    Ourselves,
    SurgePing,
}

const ICMP_BY: &[(&str, IcmpBy)] = &[("own", IcmpBy::Ourselves), ("surge-ping", IcmpBy::SurgePing)];

const CONFIRMS_PER_SECOND: u32 = 100;
const CONFIRMS_OF_A_TARGET: u32 = 10;
/// By which kind of probe a collector judges a service, where its own configuration does not say otherwise. Of those that may
/// have a cron expression.
const JUDGED_BY: &[(&str, &str)] = &[("cdn", "http")];
const FAMILIES: &[(&str, FamilyChoice)] = &[
    ("ipv4", FamilyChoice::One(Family::Ipv4)),
    ("ipv6", FamilyChoice::One(Family::Ipv6)),
    ("both", FamilyChoice::Both),
];
const ADDRESSES: &[(&str, AddressChoice)] = &[("one", AddressChoice::One), ("all", AddressChoice::All)];
const RESOLVER: &str = "an IP address and a port, such as \"127.0.0.1:53\"";

const WINDOWS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_mins(5);

impl Config {
    pub fn load(path: &Path) -> Result<Self, Faults> {
        config::read(path, Self::build)
    }

    /// The same for text that is at hand; `name` stands in the report.
    pub fn parse(name: &str, text: String) -> Result<Self, Faults> {
        config::parse(name, text, Self::build)
    }

    fn build(root: &mut Table<'_>) -> Option<Self> {
        let region: Option<RegionName> = root.required("region", kind::name());
        let agent = root.optional("agent", kind::name());
        let collectors = Collectors::build(root);
        let source_address = root.optional("source_address", kind::parsed("an IP address, without a port"));
        let resolver = root.optional("resolver", kind::parsed(RESOLVER));
        let icmp = root.optional("icmp", kind::choice(ICMP_BY)).unwrap_or(IcmpBy::Ourselves);
        let confirms_per_second = confirms(root).unwrap_or(CONFIRMS_PER_SECOND);
        let data_dir = root.optional("data_dir", kind::text());
        let spool = root.table("spool", |table| Some(Limits::read(table))).unwrap_or_default();
        let zone = root.optional("zone", kind::text());
        let window = duration(root, "window", DEFAULT_WIDTH, WINDOWS);
        let telemetry = Destination::read(root);
        let mut ids = BTreeSet::new();
        let mut wrong = false;
        let targets = root.tables("target", |target| {
            let target = Target::build(target, &mut ids);
            wrong |= target.is_none();
            target
        });
        if targets.is_empty() && !wrong {
            root.refuse("target", "missing", "needs at least one [[target]]");
        }
        let region = region?;
        let agent = agent.unwrap_or_else(|| default_agent(&region));
        Some(Self {
            agent,
            region,
            collectors: collectors?,
            source_address,
            resolver,
            icmp,
            confirms_per_second,
            data_dir,
            spool,
            zone,
            window,
            telemetry,
            targets,
        })
    }

    /// What is allowed and yet hardly meant.
    pub fn doubts(&self) -> Vec<String> {
        let judging = |target: &Target, probe: &Probe| {
            let judges = JUDGED_BY.contains(&(target.service.as_str(), probe.kind.as_str()));
            (judges && probe.cron.is_some()).then(|| {
                let (id, service, kind) = (&target.id, &target.service, probe.kind.as_str());
                format!("{id}: {service} is judged by {kind}, which has cron: between its times nothing is known")
            })
        };
        let targets = self.targets.iter();
        targets.flat_map(|target| target.probes.iter().filter_map(move |probe| judging(target, probe))).collect()
    }

    /// How many series it makes at least: one for each phase, and for each kind of connection. What targets say of themselves
    /// makes more.
    pub fn series(&self) -> usize {
        let of = |target: &Target| {
            let families = if target.family == FamilyChoice::Both { 2 } else { 1 };
            families * target.probes.iter().map(|probe| probe.kind.series(&target.endpoint.host)).sum::<usize>()
        };
        self.targets.iter().map(of).sum()
    }
}

impl Target {
    fn build(table: &mut Table<'_>, ids: &mut BTreeSet<TargetId>) -> Option<Self> {
        let id: Option<TargetId> = table.required("id", kind::name());
        if let Some(id) = &id
            && !ids.insert(id.clone())
        {
            table.refuse("id", &format!("{id} stands twice"), "each target has an id of its own");
        }
        let service = table.required("service", kind::name());
        let region = table.required("region", kind::name());
        let endpoint: Option<Endpoint> = table.required("address", kind::parsed(endpoint::ALLOWED));
        let family = table.optional("family", kind::choice(FAMILIES)).unwrap_or(FamilyChoice::Usual);
        let addresses = table.optional("addresses", kind::choice(ADDRESSES)).unwrap_or(AddressChoice::One);
        if let Some(Endpoint { host: Host::Address(address), .. }) = &endpoint {
            let fits = match family {
                FamilyChoice::Usual => true,
                FamilyChoice::One(family) => family == endpoint::family(*address),
                FamilyChoice::Both => false,
            };
            if !fits {
                table.refuse("family", &format!("the address is {address}"), "one that the address has, or a name");
            }
            if addresses == AddressChoice::All {
                table.refuse("addresses", &format!("the address is {address}"), "\"all\" of a name only");
            }
        }
        let advertise = table.optional("advertise", kind::list(kind::text())).unwrap_or_default();
        let confirms_per_second = confirms(table).unwrap_or(CONFIRMS_OF_A_TARGET);
        let (mut kinds, mut wrong) = (Vec::new(), false);
        let probes = table.tables("probe", |probe| {
            let probe = Probe::build(probe, &mut kinds);
            wrong |= probe.is_none();
            probe
        });
        if probes.is_empty() && !wrong {
            table.refuse("probe", "missing", "needs at least one [[target.probe]]");
        }
        if let Some(Endpoint { host, port: None }) = &endpoint
            && let Some(probe) = probes.iter().find(|probe| probe.kind.needs_port())
        {
            let found = format!("found {host} without a port");
            table.refuse("address", &found, &format!("{} needs one: host:port", probe.kind.as_str()));
        }
        if let Some(endpoint @ Endpoint { host, port: Some(port) }) = &endpoint
            && !probes.is_empty()
            && probes.iter().all(|probe| probe.kind.port(endpoint).is_none())
        {
            table.refuse(
                "address",
                &format!("found port {port}, which no probe goes to"),
                &format!("icmp takes {host} alone"),
            );
        }
        let (id, service, region, endpoint) = (id?, service?, region?, endpoint?);
        Some(Self { id, service, region, endpoint, family, addresses, advertise, confirms_per_second, probes })
    }
}

fn confirms(table: &mut Table<'_>) -> Option<u32> {
    table.optional("confirms_per_second", kind::integer(0..=10_000)).map(|count| count as u32)
}

/// A duration within its range, or the default; a fault leaves the default, so that reading goes on.
fn duration(table: &mut Table<'_>, key: &'static str, default: Duration, range: RangeInclusive<Duration>) -> Duration {
    let Some(duration) = table.optional(key, kind::duration()) else { return default };
    if range.contains(&duration) {
        return duration;
    }
    let [found, low, high] = [&duration, range.start(), range.end()].map(|d| humantime::format_duration(*d));
    table.refuse(key, &format!("found {found}"), &format!("allowed: from {low} to {high}"));
    default
}

/// See [`MAX_IN_FLIGHT`].
fn in_flight_bounded(table: &Table<'_>, key: &'static str, every: Duration, timeout: Duration) {
    if timeout.as_nanos() >= every.as_nanos() * u128::from(MAX_IN_FLIGHT) {
        let found = format!("{} against a timeout of {}", spoken(every), spoken(timeout));
        let allowed = format!("a timeout of less than {MAX_IN_FLIGHT} times {key}");
        table.refuse(key, &found, &allowed);
    }
}

fn spoken(duration: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(duration)
}

/// `<region>-<hostname>`, with what a name does not take made into dashes.
fn default_agent(region: &RegionName) -> AgentId {
    let host = nix::unistd::gethostname().unwrap_or_default();
    agent_name(region, &host.to_string_lossy())
}

fn agent_name(region: &RegionName, host: &str) -> AgentId {
    let dashed = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = format!("{region}-{host}").chars().map(dashed).take(telemetry::names::MAX_NAME_BYTES).collect();
    let whole = name.trim_end_matches('-').parse();
    whole.or_else(|_| region.as_str().parse()).expect("a region's name is a name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_without_a_name_is_called_by_its_region_and_host() {
        let region = "fra".parse().unwrap();
        let named = |host: &str| agent_name(&region, host).to_string();
        assert_eq!(named("Web_01.example.com"), "fra-web-01-example-com");
        assert_eq!(named(""), "fra");
        assert_eq!(named(&"x".repeat(100)).len(), 63);
    }
}
