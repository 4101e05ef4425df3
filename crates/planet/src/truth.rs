//! What is true of a path now, stated from the same numbers that packets are drawn from.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use runtime::Mono;
use serde::Serialize;
use telemetry::{RegionName, TargetId};

use crate::delay::Delay;
use crate::faults::{Effect, Fault};
use crate::loss::compose;
use crate::model::{Mode, Path, Planet, Service};

/// Loss and delay of a path with the faults in force.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Truth {
    pub up: bool,
    /// Round trip. All of it when the path is down. On a stream what is lost comes later.
    pub loss: f64,
    /// From which the delays are drawn, with what an edge needs for what it does not keep; none where nothing comes back, and
    /// for who is no region.
    pub delay: Option<Delay>,
}

/// The answer to `GET /truth`.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    seed: u64,
    mode: Mode,
    /// By probe and phase. On loopback what is undelayed takes none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    round_trips: BTreeMap<&'static str, u8>,
    regions: Vec<RegionRow<'a>>,
    targets: Vec<TargetRow<'a>>,
    paths: Vec<PathRow<'a>>,
}

/// Without our delays and losses: what the kernel answers, and what comes in the same breath as what was delayed.
const fn undelayed(mode: Mode, service: Service) -> &'static [&'static str] {
    match service {
        _ if matches!(mode, Mode::Router) => &[],
        Service::Gateway => &["icmp", "tcp", "websocket/connect", "websocket/hello"],
        Service::Voice => &["icmp", "tcp"],
        Service::Cdn => &["icmp", "tcp", "http/connect", "http/transfer"],
    }
}

/// How many round trips of the path each phase takes where packets are routed, if nothing is lost; what takes none comes in the
/// same breath as what came before. TCP shakes hands in one, and so does TLS 1.3, whose server says all it has to in one flight.
const ROUND_TRIPS: [(&str, u8); 13] = [
    ("icmp/rtt", 1),
    ("tcp/connect", 1),
    ("voice/rtt", 1),
    ("voice/discovery", 1),
    ("websocket/connect", 1),
    ("websocket/tls", 1),
    ("websocket/upgrade", 1),
    ("websocket/hello", 0),
    ("websocket/heartbeat", 1),
    ("http/connect", 1),
    ("http/tls", 1),
    ("http/first_byte", 1),
    ("http/transfer", 0),
];

#[derive(Debug, Serialize)]
struct RegionRow<'a> {
    name: &'a RegionName,
    lat: f64,
    lon: f64,
    address: Ipv4Addr,
}

#[derive(Debug, Serialize)]
struct TargetRow<'a> {
    id: &'a TargetId,
    service: Service,
    region: &'a RegionName,
    address: SocketAddr,
}

#[derive(Debug, Serialize)]
struct PathRow<'a> {
    source: &'a RegionName,
    target: &'a TargetId,
    service: Service,
    region: &'a RegionName,
    up: bool,
    loss: f64,
    rtt_ms: Quantiles,
    jitter_ms: Option<f64>,
    /// Probes, or a probe and its phase.
    undelayed: &'static [&'static str],
}

/// A quantile of nothing is `null`.
#[derive(Debug, Serialize)]
struct Quantiles {
    p50: Option<f64>,
    p75: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
}

impl Truth {
    pub fn of(planet: &Planet, path: Path<'_>, faults: &[Fault], now: Mono) -> Self {
        let link = planet.link(path);
        let mut losses: Vec<f64> = link.map(|link| link.loss).into_iter().collect();
        let mut later_ms = 0.0;
        for effect in faults.iter().filter_map(|fault| fault.upon(path, now)) {
            match effect {
                Effect::Down | Effect::Dark => return Self { up: false, loss: 1.0, delay: None },
                // Over many flows.
                Effect::Leg { share } => losses.push(share),
                Effect::Impaired { loss, extra_ms } => {
                    losses.push(loss);
                    later_ms += extra_ms;
                }
                Effect::ColdCache => later_ms += planet.origin_ms(path.target),
            }
        }
        let loss = compose(losses);
        let delay = link.map(|link| link.delay.later_by(later_ms)).filter(|_| loss < 1.0);
        Self { up: true, loss, delay }
    }
}

impl<'a> Document<'a> {
    /// `addresses` are those of the targets, in their order.
    pub fn new(planet: &'a Planet, addresses: &[SocketAddr], faults: &[Fault], now: Mono) -> Self {
        let regions = planet.regions().iter().map(|region| RegionRow {
            name: &region.name,
            lat: region.at.lat,
            lon: region.at.lon,
            address: region.address,
        });
        let targets = planet.targets().iter().zip(addresses).map(|(target, &address)| TargetRow {
            id: &target.id,
            service: target.service,
            region: &planet.region(target.region).name,
            address,
        });
        let paths =
            planet.region_numbers().flat_map(|source| planet.paths(source.into()).map(move |path| (source, path)));
        let paths = paths.map(|(source, path)| {
            let truth = Truth::of(planet, path, faults, now);
            PathRow {
                source: &planet.region(source).name,
                target: &path.target.id,
                service: path.target.service,
                region: &planet.region(path.target.region).name,
                up: truth.up,
                loss: truth.loss,
                rtt_ms: Quantiles::of(truth.delay),
                jitter_ms: truth.delay.map(Delay::jitter_ms),
                undelayed: undelayed(planet.mode(), path.target.service),
            }
        });
        let (regions, targets, paths) = (regions.collect(), targets.collect(), paths.collect());
        let round_trips = match planet.mode() {
            Mode::Loopback => BTreeMap::new(),
            Mode::Router => ROUND_TRIPS.into(),
        };
        Self { seed: planet.seed().0, mode: planet.mode(), round_trips, regions, targets, paths }
    }
}

