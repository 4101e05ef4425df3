//! `collector.toml`: read with every fault reported, resolved into a [`Config`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use runtime::config::{Faults, Table, kind, read};
use runtime::own::Destination;
use telemetry::emodel::Codec;
use telemetry::geo::Coordinates;
use telemetry::{Name, ReceiverName, RegionName, ServiceName, TargetId};

use crate::admission::Room;
use crate::policy::{Bounds, HealthPolicy, HintPolicy, Mode, Policy, Primary, Region, Service, Target};
use crate::receiver::Receiver;
use crate::retention::Retention;

#[derive(Debug, Clone)]
pub struct Config {
    pub listen: SocketAddr,
    pub data_dir: PathBuf,
    pub policy: Policy,
    pub receivers: BTreeMap<ReceiverName, Receiver>,
    pub limits: Limits,
    pub retention: Retention,
    /// Where backups go that are asked for while it runs.
    pub backup: Option<Backups>,
    /// Where batches are sent on to.
    pub export: Option<OtlpUrl>,
    /// Where our own metrics and spans go.
    pub telemetry: Option<Destination>,
}

/// What one request may cost, and how many may wait.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub wire_bytes: usize,
    pub inflated_bytes: usize,
    pub points: usize,
    pub waiting: Room,
}

/// Where backups go, and how many of them stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backups {
    pub dir: PathBuf,
    pub keep: usize,
}

/// An http or https URL without a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpUrl(pub reqwest::Url);

impl Config {
    pub fn load(path: &Path) -> Result<Self, Faults> {
        read(path, |root| {
            let listen = root.optional("listen", kind::parsed("an address with its port, such as \"127.0.0.1:8460\""));
            let data_dir = root.required("data_dir", kind::text());
            let window = root.optional("window", kind::duration()).unwrap_or(telemetry::window::DEFAULT_WIDTH);
            let (regions, region_names) = named(root, "region", region);
            let (services, service_names) = named(root, "service", service);
            let targets = targets(root, &region_names, &service_names);
            let (receivers, _) = named::<ReceiverName, _>(root, "receiver", Receiver::read);
            let hints = root.table("hints", |table| Some(hints(table))).unwrap_or_default();
            let codec = root.table("codec", |table| Some(codec(table))).unwrap_or_default();
            let (limits, bounds) = root.table("limits", |table| Some(limits(table))).unwrap_or_default();
            let retention = root.table("retention", |table| Some(retention(table))).unwrap_or_default();
            let backup = root.table("backup", backups);
            let export = root.table("export", export);
            let telemetry = Destination::read(root);
            Some(Self {
                listen: listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8460))),
                data_dir: data_dir?.into(),
                policy: Policy {
                    window,
                    regions,
                    services,
                    targets,
                    health: HealthPolicy::default(),
                    hints,
                    codec,
                    receivers: receivers.iter().map(|(name, receiver)| (name.clone(), receiver.policy())).collect(),
                    bounds,
                },
                receivers,
                limits,
                retention,
                backup,
                export,
                telemetry,
            })
        })
    }
}

impl Default for Limits {
    fn default() -> Self {
        let waiting = Room { batches: 2048, bytes: 128 << 20 };
        Self { wire_bytes: 4 << 20, inflated_bytes: 32 << 20, points: 200_000, waiting }
    }
}

fn region(table: &mut Table<'_>) -> Option<Region> {
    let lat = table.required("lat", kind::number(-90.0..=90.0));
    let lon = table.required("lon", kind::number(-180.0..=180.0));
    let capacity = table.optional("capacity", kind::number(0.001..=1e12)).unwrap_or(100.0);
    let users = table.optional("users", kind::integer(0..=i64::MAX)).unwrap_or(0);
    Some(Region { at: Coordinates { lat: lat?, lon: lon? }, capacity, users: users.unsigned_abs() })
}

