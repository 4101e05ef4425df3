//! What becomes of a packet: stopped, or through, and how long after; and what a reflector makes of it. Pure: the packet, who
//! asks whom, the faults and the time come in.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use protocols::voice::{self, Answer};
use rand_pcg::Pcg64Mcg;
use runtime::Mono;

use crate::faults::{self, Effect, Fault, FaultId};
use crate::loss::Chain;
use crate::model::{Link, Mode, Path, Planet, Source, TargetNo};

/// The planet, and where each of its chances stands.
#[derive(Debug)]
pub struct World {
    planet: Arc<Planet>,
    /// By [`Planet::row`]: what happens on one path never depends on the others.
    paths: Vec<Fortune>,
}

#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    pub source: Source,
    pub target: TargetNo,
    pub packet: Packet<'a>,
}

#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    pub bytes: &'a [u8],
    pub from: SocketAddr,
    /// When it reached us.
    pub at: Mono,
}

/// What becomes of anything that goes to a target and back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// After a round trip of so long.
    Through(Duration),
    Stopped(Reason),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    Answered { answer: Answer, due: Mono },
    Dropped(Reason),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A fault keeps the path down.
    Down,
    /// Lost on the link, or by a fault.
    Lost,
    /// Not a question that a reflector answers.
    Nonsense,
}

#[derive(Debug)]
struct Fortune {
    rng: Pcg64Mcg,
    link: Chain,
    faults: HashMap<FaultId, Chain>,
}

impl World {
    pub fn new(planet: Arc<Planet>) -> Self {
        let fortune = |path: Path<'_>| Fortune {
            rng: planet.seed().stream(&["path", planet.source_name(path.source), path.target.id.as_str()]),
            link: Chain::default(),
            faults: HashMap::new(),
        };
        let paths = planet.sources().flat_map(|source| planet.paths(source)).map(fortune).collect();
        Self { planet, paths }
    }

    /// What a reflector does with a packet.
    pub fn decide(&mut self, ask: &Ask<'_>, faults: &[Fault]) -> Fate {
        let Ask { source, target, packet } = *ask;
        let passage = self.pass(source, target, packet.at, faults);
        match (passage, voice::answer(packet.bytes, packet.from)) {
            (Passage::Stopped(Reason::Down), _) => Fate::Dropped(Reason::Down),
            (_, None) => Fate::Dropped(Reason::Nonsense),
            (Passage::Stopped(reason), Some(_)) => Fate::Dropped(reason),
            (Passage::Through(travel), Some(answer)) => Fate::Answered { answer, due: packet.at + travel },
        }
    }

    /// Draws what becomes of the next packet of that path.
    pub fn pass(&mut self, source: Source, target: TargetNo, at: Mono, faults: &[Fault]) -> Passage {
        let path = self.planet.path(source, target);
        if self.planet.mode() == Mode::Router {
            // The way was long before it came here.
            let up = faults::is_up(path, faults, at);
            return if up { Passage::Through(Duration::ZERO) } else { Passage::Stopped(Reason::Down) };
        }
        let fortune = &mut self.paths[self.planet.row(source, target)];
        fortune.faults.retain(|id, _| faults.iter().any(|fault| fault.id == *id));

        let link = self.planet.link(path);
        let mut lost = link.is_some_and(|link| fortune.link.loses(link.loss, &mut fortune.rng));
        let mut extra_ms = 0.0;
        for fault in faults {
            match fault.upon(path, at) {
                None | Some(Effect::ColdCache | Effect::Leg { .. }) => {}
                Some(Effect::Down | Effect::Dark) => return Passage::Stopped(Reason::Down),
                Some(Effect::Impaired { loss, extra_ms: extra }) => {
                    lost |= fortune.faults.entry(fault.id).or_default().loses(loss, &mut fortune.rng);
                    extra_ms += extra;
                }
            }
        }
        if lost { Passage::Stopped(Reason::Lost) } else { Passage::Through(fortune.travel(link, extra_ms)) }
    }
}

impl Fortune {
    fn travel(&mut self, link: Option<Link>, extra_ms: f64) -> Duration {
        match link {
            Some(link) => link.delay.later_by(extra_ms).draw(&mut self.rng),
            None => Duration::from_secs_f64(extra_ms / 1e3),
        }
    }
}

#[cfg(test)]
mod tests {
    use protocols::voice::{Ssrc, discovery_request, ping_request};
    use runtime::Wall;
    use telemetry::time::millis;

    use super::*;
    use crate::Seed;
    use crate::faults::{Book, Request};
    use crate::model::RegionNo;
    use crate::truth::Truth;

    const FRA: Source = Source::Region(RegionNo(1));

    fn planet() -> Arc<Planet> {
        Arc::new(Planet::new(8, Seed(3)).unwrap())
    }

