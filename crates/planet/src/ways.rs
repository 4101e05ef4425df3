//! What becomes of a packet that goes between a region and what lies behind the planet: stopped, or passed on, when and how
//! often. Pure: the packet, the faults and the time come in.
//!
//! A way there and a way back together are the round trip that `/truth` states: each takes half of what is fixed and a share of
//! its own of what is not, and each loses so much that both together lose as much as is stated. A flow's packets leave in the
//! order in which they came. Those of one breath meet the same queues on their way, and take equally long.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand_pcg::Pcg64Mcg;
use runtime::Mono;

use crate::faults::{Effect, Fault, FaultId};
use crate::loss::Chain;
use crate::model::{COLLECTOR, Link, Planet, RegionNo, TargetNo};
use crate::packet::Flow;

/// Every way between a region and what lies behind the planet, and where its chances stand.
#[derive(Debug)]
pub struct Ways {
    planet: Arc<Planet>,
    mischief: Mischief,
    agents: HashMap<Ipv4Addr, RegionNo>,
    behind: HashMap<Ipv4Addr, Behind>,
    fortunes: HashMap<Way, Fortune>,
    /// What is still on its way of each flow.
    flows: HashMap<Flow, Last>,
}

/// What becomes of packets beside what `/truth` tells: shares of them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Mischief {
    /// Held back, so that later ones overtake them.
    pub reordered: f64,
    /// Delivered twice.
    pub doubled: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Way {
    pub region: RegionNo,
    pub behind: Behind,
    pub direction: Direction,
}

/// What lies behind the planet, as agents see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Behind {
    Target(TargetNo),
    Collector,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the agents.
    There,
    Back,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Passed {
        due: Mono,
        copies: usize,
    },
    /// A fault keeps the way down.
    Down,
    Lost,
}

/// How long a packet that is to be overtaken is held back.
const HELD_BACK: Duration = Duration::from_millis(20);
/// Packets of a flow that are no further apart than that come in one breath.
const BREATH: Duration = Duration::from_millis(2);
/// At so many flows those of which nothing is on its way are forgotten.
const FLOWS: usize = 4096;

#[derive(Debug)]
struct Fortune {
    rng: Pcg64Mcg,
    link: Chain,
    faults: HashMap<FaultId, Chain>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    came: Mono,
    due: Mono,
    travel: Duration,
}

impl Ways {
    pub fn new(planet: Arc<Planet>, mischief: Mischief) -> Self {
        let agents = planet.region_numbers().map(|no| (planet.region(no).address, no)).collect();
        let targets = planet.targets().iter().enumerate();
        let targets = targets.map(|(place, target)| (target.address, Behind::Target(TargetNo(place))));
        let behind = targets.chain([(COLLECTOR, Behind::Collector)]).collect();
        Self { planet, mischief, agents, behind, fortunes: HashMap::new(), flows: HashMap::new() }
    }

    /// None: nothing leads from the one to the other.
    pub fn find(&self, flow: &Flow) -> Option<Way> {
        let way = |agents, far, direction| {
            Some(Way { region: *self.agents.get(agents)?, behind: *self.behind.get(far)?, direction })
        };
        way(&flow.from, &flow.to, Direction::There).or_else(|| way(&flow.to, &flow.from, Direction::Back))
    }

    pub fn decide(&mut self, way: Way, flow: Flow, at: Mono, faults: &[Fault]) -> Fate {
        let link = way.link(&self.planet);
        let fortune = self.fortunes.entry(way).or_insert_with(|| Fortune::of(way, &self.planet));
        fortune.faults.retain(|id, _| faults.iter().any(|fault| fault.id == *id));
        let mut lost = fortune.link.loses(one_way(link.loss), &mut fortune.rng);
        let mut extra_ms = 0.0;
        for fault in faults {
            match way.effect(&self.planet, fault, at) {
                // Down is its host's to tell.
                None | Some(Effect::ColdCache | Effect::Down) => {}
                Some(Effect::Dark) => return Fate::Down,
                Some(Effect::Leg { share }) => {
                    lost |= way.direction == Direction::There && flow.is_among(share, fault.id.0);
                }
                Some(Effect::Impaired { loss, extra_ms: extra }) => {
                    lost |= fortune.faults.entry(fault.id).or_default().loses(one_way(loss), &mut fortune.rng);
                    extra_ms += extra;
                }
            }
        }
        if lost {
            return Fate::Lost;
        }
        let travel = link.delay.later_by(extra_ms).draw_one_way(&mut fortune.rng);
        let reordered = fortune.rng.random_bool(self.mischief.reordered);
        let copies = if fortune.rng.random_bool(self.mischief.doubled) { 2 } else { 1 };
        let due = if reordered { at + travel + HELD_BACK } else { self.in_order(flow, at, travel) };
        Fate::Passed { due, copies }
    }