fn service(table: &mut Table<'_>) -> Option<Service> {
    let primary = table.required("primary", kind::parsed("a probe, or a probe and its phase, such as \"voice/rtt\""));
    let modes = kind::choice(&[("shadow", Mode::Shadow), ("advise", Mode::Advise), ("enforce", Mode::Enforce)]);
    let mode = table.optional("mode", modes).unwrap_or(Mode::Shadow);
    Some(Service { primary: primary?, mode })
}

fn targets(
    root: &mut Table<'_>,
    regions: &BTreeSet<RegionName>,
    services: &BTreeSet<ServiceName>,
) -> BTreeMap<TargetId, Target> {
    let mut targets = BTreeMap::new();
    root.tables("target", |table| {
        let id: Option<TargetId> = table.required("id", kind::name());
        let service: Option<ServiceName> = table.required("service", kind::name());
        let region: Option<RegionName> = table.required("region", kind::name());
        let advertise = table.required("advertise", kind::list(kind::text()));
        if let Some(service) = service.as_ref().filter(|service| !services.contains(*service)) {
            table.refuse("service", &format!("found \"{service}\""), &format!("allowed: {}", listed(services)));
        }
        if let Some(region) = region.as_ref().filter(|region| !regions.contains(*region)) {
            table.refuse("region", &format!("found \"{region}\""), &format!("allowed: {}", listed(regions)));
        }
        let (id, target) = (id?, Target { service: service?, region: region?, advertise: advertise? });
        if targets.insert(id.clone(), target).is_some() {
            table.refuse("id", &format!("found \"{id}\" a second time"), "every target has an id of its own");
        }
        Some(())
    });
    targets
}

fn hints(table: &mut Table<'_>) -> HintPolicy {
    let defaults = HintPolicy::default();
    let mut duration = |key, default| table.optional(key, kind::duration()).unwrap_or(default);
    let (lookback, dwell) = (duration("lookback", defaults.lookback), duration("dwell", defaults.dwell));
    let (last_known_good_after, forget_after) = (
        duration("last_known_good_after", defaults.last_known_good_after),
        duration("forget_after", defaults.forget_after),
    );
    let mut number = |key, range, default| table.optional(key, kind::number(range)).unwrap_or(default);
    let margin_ms = number("margin_ms", 0.0..=10_000.0, defaults.margin_ms);
    let margin_ratio = number("margin_ratio", 0.0..=1.0, defaults.margin_ratio);
    let emergency_loss = number("emergency_loss", 0.001..=1.0, defaults.emergency_loss);
    let tier_ms = number("tier_ms", 0.0..=1000.0, defaults.tier_ms);
    let mut count =
        |key, default: i64| table.optional(key, kind::integer(1..=1_000_000)).unwrap_or(default).unsigned_abs();
    let min_samples = count("min_samples", defaults.min_samples.cast_signed());
    let wins = count("wins", i64::from(defaults.wins)) as u32;
    HintPolicy {
        lookback,
        min_samples,
        margin_ms,
        margin_ratio,
        wins,
        dwell,
        emergency_loss,
        tier_ms,
        last_known_good_after,
        forget_after,
    }
}

fn export(table: &mut Table<'_>) -> Option<OtlpUrl> {
    table.required(
        "otlp",
        kind::parsed("an http or https URL, such as \"http://127.0.0.1:4318/v1/metrics\", without a user"),
    )
}

fn backups(table: &mut Table<'_>) -> Option<Backups> {
    let dir = table.required("dir", kind::text());
    let keep = table.optional("keep", kind::integer(1..=1000)).map_or(3, |keep| keep.unsigned_abs() as usize);
    Some(Backups { dir: dir?.into(), keep })
}

fn codec(table: &mut Table<'_>) -> Codec {
    let defaults = Codec::default();
    let mut number = |key, range, default| table.optional(key, kind::number(range)).unwrap_or(default);
    Codec {
        impairment: number("impairment", 0.0..=95.0, defaults.impairment),
        robustness: number("robustness", 1.0..=100.0, defaults.robustness),
    }
}