impl Quantiles {
    fn of(delay: Option<Delay>) -> Self {
        let at = |p| delay.map(|delay| delay.quantile_ms(p));
        Self { p50: at(0.5), p75: at(0.75), p95: at(0.95), p99: at(0.99) }
    }
}

#[cfg(test)]
mod tests {
    use runtime::Wall;

    use super::*;
    use crate::faults::{Book, Request};
    use crate::model::{RegionNo, Source, TargetNo};
    use crate::{Planet, Seed};

    #[test]
    fn where_nothing_comes_back_there_are_no_quantiles() {
        let planet = Planet::new(3, Seed(1)).unwrap();
        let path = planet.path(Source::Region(RegionNo(1)), TargetNo(0));
        let region = || "fra".to_owned();
        for (request, up) in [
            (Request::RegionDown { region: region() }, false),
            (Request::Uplink { region: region(), loss: 1.0, extra_ms: 0.0 }, true),
        ] {
            let book = Book::default();
            book.open(&planet, request, Mono(0), Wall(0)).unwrap();
            assert_eq!(Truth::of(&planet, path, &book.active(), Mono(0)), Truth { up, loss: 1.0, delay: None });
        }
    }

    #[test]
    fn a_cold_cache_is_as_far_again_as_its_origin() {
        let planet = Planet::new(3, Seed(5)).unwrap();
        let edge = planet.path(Source::Region(RegionNo(1)), TargetNo(7));
        let book = Book::default();
        book.open(&planet, Request::ColdCache { region: "sin".to_owned() }, Mono(0), Wall(0)).unwrap();
        let base = |faults: &[Fault]| Truth::of(&planet, edge, faults, Mono(0)).delay.unwrap().base_ms;
        let added = base(&book.active()) - base(&[]);
        assert!((added - planet.origin_ms(edge.target)).abs() < 1e-9 && added > 200.0, "{added}");
    }

    #[test]
    fn where_packets_are_routed_nothing_is_undelayed_and_each_phase_has_its_round_trips() {
        let planet = Planet::with(Mode::Router, 1, Seed(1)).unwrap();
        let addresses = [SocketAddr::from(([198, 19, 1, 1], 1)); 4];
        let document = serde_json::to_value(Document::new(&planet, &addresses, &[], Mono(0))).unwrap();
        assert_eq!(document["mode"], "router");
        assert!(document["paths"].as_array().unwrap().iter().all(|path| path["undelayed"] == serde_json::json!([])));
        assert_eq!(document["round_trips"]["websocket/tls"], 1);
        assert_eq!(document["round_trips"]["http/transfer"], 0);
    }

    #[test]
    fn a_leg_loses_its_share_of_flows() {
        let planet = Planet::with(Mode::Router, 3, Seed(5)).unwrap();
        let path = planet.path(Source::Region(RegionNo(1)), TargetNo(0));
        let before = Truth::of(&planet, path, &[], Mono(0));
        let book = Book::default();
        let leg = Request::EcmpLeg { from: "fra".to_owned(), to: "iad".to_owned(), share: 0.25 };
        book.open(&planet, leg, Mono(0), Wall(0)).unwrap();
        let after = Truth::of(&planet, path, &book.active(), Mono(0));
        assert!((after.loss - (1.0 - 0.75 * (1.0 - before.loss))).abs() < 1e-12);
        assert_eq!(after.delay, before.delay);
    }

    #[test]
    fn every_path_from_every_region_is_stated() {
        let planet = Planet::new(3, Seed(1)).unwrap();
        let addresses: Vec<SocketAddr> =
            (1..=8).map(|port| SocketAddr::from((Ipv4Addr::new(127, 77, 1, 1), port))).collect();
        let document = serde_json::to_value(Document::new(&planet, &addresses, &[], Mono(0))).unwrap();
        assert_eq!(document["paths"].as_array().unwrap().len(), 24);
        assert_eq!(document["targets"][3]["address"], "127.77.1.1:4");

        let near = &document["paths"][0];
        assert_eq!((&near["source"], &near["target"]), (&"iad".into(), &"iad-gateway".into()));
        assert_eq!(near["service"], "gateway");
        assert_eq!(near["undelayed"], serde_json::json!(["icmp", "tcp", "websocket/connect", "websocket/hello"]));
        // 0.5 ms to itself, and a scale of 0.2 ms + 0.8 % of that.
        for (quantile, ms) in [("p50", 0.641), ("p75", 0.783), ("p95", 1.111), ("p99", 1.439)] {
            assert!((near["rtt_ms"][quantile].as_f64().unwrap() - ms).abs() < 0.001, "{quantile}");
        }
        assert!((near["jitter_ms"].as_f64().unwrap() - 0.204).abs() < 1e-9);
    }
}