    fn in_order(&mut self, flow: Flow, came: Mono, drawn: Duration) -> Mono {
        let last = self.flows.get(&flow).filter(|last| last.due > came);
        let breath = last.filter(|last| came.since(last.came) < BREATH);
        let travel = breath.map_or(drawn, |last| last.travel);
        let after = last.map_or(came, |last| last.due + Duration::from_nanos(1));
        let due = (came + travel).max(after);
        if self.flows.len() >= FLOWS {
            self.flows.retain(|_, last| last.due > came);
        }
        self.flows.insert(flow, Last { came, due, travel });
        due
    }
}

impl Way {
    fn link(self, planet: &Planet) -> Link {
        match self.behind {
            Behind::Target(target) => {
                planet.link(planet.path(self.region.into(), target)).expect("a region has a link to every target")
            }
            Behind::Collector => planet.link_to_collector(self.region),
        }
    }

    fn effect(self, planet: &Planet, fault: &Fault, now: Mono) -> Option<Effect> {
        match self.behind {
            Behind::Target(target) => fault.upon(planet.path(self.region.into(), target), now),
            Behind::Collector => fault.silences(self.region).then_some(Effect::Dark),
        }
    }
}

impl Fortune {
    fn of(way: Way, planet: &Planet) -> Self {
        let far = match way.behind {
            Behind::Target(target) => planet.targets()[target.0].id.as_str(),
            Behind::Collector => "collector",
        };
        let direction = match way.direction {
            Direction::There => "there",
            Direction::Back => "back",
        };
        let rng = planet.seed().stream(&["way", planet.region(way.region).name.as_str(), far, direction]);
        Self { rng, link: Chain::default(), faults: HashMap::new() }
    }
}

/// Of a loss that is lost on the way there or on the way back, whichever comes first.
fn one_way(loss: f64) -> f64 {
    1.0 - (1.0 - loss).sqrt()
}

#[cfg(test)]
mod tests {
    use runtime::Wall;
    use telemetry::time::millis;

    use super::*;
    use crate::faults::{Book, Request};
    use crate::packet::tests::packet;
    use crate::truth::Truth;
    use crate::{Mode, Seed, Source};

    /// In this planet iad and sin hold servers, and fra does not.
    fn ways(mischief: Mischief) -> Ways {
        Ways::new(Arc::new(Planet::with(Mode::Router, 3, Seed(5)).unwrap()), mischief)
    }

    const FRA: Ipv4Addr = Ipv4Addr::new(198, 18, 2, 1);
    const SIN_VOICE: Ipv4Addr = Ipv4Addr::new(198, 19, 3, 2);
    const UDP: u8 = 17;

    fn flow(from: Ipv4Addr, to: Ipv4Addr, port: u16) -> Flow {
        Flow::of(&packet(from, to, UDP, (port, port))).unwrap()
    }

    fn faults(ways: &Ways, requests: &[&str]) -> Arc<[Fault]> {
        let book = Book::default();
        for request in requests {
            let request: Request = serde_json::from_str(request).unwrap();
            book.open(&ways.planet, request, Mono(0), Wall(0)).unwrap();
        }
        book.active()
    }

    fn pass(ways: &mut Ways, flow: Flow, at: Mono, faults: &[Fault]) -> Fate {
        let way = ways.find(&flow).unwrap();
        ways.decide(way, flow, at, faults)
    }

