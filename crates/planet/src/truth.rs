//! What is true of a path now, stated from the same numbers that packets are drawn from.

use std::net::{Ipv4Addr, SocketAddr};

use runtime::Mono;
use serde::Serialize;
use telemetry::{RegionName, TargetId};

use crate::delay::Delay;
use crate::faults::{Effect, Fault};
use crate::loss::compose;
use crate::model::{Path, Planet, Service};

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
    regions: Vec<RegionRow<'a>>,
    targets: Vec<TargetRow<'a>>,
    paths: Vec<PathRow<'a>>,
}

/// Without our delays and losses: what the kernel answers, and what comes in the same breath as what was delayed.
const fn undelayed(service: Service) -> &'static [&'static str] {
    match service {
        Service::Gateway => &["icmp", "tcp", "websocket/connect", "websocket/hello"],
        Service::Voice => &["icmp", "tcp"],
        Service::Cdn => &["icmp", "tcp", "http/connect", "http/transfer"],
    }
}

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
                undelayed: undelayed(path.target.service),
            }
        });
        Self { seed: planet.seed().0, regions: regions.collect(), targets: targets.collect(), paths: paths.collect() }
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
