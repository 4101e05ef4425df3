//! The planet as it is without faults: which regions there are, which of them hold servers, and what lies between each pair.
//! All of it follows from the seed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::Serialize;
use telemetry::geo::Coordinates;
use telemetry::{RegionName, TargetId};

use crate::Seed;
use crate::delay::Delay;
use crate::places::{PLACES, Place};

#[derive(Debug, Clone, PartialEq)]
pub struct Planet {
    seed: Seed,
    mode: Mode,
    regions: Vec<Region>,
    targets: Vec<Target>,
    /// From each region to each region, row by row.
    links: Vec<Link>,
}

/// What delays and loses on the way between regions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Nothing: endpoints delay their answers by who asks.
    Loopback,
    /// The planet, through which every packet goes.
    Router,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    pub name: RegionName,
    pub at: Coordinates,
    /// Agents of the region ask from here.
    pub address: Ipv4Addr,
    pub users: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    pub id: TargetId,
    pub service: Service,
    pub region: RegionNo,
    /// On loopback that of its region; where packets are routed one of its own, by which a ping tells whom it means.
    pub address: Ipv4Addr,
}

/// What a target does, and with it what it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// WebSocket over TLS.
    Gateway,
    /// UDP, and a TCP port that hangs up.
    Voice,
    /// HTTPS.
    Cdn,
}

/// What lies between a source and a region, round trip.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    pub delay: Delay,
    pub loss: f64,
}

/// The place of a region in [`Planet::regions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RegionNo(pub usize);

/// The place of a target in [`Planet::targets`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TargetNo(pub usize);

/// Who asks, by the address that the packet came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    Region(RegionNo),
    /// Not an address of the planet's, so there is no distance: it is answered at once, unless the target itself is down or slow.
    Unknown,
}

/// From a source to a target.
#[derive(Debug, Clone, Copy)]
pub struct Path<'a> {
    pub source: Source,
    pub no: TargetNo,
    pub target: &'a Target,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a planet has 1 to {} regions, not {found}", PLACES.len())]
pub struct WrongSize {
    found: usize,
}

/// RFC 2544's network for trials of what lies between networks: agents in its lower half, servers in its upper. One namespace
/// holds one half, so the other is always behind the planet.
pub const AGENTS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
pub const SERVERS: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 0);
/// The prefix of either.
pub const HALF: u8 = 16;
/// Where agents find the collector.
pub const COLLECTOR: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 1);

/// What stands in a region that holds servers.
const FLEET: [(&str, Service); 4] =
    [("gateway", Service::Gateway), ("voice-1", Service::Voice), ("voice-2", Service::Voice), ("cdn", Service::Cdn)];
/// The region in which the origin of all CDN edges stands.
const ORIGIN: RegionNo = RegionNo(0);
/// What the origin takes for its answer.
const ORIGIN_WORK_MS: f64 = 40.0;

impl Planet {
    /// On loopback.
    pub fn new(size: usize, seed: Seed) -> Result<Self, WrongSize> {
        Self::with(Mode::Loopback, size, seed)
    }

    pub fn with(mode: Mode, size: usize, seed: Seed) -> Result<Self, WrongSize> {
        let places = PLACES.get(..size).filter(|places| !places.is_empty()).ok_or(WrongSize { found: size })?;
        let regions = places.iter().enumerate().map(|(index, place)| region(mode, index, place, seed)).collect();
        let link = |source: &Place, region: &Place| link(source, region, seed);
        let links = places.iter().flat_map(|source| places.iter().map(move |region| link(source, region))).collect();
        Ok(Self { seed, mode, regions, targets: targets(mode, places, seed), links })
    }