    /// The round trip of a packet and its answer, a second after the one before.
    fn round_trip(ways: &mut Ways, second: u64, port: u16, faults: &[Fault]) -> Option<Duration> {
        let begun = Mono(second * 1_000_000_000);
        let Fate::Passed { due, .. } = pass(ways, flow(FRA, SIN_VOICE, port), begun, faults) else { return None };
        let Fate::Passed { due, .. } = pass(ways, flow(SIN_VOICE, FRA, port), due, faults) else { return None };
        Some(due.since(begun))
    }

    #[test]
    fn round_trips_and_losses_under_faults_are_those_of_the_truth() {
        const ASKS: u64 = 100_000;
        let mut ways = ways(Mischief::default());
        let planet = Arc::clone(&ways.planet);
        let faults = faults(
            &ways,
            &[
                r#"{"kind":"uplink","region":"fra","loss":0.1,"extra_ms":7}"#,
                r#"{"kind":"pair","from":"fra","to":"sin","loss":0.2,"extra_ms":3}"#,
                r#"{"kind":"slow","region":"sin","service":"voice","extra_ms":5}"#,
                r#"{"kind":"route_change","from":"fra","to":"sin","extra_ms":11}"#,
            ],
        );
        let trips = (0..ASKS).filter_map(|second| round_trip(&mut ways, second, 1, &faults));
        let mut delays: Vec<f64> = trips.map(millis).collect();
        delays.sort_by(f64::total_cmp);

        let path = planet.path(Source::Region(RegionNo(1)), TargetNo(5));
        let truth = Truth::of(&planet, path, &faults, Mono(0));
        let stated = truth.delay.unwrap();
        assert!((stated.base_ms - planet.link(path).unwrap().delay.base_ms - 26.0).abs() < 1e-9);
        let loss = 1.0 - delays.len() as f64 / ASKS as f64;
        assert!((loss - truth.loss).abs() < 0.01, "{loss} of {}", truth.loss);
        for p in [0.5, 0.75, 0.95, 0.99] {
            let seen = delays[(p * delays.len() as f64) as usize];
            assert!((seen - stated.quantile_ms(p)).abs() < 0.1 * stated.scale_ms, "p{p}: {seen}");
        }
    }

