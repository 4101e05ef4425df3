//! What is to happen, by the simulated clock. What is due at one moment happens in the order in which it was planned.

use std::collections::BTreeMap;
use std::time::Duration;

use agent::push::Verdict;
use agent::spool::{Batch, Name};
use telemetry::Wall;

/// A try of an agent's to have a batch taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Try {
    pub(crate) agent: usize,
    pub(crate) number: u64,
    pub(crate) name: Name,
}

#[derive(Debug)]
pub(crate) enum Event {
    /// An agent closes windows.
    Measure {
        agent: usize,
    },
    Push {
        agent: usize,
        life: u32,
    },
    Arrive {
        of: Try,
        batch: Batch,
    },
    Answer {
        of: Try,
        verdict: Verdict,
    },
    /// The log's disk has done what waited.
    Settle {
        life: u32,
    },
    Mark,
    Strike,
    StartAgent {
        agent: usize,
    },
    StartCollector,
    HealAgent {
        agent: usize,
    },
    HealCollector,
    Join {
        agent: usize,
    },
}

#[derive(Default)]
pub(crate) struct Agenda {
    pub(crate) now: Wall,
    planned: BTreeMap<(Wall, u64), Event>,
    serial: u64,
}

impl Agenda {
    pub(crate) fn new(now: Wall) -> Self {
        Self { now, ..Self::default() }
    }

    pub(crate) fn plan(&mut self, after: Duration, event: Event) {
        self.serial += 1;
        self.planned.insert((self.now + after, self.serial), event);
    }

    /// The next event; it is then.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let ((at, _), event) = self.planned.pop_first()?;
        self.now = at;
        Some(event)
    }
}