    fn ask(source: Source, target: usize, bytes: &[u8], at: Mono) -> Ask<'_> {
        let from = "127.77.2.1:5000".parse().unwrap();
        Ask { source, target: TargetNo(target), packet: Packet { bytes, from, at } }
    }

    fn ping(world: &mut World, source: Source, target: usize, faults: &[Fault]) -> Result<Duration, Reason> {
        let at = Mono(1_000_000);
        match world.decide(&ask(source, target, &ping_request(1), at), faults) {
            Fate::Answered { due, .. } => Ok(due.since(at)),
            Fate::Dropped(reason) => Err(reason),
        }
    }

    fn faults(planet: &Planet, requests: impl IntoIterator<Item = Request>) -> Arc<[Fault]> {
        let book = Book::default();
        for request in requests {
            book.open(planet, request, Mono(0), Wall(0)).unwrap();
        }
        book.active()
    }

    #[test]
    fn what_happens_on_a_path_depends_on_the_seed_and_not_on_the_other_paths() {
        let (mut quiet, mut busy) = (World::new(planet()), World::new(planet()));
        for _ in 0..1000 {
            let all: Vec<_> = (0..12).map(|target| ping(&mut busy, FRA, target, &[])).collect();
            assert_eq!(all[1], ping(&mut quiet, FRA, 1, &[]));
        }
    }

    #[test]
    fn delays_and_losses_under_faults_are_those_of_the_truth() {
        const ASKS: usize = 100_000;
        let planet = planet();
        let region = |region: &str| region.to_owned();
        let faults = faults(
            &planet,
            [
                Request::Uplink { region: region("fra"), loss: 0.1, extra_ms: 7.0 },
                Request::Pair { from: region("fra"), to: region("iad"), loss: 0.2, extra_ms: 3.0 },
                Request::Slow { region: region("iad"), service: region("voice"), extra_ms: 5.0 },
            ],
        );
        let mut world = World::new(Arc::clone(&planet));
        let mut delays: Vec<f64> =
            (0..ASKS).filter_map(|_| ping(&mut world, FRA, 1, &faults).ok()).map(millis).collect();
        delays.sort_by(f64::total_cmp);

        let truth = Truth::of(&planet, planet.path(FRA, TargetNo(1)), &faults, Mono(0));
        let bare = planet.link(planet.path(FRA, TargetNo(1))).unwrap();
        let stated = truth.delay.unwrap();
        assert!((stated.base_ms - bare.delay.base_ms - 15.0).abs() < 1e-9);
        assert!((truth.loss - (1.0 - 0.9 * 0.8 * (1.0 - bare.loss))).abs() < 1e-9);
        let loss = 1.0 - delays.len() as f64 / ASKS as f64;
        assert!((loss - truth.loss).abs() < 0.01, "{loss} of {}", truth.loss);
        for p in [0.5, 0.75, 0.95, 0.99] {
            let seen = delays[(p * delays.len() as f64) as usize];
            assert!((seen - stated.quantile_ms(p)).abs() < 0.1 * stated.scale_ms, "p{p}: {seen}");
        }
    }

    #[test]
    fn a_path_that_is_down_drops_everything_for_that_reason() {
        let planet = planet();
        let down = faults(&planet, [Request::TargetDown { target: planet.targets()[0].id.to_string() }]);
        let mut world = World::new(Arc::clone(&planet));
        assert_eq!(ping(&mut world, FRA, 0, &down), Err(Reason::Down));
        assert_eq!(ping(&mut world, Source::Unknown, 0, &down), Err(Reason::Down));
        assert!(ping(&mut world, Source::Unknown, 1, &down).is_ok());
    }

    #[test]
    fn behind_a_router_it_answers_at_once_or_not_at_all() {
        let planet = Arc::new(Planet::with(Mode::Router, 8, Seed(3)).unwrap());
        let id = planet.targets()[0].id.clone();
        let requests = [
            Request::Slow { region: "iad".to_owned(), service: "voice".to_owned(), extra_ms: 9.0 },
            Request::TargetDown { target: id.to_string() },
        ];
        let faults = faults(&planet, requests);
        let mut world = World::new(planet);
        assert_eq!(ping(&mut world, FRA, 0, &faults), Err(Reason::Down));
        assert_eq!(ping(&mut world, FRA, 1, &faults), Ok(Duration::ZERO));
    }

    #[test]
    fn who_is_of_no_region_is_answered_at_once() {
        let mut world = World::new(planet());
        assert_eq!(ping(&mut world, Source::Unknown, 0, &[]), Ok(Duration::ZERO));
    }

    #[test]
    fn discovery_is_answered_and_nonsense_is_not() {
        let mut world = World::new(planet());
        let discovery = discovery_request(Ssrc(1));
        let fate = world.decide(&ask(Source::Unknown, 0, &discovery, Mono(0)), &[]);
        assert!(matches!(fate, Fate::Answered { .. }));
        let fate = world.decide(&ask(Source::Unknown, 0, b"hello", Mono(0)), &[]);
        assert_eq!(fate, Fate::Dropped(Reason::Nonsense));
    }
}
