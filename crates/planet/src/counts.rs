//! What the endpoints did since start: the independent oracle of every test that asks whether something was lost or counted
//! twice. An answer is counted when it has been sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use protocols::voice::Question;
use serde::Serialize;

use crate::model::{Planet, Service, Source, TargetNo};
use crate::world::Reason;

#[derive(Debug)]
pub struct Counts {
    planet: Arc<Planet>,
    /// By [`Planet::row`].
    paths: Vec<[AtomicU64; EVENTS.len()]>,
}

/// What can happen at an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Answered(Question),
    /// A TCP connection was accepted, and nothing more came of it.
    Connected,
    /// A handshake for what speaks there: a probe that goes no further is counted here as well.
    Secured(Service),
    Upgraded,
    Greeted,
    /// A heartbeat was answered, or a ping in its place.
    Beaten,
    /// An HTTP response was begun.
    Responded,
    Dropped(Reason),
    /// The kernel did not take the answer.
    Unsent,
}

/// The answer to `GET /counts`: what never happened has no row.
#[derive(Debug, PartialEq, Serialize)]
pub struct Document<'a> {
    pub items: Vec<AnsweredRow<'a>>,
    pub dropped: Vec<DroppedRow<'a>>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnsweredRow<'a> {
    pub source: &'a str,
    pub target: &'a str,
    pub probe: &'static str,
    pub phase: &'static str,
    pub count: u64,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct DroppedRow<'a> {
    pub source: &'a str,
    pub target: &'a str,
    pub reason: &'static str,
    pub count: u64,
}

const EVENTS: [Event; 13] = [
    Event::Answered(Question::Ping),
    Event::Answered(Question::Discovery),
    Event::Connected,
    Event::Secured(Service::Gateway),
    Event::Upgraded,
    Event::Greeted,
    Event::Beaten,
    Event::Secured(Service::Cdn),
    Event::Responded,
    Event::Dropped(Reason::Down),
    Event::Dropped(Reason::Lost),
    Event::Dropped(Reason::Nonsense),
    Event::Unsent,
];

/// How an event is told.
enum Told {
    Answered { probe: &'static str, phase: &'static str },
    Dropped { reason: &'static str },
}

impl Counts {
    pub fn new(planet: Arc<Planet>) -> Self {
        let rows = planet.sources().count() * planet.targets().len();
        Self { planet, paths: (0..rows).map(|_| Default::default()).collect() }
    }

    pub fn add(&self, source: Source, target: TargetNo, event: Event) {
        let path = &self.paths[self.planet.row(source, target)];
        let cell = EVENTS.iter().zip(path).find(|(known, _)| **known == event);
        cell.expect("every event is in the table").1.fetch_add(1, Ordering::Relaxed);
    }

    pub fn document(&self) -> Document<'_> {
        let mut document = Document { items: Vec::new(), dropped: Vec::new() };
        for path in self.planet.sources().flat_map(|source| self.planet.paths(source)) {
            let source = self.planet.source_name(path.source);
            let target = path.target.id.as_str();
            for (event, cell) in EVENTS.iter().zip(&self.paths[self.planet.row(path.source, path.no)]) {
                match (cell.load(Ordering::Relaxed), event.told()) {
                    (0, _) => {}
                    (count, Told::Answered { probe, phase }) => {
                        document.items.push(AnsweredRow { source, target, probe, phase, count });
                    }
                    (count, Told::Dropped { reason }) => {
                        document.dropped.push(DroppedRow { source, target, reason, count });
                    }
                }
            }
        }
        document
    }
}

impl Event {
    fn told(self) -> Told {
        let answered = |probe, phase| Told::Answered { probe, phase };
        match self {
            Self::Answered(Question::Ping) => answered("voice", "rtt"),
            Self::Answered(Question::Discovery) => answered("voice", "discovery"),
            Self::Connected => answered("tcp", "connect"),
            Self::Secured(Service::Gateway) => answered("websocket", "tls"),
            Self::Secured(_) => answered("http", "tls"),
            Self::Upgraded => answered("websocket", "upgrade"),
            Self::Greeted => answered("websocket", "hello"),
            Self::Beaten => answered("websocket", "heartbeat"),
            Self::Responded => answered("http", "first_byte"),
            Self::Dropped(Reason::Down) => Told::Dropped { reason: "down" },
            Self::Dropped(Reason::Lost) => Told::Dropped { reason: "lost" },
            Self::Dropped(Reason::Nonsense) => Told::Dropped { reason: "nonsense" },
            Self::Unsent => Told::Dropped { reason: "unsent" },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;
    use crate::model::RegionNo;

    #[test]
    fn each_path_and_each_event_has_a_row_of_its_own() {
        let counts = Counts::new(Arc::new(Planet::new(2, Seed(1)).unwrap()));
        let target = TargetNo(1);
        for event in EVENTS {
            counts.add(Source::Region(RegionNo(1)), target, event);
        }
        counts.add(Source::Unknown, target, Event::Connected);

        let document = counts.document();
        let id = counts.planet.targets()[1].id.as_str();
        let row = |source, probe, phase| AnsweredRow { source, target: id, probe, phase, count: 1 };
        let answered = [
            ("voice", "rtt"),
            ("voice", "discovery"),
            ("tcp", "connect"),
            ("websocket", "tls"),
            ("websocket", "upgrade"),
            ("websocket", "hello"),
            ("websocket", "heartbeat"),
            ("http", "tls"),
            ("http", "first_byte"),
        ]
        .map(|(probe, phase)| row("fra", probe, phase));
        assert_eq!(document.items, [answered.as_slice(), &[row("unknown", "tcp", "connect")]].concat());
        let dropped = ["down", "lost", "nonsense", "unsent"];
        assert_eq!(document.dropped, dropped.map(|reason| DroppedRow { source: "fra", target: id, reason, count: 1 }));
    }
}
