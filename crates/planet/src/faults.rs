//! Faults on request: what is asked for, whom it reaches, and what it does to a packet.
//!
//! Faults compose: a path is down if any fault takes it down, extra milliseconds add up, losses are independent. A fault is
//! felt by the packets that reach the planet after it; answers that are already on their way arrive.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runtime::{Mono, Wall};
use serde::Serialize;
use telemetry::time::nanos;

pub use self::request::{Refusal, Request};
use crate::model::{Path, Planet, RegionNo, Service, Source, TargetNo};

mod request;

/// A fault in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    pub id: FaultId,
    pub request: Request,
    pub since: Wall,
    began: Mono,
    reach: Reach,
    harm: Harm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct FaultId(pub u64);

/// What a fault does at one moment to the packets of one path.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Effect {
    /// The far end is: its host lives, answers pings and refuses connections.
    Down,
    /// Nothing passes.
    Dark,
    Impaired {
        loss: f64,
        extra_ms: f64,
    },
    /// None to the packets, but what they ask for is not there.
    ColdCache,
    /// Of the flows that are that share, everything is lost.
    Leg {
        share: f64,
    },
}

/// The faults in force, and the only place where they change.
#[derive(Debug, Default)]
pub struct Book {
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    last: u64,
    active: Arc<[Fault]>,
}

/// Whom a fault reaches.
#[derive(Debug, Clone, PartialEq)]
enum Reach {
    /// To the region or from it.
    Around(RegionNo),
    From(RegionNo),
    Between {
        from: RegionNo,
        to: RegionNo,
    },
    Service {
        region: RegionNo,
        service: Service,
    },
    Target(TargetNo),
    /// Its agents' way to the collector, and no path.
    Reports(RegionNo),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Harm {
    Down,
    Dark,
    Impaired { loss: f64, extra_ms: f64 },
    Flapping { period: Duration },
    ColdCache,
    Leg { share: f64 },
}

impl Book {
    pub fn open(&self, planet: &Planet, request: Request, now: Mono, since: Wall) -> Result<FaultId, Refusal> {
        let (reach, harm) = request.resolve(planet)?;
        let mut pages = self.pages();
        pages.last += 1;
        let id = FaultId(pages.last);
        let fault = Fault { id, request, since, began: now, reach, harm };
        pages.active = pages.active.iter().cloned().chain([fault]).collect();
        Ok(id)
    }

    /// Whether there was such a fault.
    pub fn close(&self, id: FaultId) -> bool {
        let mut pages = self.pages();
        let before = pages.active.len();
        pages.active = pages.active.iter().filter(|fault| fault.id != id).cloned().collect();
        pages.active.len() < before
    }