    pub fn seed(&self) -> Seed {
        self.seed
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    pub fn region(&self, no: RegionNo) -> &Region {
        &self.regions[no.0]
    }

    pub fn source_at(&self, address: IpAddr) -> Source {
        let place = self.regions.iter().position(|region| IpAddr::V4(region.address) == address);
        place.map_or(Source::Unknown, |place| Source::Region(RegionNo(place)))
    }

    pub fn region_numbers(&self) -> impl Iterator<Item = RegionNo> + use<> {
        (0..self.regions.len()).map(RegionNo)
    }

    /// Every region, then [`Source::Unknown`]: the order of [`Planet::row`].
    pub fn sources(&self) -> impl Iterator<Item = Source> + use<> {
        self.region_numbers().map(Source::Region).chain([Source::Unknown])
    }

    pub fn source_name(&self, source: Source) -> &str {
        match source {
            Source::Region(region) => self.region(region).name.as_str(),
            Source::Unknown => "unknown",
        }
    }

    /// A place for each path in tables that hold one row a source, the unknown ones last.
    pub fn row(&self, source: Source, target: TargetNo) -> usize {
        let source = match source {
            Source::Region(region) => region.0,
            Source::Unknown => self.regions.len(),
        };
        source * self.targets.len() + target.0
    }

    pub fn path(&self, source: Source, no: TargetNo) -> Path<'_> {
        Path { source, no, target: &self.targets[no.0] }
    }

    /// Of one source, in the order of the targets.
    pub fn paths(&self, source: Source) -> impl Iterator<Item = Path<'_>> {
        self.targets.iter().enumerate().map(move |(place, target)| Path { source, no: TargetNo(place), target })
    }

    pub fn link(&self, path: Path<'_>) -> Option<Link> {
        match path.source {
            Source::Region(source) => Some(self.link_between(source, path.target.region)),
            Source::Unknown => None,
        }
    }

    /// What an edge takes longer for what it must ask the origin for.
    pub fn origin_ms(&self, edge: &Target) -> f64 {
        self.link_between(edge.region, ORIGIN).delay.base_ms + ORIGIN_WORK_MS
    }

    /// The collector stands where the origin does.
    pub fn link_to_collector(&self, source: RegionNo) -> Link {
        self.link_between(source, ORIGIN)
    }

    fn link_between(&self, source: RegionNo, region: RegionNo) -> Link {
        self.links[source.0 * self.regions.len() + region.0]
    }
}