    #[test]
    fn losses_come_in_bursts() {
        let mut ways = ways(Mischief::default());
        let faults = faults(&ways, &[r#"{"kind":"uplink","region":"fra","loss":0.19,"extra_ms":0}"#]);
        let there = flow(FRA, SIN_VOICE, 1);
        let lost = |second: u64| pass(&mut ways, there, Mono(second * 1_000_000_000), &faults) == Fate::Lost;
        let fates: Vec<bool> = (0..100_000).map(lost).collect();
        let lost = fates.iter().filter(|lost| **lost).count() as f64;
        let bursts = fates.windows(2).filter(|pair| !pair[0] && pair[1]).count() as f64;
        assert!((lost / 1e5 - 0.1).abs() < 0.01, "a tenth there, and a tenth back: {lost}");
        assert!((lost / bursts - 2.0).abs() < 0.1, "{lost} in {bursts}");
    }

    #[test]
    fn a_flow_keeps_its_order_and_a_breath_travels_together() {
        let mut ways = ways(Mischief::default());
        let there = flow(FRA, SIN_VOICE, 1);
        let mut last = Mono(0);
        let mut travels = Vec::new();
        for packet in 0..3000 {
            // Ten in a breath, and the next breath soon after.
            let at = Mono(packet / 10 * 3_000_000 + packet % 10 * 100_000);
            let Fate::Passed { due, .. } = pass(&mut ways, there, at, &[]) else { continue };
            assert!(due > last, "packet {packet} overtakes");
            last = due;
            travels.push((packet / 10, due.since(at)));
        }
        let equal = travels.windows(2).filter(|pair| pair[0].0 == pair[1].0 && pair[0].1 == pair[1].1).count();
        assert!(equal > 1500, "{equal} of 2700");
        assert!(travels.windows(2).any(|pair| pair[0].1 != pair[1].1));
    }

    #[test]
    fn flows_do_not_wait_for_each_other_and_are_forgotten() {
        let mut ways = ways(Mischief::default());
        let due = |ways: &mut Ways, port| match pass(ways, flow(FRA, SIN_VOICE, port), Mono(port.into()), &[]) {
            Fate::Passed { due, .. } => due,
            lost => panic!("{lost:?}"),
        };
        let dues: Vec<Mono> = (0..200).map(|port| due(&mut ways, port)).collect();
        assert!(dues.windows(2).any(|pair| pair[1] < pair[0]), "none overtakes");
        for port in 0..60_000_u64 {
            pass(&mut ways, flow(FRA, SIN_VOICE, port as u16), Mono(port * 1_000_000), &[]);
        }
        assert!(ways.flows.len() <= FLOWS, "{}", ways.flows.len());
    }

    #[test]
    fn mischief_holds_back_and_doubles() {
        let mut ways = ways(Mischief { reordered: 0.1, doubled: 0.2 });
        let there = flow(FRA, SIN_VOICE, 1);
        let mut last = Mono(0);
        let (mut overtaken, mut doubled) = (0, 0);
        for packet in 0..10_000 {
            let at = Mono(packet * 5_000_000);
            let Fate::Passed { due, copies } = pass(&mut ways, there, at, &[]) else { continue };
            overtaken += u32::from(due < last);
            doubled += u32::from(copies == 2);
            last = due;
        }
        assert!((800..1000).contains(&overtaken), "after a tenth: {overtaken}");
        assert!((1800..2200).contains(&doubled), "{doubled}");
    }

    #[test]
    fn a_leg_takes_whole_flows_and_leaves_the_others_alone() {
        let mut ways = ways(Mischief::default());
        let leg = faults(&ways, &[r#"{"kind":"ecmp_leg","from":"fra","to":"sin","share":0.5}"#]);
        let lost: Vec<bool> = (0..64).map(|port| round_trip(&mut ways, 1, port, &leg).is_none()).collect();
        let share = lost.iter().filter(|lost| **lost).count();
        assert!((20..44).contains(&share), "{share} of 64");
        for second in 2..10 {
            let again: Vec<bool> = (0..64).map(|port| round_trip(&mut ways, second, port, &leg).is_none()).collect();
            let differing = lost.iter().zip(&again).filter(|(one, other)| one != other).count();
            assert!(differing <= 1, "the link itself loses next to nothing: {differing}");
        }
    }

    #[test]
    fn who_is_down_answers_for_himself_and_where_it_is_dark_nothing_passes() {
        let mut ways = ways(Mischief::default());
        let passes = |ways: &mut Ways, requests: &[&str], (from, to)| {
            let faults = faults(ways, requests);
            match pass(ways, flow(from, to, 1), Mono(0), &faults) {
                Fate::Passed { .. } => true,
                Fate::Down => false,
                Fate::Lost => panic!("lost"),
            }
        };
        let [to_sin, from_sin] = [(FRA, SIN_VOICE), (SIN_VOICE, FRA)];
        let [report, verdict] = [(FRA, COLLECTOR), (COLLECTOR, FRA)];
        for (request, expected) in [
            (r#"{"kind":"target_down","target":"sin-voice-1"}"#, [true; 4]),
            (r#"{"kind":"region_down","region":"sin"}"#, [false, false, true, true]),
            (r#"{"kind":"region_down","region":"fra"}"#, [false; 4]),
            (r#"{"kind":"agent_partition","region":"fra"}"#, [true, true, false, false]),
            (r#"{"kind":"agent_partition","region":"sin"}"#, [true; 4]),
        ] {
            let passed = [to_sin, from_sin, report, verdict].map(|ends| passes(&mut ways, &[request], ends));
            assert_eq!(passed, expected, "{request}");
        }
    }

    #[test]
    fn nothing_leads_from_region_to_region_or_from_server_to_server() {
        let ways = ways(Mischief::default());
        let iad = Ipv4Addr::new(198, 18, 1, 1);
        for (from, to) in [(FRA, iad), (SIN_VOICE, COLLECTOR), (FRA, Ipv4Addr::new(198, 19, 9, 9))] {
            assert_eq!(ways.find(&flow(from, to, 1)), None, "{from} to {to}");
        }
    }
}