fn limits(table: &mut Table<'_>) -> (Limits, Bounds) {
    let (defaults, bounds) = (Limits::default(), Bounds::default());
    let mut bytes = |key, default: usize| {
        table.optional(key, kind::integer(1024..=1 << 30)).map_or(default, |bytes| bytes.unsigned_abs() as usize)
    };
    let (wire_bytes, inflated_bytes) =
        (bytes("wire_bytes", defaults.wire_bytes), bytes("inflated_bytes", defaults.inflated_bytes));
    let waiting_bytes = bytes("waiting_bytes", defaults.waiting.bytes);
    // Fewer than the log's own queue takes.
    let waiting_batches = table.optional("waiting_batches", kind::integer(1..=8192));
    let waiting_batches = waiting_batches.map_or(defaults.waiting.batches, |count| count.unsigned_abs() as usize);
    let waiting = Room { batches: waiting_batches, bytes: waiting_bytes };
    let mut count = |key, default: usize| {
        table.optional(key, kind::integer(1..=100_000_000)).map_or(default, |count| count.unsigned_abs() as usize)
    };
    let points = count("points", defaults.points);
    let (agents, series_per_agent) =
        (count("agents", bounds.agents), count("series_per_agent", bounds.series_per_agent));
    (Limits { wire_bytes, inflated_bytes, points, waiting }, Bounds { agents, series_per_agent })
}

fn retention(table: &mut Table<'_>) -> Retention {
    let defaults = Retention::default();
    let mut duration = |key, default| table.optional(key, kind::duration()).unwrap_or(default);
    let (raw, minute, hour) =
        (duration("raw", defaults.raw), duration("minute", defaults.minute), duration("hour", defaults.hour));
    let max_bytes = table.optional("max_bytes", kind::integer(1 << 20..=i64::MAX)).map(i64::unsigned_abs);
    Retention { raw, minute, hour, max_bytes: max_bytes.unwrap_or(defaults.max_bytes) }
}

/// An array of tables by their `name`, each name once; and every name, also of those whose table has a fault, so that what
/// refers to them is not called wrong as well.
fn named<K, V>(
    root: &mut Table<'_>,
    key: &'static str,
    mut read: impl FnMut(&mut Table<'_>) -> Option<V>,
) -> (BTreeMap<K, V>, BTreeSet<K>)
where
    K: Ord + Clone + Display + FromStr + 'static,
{
    let mut names = BTreeSet::new();
    let read = root.tables(key, |table| {
        let name: Option<K> = table.required("name", kind::name());
        let value = read(table);
        let name = name?;
        if !names.insert(name.clone()) {
            table.refuse(
                "name",
                &format!("found \"{name}\" a second time"),
                &format!("every {key} has a name of its own"),
            );
        }
        Some((name, value?))
    });
    (read.into_iter().collect(), names)
}

fn listed<T: Display>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| format!("\"{name}\"")).collect();
    if names.is_empty() { "none is defined".to_owned() } else { names.join(", ") }
}

impl FromStr for Primary {
    type Err = telemetry::InvalidName;

    /// `voice/rtt`, or `voice` alone for the phase that this probe is known by.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (probe, phase) = text.split_once('/').unwrap_or((text, usual_phase(text)));
        Ok(Self { probe: probe.parse::<Name>()?, phase: phase.parse()? })
    }
}

impl FromStr for OtlpUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url: reqwest::Url = text.parse().map_err(|_| "not a URL")?;
        let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        let http = matches!(url.scheme(), "http" | "https") && url.has_host();
        if http && plain { Ok(Self(url)) } else { Err("not a plain http URL") }
    }
}

fn usual_phase(probe: &str) -> &'static str {
    match probe {
        "tcp" => "connect",
        "tls" => "tls",
        "http" => "first_byte",
        "websocket" => "heartbeat",
        _ => "rtt",
    }
}