impl Service {
    pub const ALL: [Self; 3] = [Self::Gateway, Self::Voice, Self::Cdn];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Voice => "voice",
            Self::Cdn => "cdn",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<RegionNo> for Source {
    fn from(region: RegionNo) -> Self {
        Self::Region(region)
    }
}

/// Its place among the regions, as a byte of an address.
fn third(index: usize) -> u8 {
    u8::try_from(index + 1).expect("the table of places is shorter than 255")
}

fn region(mode: Mode, index: usize, place: &Place, seed: Seed) -> Region {
    // Between 20,000 and 2,000,000, small regions being as common as large ones.
    let thousands = 20.0 * 10_f64.powf(seed.within(0.0..2.0, &["users", place.name]));
    Region {
        name: place.name.parse().expect("the table of places holds names"),
        at: place.at,
        address: match mode {
            Mode::Loopback => Ipv4Addr::new(127, 77, third(index), 1),
            Mode::Router => Ipv4Addr::new(198, 18, third(index), 1),
        },
        users: thousands as u32 * 1000,
    }
}

/// Servers stand in two thirds of the regions: the others are sources only.
fn targets(mode: Mode, places: &[Place], seed: Seed) -> Vec<Target> {
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by_key(|&index| seed.hash(&["servers", places[index].name]));
    let mut hosts = order[..(places.len() * 2).div_ceil(3)].to_vec();
    hosts.sort_unstable();
    let servers = |index: usize| {
        FLEET.iter().zip(1..).map(move |(&(name, service), last)| Target {
            id: format!("{}-{name}", places[index].name).parse().expect("a place and a server make a name"),
            service,
            region: RegionNo(index),
            address: match mode {
                Mode::Loopback => Ipv4Addr::new(127, 77, third(index), 1),
                Mode::Router => Ipv4Addr::new(198, 19, third(index), last),
            },
        })
    };
    hosts.into_iter().flat_map(servers).collect()
}

fn link(source: &Place, region: &Place, seed: Seed) -> Link {
    // The way is the same in both directions; what is lost on it is not.
    let (first, second) = (source.name.min(region.name), source.name.max(region.name));
    let detour = seed.within(1.15..1.9, &["detour", first, second]);
    let pair = |what| [what, source.name, region.name];
    let troubled = seed.within(0.0..1.0, &pair("troubled")) < 0.1;
    let loss = if troubled { 0.001..0.003 } else { 0.0..0.0002 };
    Link { delay: Delay::over(source.at.distance_km(region.at), detour), loss: seed.within(loss, &pair("loss")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planet(size: usize, seed: u64) -> Planet {
        Planet::new(size, Seed(seed)).unwrap()
    }

    #[test]
    fn the_same_seed_makes_the_same_planet_and_another_seed_another() {
        assert_eq!(planet(20, 1), planet(20, 1));
        assert_ne!(planet(20, 1).targets, planet(20, 2).targets);
        assert_ne!(planet(20, 1).links, planet(20, 2).links);
    }

    #[test]
    fn a_link_is_the_same_in_a_larger_planet() {
        let (small, large) = (planet(8, 1), planet(30, 1));
        assert_eq!(small.links[8 + 3], large.links[30 + 3]);
    }

    #[test]
    fn two_thirds_of_the_regions_hold_a_gateway_two_voice_servers_and_an_edge() {
        for size in 1..=PLACES.len() {
            let planet = planet(size, 9);
            assert_eq!(planet.targets.len(), (size * 2).div_ceil(3) * FLEET.len());
        }
        let ids: Vec<_> = planet(1, 1).targets.iter().map(|target| target.id.to_string()).collect();
        assert_eq!(ids, ["iad-gateway", "iad-voice-1", "iad-voice-2", "iad-cdn"]);
    }

    #[test]
    fn what_the_origin_adds_grows_with_the_way_to_it() {
        let planet = planet(8, 1);
        let edge = |region: usize| Target { region: RegionNo(region), ..planet.targets[3].clone() };
        assert!((planet.origin_ms(&edge(0)) - 40.5).abs() < 1e-9);
        assert!(planet.origin_ms(&edge(2)) > 200.0, "Singapore is far from Virginia");
    }

    #[test]
    fn the_way_back_is_as_long_as_the_way_there() {
        let planet = planet(20, 4);
        for (a, b) in (0..20).flat_map(|a| (0..20).map(move |b| (a, b))) {
            assert_eq!(planet.links[a * 20 + b].delay, planet.links[b * 20 + a].delay);
        }
    }

    #[test]
    fn a_few_links_are_troubled_and_the_rest_nearly_clean() {
        let planet = planet(30, 4);
        let troubled = planet.links.iter().filter(|link| link.loss >= 0.001).count();
        assert!((45..135).contains(&troubled), "{troubled} of 900");
        assert!(planet.links.iter().all(|link| link.loss < 0.0002 || (0.001..0.003).contains(&link.loss)));
    }

    #[test]
    fn who_asks_is_told_by_the_address() {
        let planet = planet(8, 1);
        assert_eq!(planet.source_at("127.77.2.1".parse().unwrap()), Source::Region(RegionNo(1)));
        assert_eq!(planet.source_at("127.77.9.1".parse().unwrap()), Source::Unknown);
        assert_eq!(planet.source_at("127.0.0.1".parse().unwrap()), Source::Unknown);
    }

    #[test]
    fn between_namespaces_every_target_has_an_address_of_its_own() {
        let planet = Planet::with(Mode::Router, 32, Seed(1)).unwrap();
        let mut addresses: Vec<_> = planet.targets.iter().map(|target| target.address).collect();
        assert_eq!(addresses[..4], [1, 2, 3, 4].map(|last| Ipv4Addr::new(198, 19, 1, last)));
        addresses.extend(planet.regions.iter().map(|region| region.address));
        addresses.extend([AGENTS, SERVERS, COLLECTOR]);
        let all = addresses.len();
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(addresses.len(), all);
    }

    #[test]
    fn a_planet_without_regions_or_with_too_many_is_refused() {
        assert!(Planet::new(0, Seed(1)).is_err());
        assert_eq!(Planet::new(99, Seed(1)).unwrap_err().to_string(), "a planet has 1 to 32 regions, not 99");
    }
}
