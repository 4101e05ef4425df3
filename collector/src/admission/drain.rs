//! How fast what waits is taken, measured while anything waits: an idle fold says nothing of how fast it would be.

use std::time::Duration;

use telemetry::Mono;

/// Shorter than this says more of chance than of speed.
const GLANCE: Duration = Duration::from_millis(200);
/// What is older than this counts for less than a third.
const MEMORY: Duration = Duration::from_secs(3);
/// Before anything was measured: a guess, in bytes a second, that the first glance corrects.
const GUESS: f64 = 16e6;

#[derive(Debug, Default)]
pub(super) struct Drain {
    /// `None`: never measured.
    rate: Option<f64>,
    since: Mono,
    taken: f64,
}

impl Drain {
    /// Something waits again.
    pub(super) fn begin(&mut self, now: Mono) {
        self.since = now;
        self.taken = 0.0;
    }

    pub(super) fn took(&mut self, weight: f64, now: Mono) {
        self.taken += weight;
        self.look(now);
    }

    /// For each second. Asked while something waits, so that a fold that stands still is seen to be slow.
    pub(super) fn rate(&mut self, now: Mono) -> f64 {
        self.look(now);
        self.rate.unwrap_or(GUESS)
    }

    fn look(&mut self, now: Mono) {
        let seen = now.since(self.since);
        if seen < GLANCE {
            return;
        }
        let measured = self.taken / seen.as_secs_f64();
        let share = 1.0 - (-seen.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        self.rate = Some(self.rate.map_or(measured, |rate| rate + (measured - rate) * share));
        self.begin(now);
    }
}