    pub fn active(&self) -> Arc<[Fault]> {
        Arc::clone(&self.pages().active)
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fault {
    /// What this fault does now to that path, if anything.
    pub fn upon(&self, path: Path<'_>, now: Mono) -> Option<Effect> {
        if !self.reach.covers(path) {
            return None;
        }
        match self.harm {
            Harm::Down => Some(Effect::Down),
            Harm::Dark => Some(Effect::Dark),
            Harm::Leg { share } => Some(Effect::Leg { share }),
            Harm::Impaired { loss, extra_ms } => Some(Effect::Impaired { loss, extra_ms }),
            Harm::Flapping { period } => {
                let into = nanos(now.since(self.began)) % nanos(period);
                (into < nanos(period) / 2).then_some(Effect::Down)
            }
            Harm::ColdCache => Some(Effect::ColdCache),
        }
    }

    /// Whether agents of that region do not reach the collector.
    pub fn silences(&self, agents: RegionNo) -> bool {
        match self.reach {
            Reach::Around(region) | Reach::Reports(region) => region == agents && self.harm == Harm::Dark,
            _ => false,
        }
    }
}

/// Whether no fault takes the path down.
pub fn is_up(path: Path<'_>, faults: &[Fault], now: Mono) -> bool {
    !faults.iter().any(|fault| matches!(fault.upon(path, now), Some(Effect::Down | Effect::Dark)))
}

/// Whether the edge at the end of the path keeps nothing.
pub fn is_cold(path: Path<'_>, faults: &[Fault], now: Mono) -> bool {
    faults.iter().any(|fault| fault.upon(path, now) == Some(Effect::ColdCache))
}

impl Reach {
    fn covers(&self, path: Path<'_>) -> bool {
        let from = |region: RegionNo| path.source == Source::Region(region);
        let to = |region: RegionNo| path.target.region == region;
        match self {
            Self::Around(region) => from(*region) || to(*region),
            Self::From(region) => from(*region),
            Self::Between { from: source, to: region } => from(*source) && to(*region),
            Self::Service { region, service } => to(*region) && path.target.service == *service,
            Self::Target(target) => path.no == *target,
            Self::Reports(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mode, Seed};

    /// In the planet of three regions and this seed, iad and sin hold servers and fra does not.
    fn planet() -> Planet {
        let planet = Planet::with(Mode::Router, 3, Seed(5)).unwrap();
        let targets: Vec<_> = planet.targets().iter().map(|target| target.id.as_str()).collect();
        assert_eq!(targets, TARGETS);
        planet
    }

    const TARGETS: [&str; 8] = [
        "iad-gateway",
        "iad-voice-1",
        "iad-voice-2",
        "iad-cdn",
        "sin-gateway",
        "sin-voice-1",
        "sin-voice-2",
        "sin-cdn",
    ];

    fn open(planet: &Planet, request: &str) -> Result<Arc<[Fault]>, Refusal> {
        let book = Book::default();
        let request = serde_json::from_str(request).map_err(|error| Refusal::Shape(error.to_string()))?;
        book.open(planet, request, Mono(0), Wall(0))?;
        Ok(book.active())
    }

    /// One line a source (iad, fra, sin, unknown), one character a target: x down, d dark, i impaired, c cold, l a leg, . untouched.
    fn reach(request: &str) -> [String; 4] {
        let planet = planet();
        let fault = open(&planet, request).unwrap();
        let mark = |path| match fault[0].upon(path, Mono(0)) {
            Some(Effect::Down) => 'x',
            Some(Effect::Dark) => 'd',
            Some(Effect::Leg { .. }) => 'l',
            Some(Effect::Impaired { .. }) => 'i',
            Some(Effect::ColdCache) => 'c',
            None => '.',
        };
        let rows: Vec<String> = planet.sources().map(|source| planet.paths(source).map(mark).collect()).collect();
        rows.try_into().unwrap()
    }

    #[test]
    fn each_fault_reaches_whom_it_says_and_nobody_else() {
        for (request, reached) in [
            (r#"{"kind":"region_down","region":"sin"}"#, ["....dddd", "....dddd", "dddddddd", "....dddd"]),
            (r#"{"kind":"service_down","region":"iad","service":"voice"}"#, [".xx....."; 4]),
            (r#"{"kind":"service_down","region":"iad","service":"gateway"}"#, ["x......."; 4]),
            (r#"{"kind":"target_down","target":"sin-voice-2"}"#, ["......x."; 4]),
            (
                r#"{"kind":"uplink","region":"iad","loss":0.5,"extra_ms":0}"#,
                ["iiiiiiii", "........", "........", "........"],
            ),
            (
                r#"{"kind":"pair","from":"fra","to":"iad","loss":0,"extra_ms":9}"#,
                ["........", "iiii....", "........", "........"],
            ),
            (r#"{"kind":"slow","region":"sin","service":"voice","extra_ms":9}"#, [".....ii."; 4]),
            (r#"{"kind":"flap","target":"iad-voice-1","period_s":2}"#, [".x......"; 4]),
            (r#"{"kind":"cold_cache","region":"sin"}"#, [".......c"; 4]),
            (
                r#"{"kind":"ecmp_leg","from":"fra","to":"sin","share":0.5}"#,
                ["........", "....llll", "........", "........"],
            ),
            (
                r#"{"kind":"route_change","from":"iad","to":"iad","extra_ms":9}"#,
                ["iiii....", "........", "........", "........"],
            ),
            (r#"{"kind":"agent_partition","region":"fra"}"#, ["........"; 4]),
        ] {
            assert_eq!(reach(request), reached, "{request}");
        }
    }

    #[test]
    fn agents_are_silenced_by_a_partition_and_by_the_end_of_their_region() {
        let planet = planet();
        for (request, silenced) in [
            (r#"{"kind":"agent_partition","region":"fra"}"#, [false, true, false]),
            (r#"{"kind":"region_down","region":"iad"}"#, [true, false, false]),
            (r#"{"kind":"uplink","region":"iad","loss":1,"extra_ms":0}"#, [false; 3]),
        ] {
            let fault = open(&planet, request).unwrap();
            assert_eq!([0, 1, 2].map(|region| fault[0].silences(RegionNo(region))), silenced, "{request}");
        }
    }

    #[test]
    fn what_only_a_router_can_do_is_refused_on_loopback() {
        let planet = Planet::new(3, Seed(5)).unwrap();
        for (kind, rest) in [
            ("ecmp_leg", r#""from":"fra","to":"sin","share":0.5"#),
            ("route_change", r#""from":"fra","to":"sin","extra_ms":5"#),
            ("agent_partition", r#""region":"fra""#),
        ] {
            let refusal = open(&planet, &format!(r#"{{"kind":"{kind}",{rest}}}"#)).unwrap_err();
            let detail = format!("{kind} is felt where packets are routed; this planet runs with --mode loopback");
            assert_eq!((refusal.code(), refusal.to_string()), ("router_mode_only", detail));
        }
    }

    #[test]
    fn a_flapping_target_is_down_for_half_a_period_and_up_for_half() {
        let planet = planet();
        let flap = open(&planet, r#"{"kind":"flap","target":"iad-voice-1","period_s":2}"#).unwrap();
        let path = planet.path(Source::Unknown, TargetNo(1));
        let up = [0, 999, 1000, 1999, 2000, 2999, 3000].map(|ms| is_up(path, &flap, Mono(ms * 1_000_000)));
        assert_eq!(up, [false, false, true, true, false, false, true]);
    }

    #[test]
    fn a_wrong_fault_is_refused_with_what_would_have_been_right() {
        let planet = planet();
        for (request, code, detail) in [
            (r#"{"kind":"region_down","region":"FRA"}"#, "unknown_region", "no region FRA; known: iad, fra, sin"),
            (
                r#"{"kind":"pair","from":"fra","to":"x","loss":0,"extra_ms":0}"#,
                "unknown_region",
                "no region x; known: iad, fra, sin",
            ),
            (
                r#"{"kind":"target_down","target":"fra-voice-1"}"#,
                "unknown_target",
                &format!("no target fra-voice-1; known: {}", TARGETS.join(", ")),
            ),
            (
                r#"{"kind":"service_down","region":"fra","service":"voice"}"#,
                "unknown_service",
                "no voice in fra; known: iad/gateway, iad/voice, iad/cdn, sin/gateway, sin/voice, sin/cdn",
            ),
            (
                r#"{"kind":"cold_cache","region":"fra"}"#,
                "unknown_service",
                "no cdn in fra; known: iad/gateway, iad/voice, iad/cdn, sin/gateway, sin/voice, sin/cdn",
            ),
            (
                r#"{"kind":"uplink","region":"fra","loss":1.5,"extra_ms":0}"#,
                "out_of_range",
                "loss is 1.5; allowed: 0 to 1",
            ),
            (
                r#"{"kind":"uplink","region":"fra","loss":0,"extra_ms":-1}"#,
                "out_of_range",
                "extra_ms is -1; allowed: 0 to 60000",
            ),
            (
                r#"{"kind":"slow","region":"iad","service":"voice","extra_ms":1e300}"#,
                "out_of_range",
                &format!("extra_ms is 1{}; allowed: 0 to 60000", "0".repeat(300)),
            ),
            (
                r#"{"kind":"flap","target":"iad-voice-1","period_s":0}"#,
                "out_of_range",
                "period_s is 0; allowed: 0.1 to 86400",
            ),
            (r#"{"kind":"ecmp_leg","from":"fra","to":"iad","share":2}"#, "out_of_range", "share is 2; allowed: 0 to 1"),
            (r#"{"kind":"uplink","region":"fra","loss":0.1}"#, "malformed_fault", "missing field `extra_ms`"),
            (
                r#"{"kind":"region_down","region":"fra","loss":1}"#,
                "malformed_fault",
                "unknown field `loss`, expected `region`",
            ),
            (r#"{"region":"fra"}"#, "malformed_fault", "missing field `kind` at line 1 column 16"),
        ] {
            let refusal = open(&planet, request).unwrap_err();
            assert_eq!((refusal.code(), refusal.to_string().as_str()), (code, detail), "{request}");
        }
    }

    #[test]
    fn a_closed_fault_is_gone_and_its_number_does_not_come_back() {
        let (planet, book) = (planet(), Book::default());
        let down = Request::RegionDown { region: "fra".to_owned() };
        let first = book.open(&planet, down.clone(), Mono(0), Wall(0)).unwrap();
        assert!(book.close(first));
        assert!(!book.close(first));
        assert!(book.active().is_empty());
        assert_ne!(book.open(&planet, down, Mono(0), Wall(0)).unwrap(), first);
    }
}
