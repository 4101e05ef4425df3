//! What push does next, from what collectors said. No clock and no chance of its own.

use std::time::Duration;

use telemetry::Mono;

use super::Verdict;
use super::patience::Patience;
use super::preference::{Move, Preference, Then};
use crate::meters::Fate;
use crate::spool::Lane;

/// Whose turn it is, from which end, and how long nobody has taken anything.
#[derive(Debug)]
pub struct Turns {
    lane: Lane,
    preference: Preference,
    patience: Patience,
}

/// What follows for the batch that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It is not needed again. Batches may go to another collector than before.
    Forget { fate: Fate, moved: Option<Move> },
    /// One is sent at once, to another collector.
    Another,
    /// After so long one is sent again.
    Wait(Duration),
}

impl Turns {
    /// With so many collectors, in order of preference.
    pub fn new(collectors: usize) -> Self {
        Self { lane: Lane::Newest, preference: Preference::new(collectors), patience: Patience::default() }
    }

    /// From which end the next batch is taken.
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// Which collector gets it.
    pub fn choose(&mut self, now: Mono) -> usize {
        self.preference.choose(now)
    }

    /// Whether the last one was waited for.
    pub fn is_tried(&self) -> bool {
        self.patience.is_tried()
    }

    /// What the chosen collector said. `chance` is from 0 to 1.
    pub fn hear(&mut self, verdict: &Verdict, now: Mono, chance: f64) -> Turn {
        let fate = match verdict {
            Verdict::Taken { .. } => Fate::Taken,
            Verdict::Refused { .. } => Fate::Refused,
            Verdict::Later { trouble, after, .. } => {
                return match self.preference.failed(*trouble, *after) {
                    Then::Another => Turn::Another,
                    Then::Wait(asked) => Turn::Wait(self.patience.wait(asked, chance)),
                };
            }
        };
        let moved = self.preference.took(now, chance);
        self.patience = Patience::default();
        self.lane = match self.lane {
            Lane::Newest => Lane::Oldest,
            Lane::Oldest => Lane::Newest,
        };
        Turn::Forget { fate, moved }
    }
}
