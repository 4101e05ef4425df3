//! How far an agent's clock is off, seen from when its batches say that they were made and when they came.
//!
//! Delay only ever adds: what a batch shows is the offset and its way here, so the least of the last minute is the estimate
//! (D. L. Mills, RFC 5905, section 10, for the same reason). A batch that comes before it was made shows a clock that is ahead, whatever the way.
//! One that comes late shows a clock that is behind, or that it waited: the first is believed only of batches before which none waited, where several in
//! a row come equally late.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use telemetry::Wall;
use telemetry::time::nanos;
use utoipa::ToSchema;

/// A clock that is further off than this is shown as off.
pub const OFF: Duration = Duration::from_secs(5);
/// The points of one that is further off than this are moved; and so far ahead may be what is not moved.
pub const MOVED: Duration = Duration::from_mins(5);
/// How far back the estimate looks.
const LATELY: Duration = Duration::from_mins(1);
/// Batches of the last minute that it looks at; bad news makes more of them than this.
const MOST: usize = 32;
/// So many batches, over so long, are several in a row.
const STEADY: usize = 3;
const STEADY_FOR: Duration = Duration::from_secs(10);

/// Nanoseconds by which the collector's clock is ahead of an agent's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub i64);

/// When a batch was made by its agent's clock, and came by ours.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub made: Wall,
    pub received: Wall,
    /// Others waited on the agent when it was made, so this one may have waited, too.
    pub queued: bool,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct AgentClock {
    lately: VecDeque<(Wall, Offset)>,
    offset: Option<Offset>,
}

/// What is thought of an agent's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = AgentClock)]
pub enum Verdict {
    Unknown,
    Right,
    /// By more than 5 s.
    Off,
    /// Off by more than 5 min: its points are moved to where the collector's clock would have put them.
    Moved,
}

impl Offset {
    pub fn between(ours: Wall, theirs: Wall) -> Self {
        let nanos = i128::from(ours.0) - i128::from(theirs.0);
        Self(nanos.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
    }

    pub fn millis(self) -> f64 {
        self.0 as f64 / 1e6
    }

    pub fn exceeds(self, bound: Duration) -> bool {
        self.0.unsigned_abs() > nanos(bound)
    }

    #[must_use]
    pub fn applied_to(self, theirs: Wall) -> Wall {
        Wall(theirs.0.saturating_add_signed(self.0))
    }

    /// In whole windows, so that what was one window stays one; never to a later time.
    #[must_use]
    pub fn rounded_down(self, window: Duration) -> Self {
        let width = i64::try_from(nanos(window)).unwrap_or(i64::MAX).max(1);
        Self(self.0.div_euclid(width).saturating_mul(width))
    }

    /// To the nearest.
    fn rounded(self, window: Duration) -> Self {
        let width = i64::try_from(nanos(window)).unwrap_or(i64::MAX).max(1);
        let half = width / 2 * self.0.signum();
        Self(self.0.saturating_add(half) / width * width)
    }
}

impl AgentClock {
    /// Takes note of a batch.
    pub fn heard(&mut self, sample: Sample) {
        let Sample { made, received, queued } = sample;
        let shown = Offset::between(received, made);
        self.lately.retain(|(at, _)| *at <= received && received.since(*at) <= LATELY);
        // It says no more than that the clock is at least so far ahead.
        if queued && shown >= self.offset.unwrap_or_default().min(Offset(0)) {
            return;
        }
        if self.lately.len() == MOST {
            self.lately.pop_front();
        }
        self.lately.push_back((received, shown));
        self.forget_before_a_step();
        let Some(least) = self.lately.iter().map(|(_, shown)| *shown).min() else { return };
        if least.0 <= 0 || !least.exceeds(OFF) || self.is_steady() {
            self.offset = Some(least);
        }
    }

    pub fn offset(&self) -> Option<Offset> {
        self.offset
    }

    pub fn verdict(&self) -> Verdict {
        match self.offset {
            None => Verdict::Unknown,
            Some(offset) if offset.exceeds(MOVED) => Verdict::Moved,
            Some(offset) if offset.exceeds(OFF) => Verdict::Off,
            Some(_) => Verdict::Right,
        }
    }

    /// By how much the points of this batch are to be moved. One that comes about when it says it was made is left alone, whatever the clock showed before:
    /// it was set right.
    pub fn correction(&self, sample: Sample, window: Duration) -> Option<Offset> {
        let shown = Offset::between(sample.received, sample.made);
        if !shown.exceeds(MOVED) {
            return None;
        }
        let offset = match self.offset {
            Some(offset) => offset.min(shown),
            None if shown.0 < 0 => shown,
            None => return None,
        };
        offset.exceeds(MOVED).then(|| offset.rounded(window))
    }

    /// The same while nobody knows what time it is: as before.
    pub fn correction_as_before(&self, window: Duration) -> Option<Offset> {
        self.offset.filter(|offset| offset.exceeds(MOVED)).map(|offset| offset.rounded(window))
    }

    /// Where the two newest agree on an offset far above what was the least, the clock was set back in between.
    fn forget_before_a_step(&mut self) {
        let mut newest = self.lately.iter().rev().map(|(_, shown)| *shown);
        let (Some(last), Some(before)) = (newest.next(), newest.next()) else { return };
        let far = |from: Offset, to: Offset| Offset(from.0.saturating_sub(to.0)).exceeds(OFF);
        if !far(last, before) && newest.any(|older| older < last.min(before) && far(last.min(before), older)) {
            self.lately.drain(..self.lately.len() - 2);
        }
    }

    fn is_steady(&self) -> bool {
        let (Some((first, _)), Some((last, _))) = (self.lately.front(), self.lately.back()) else { return false };
        let shown = || self.lately.iter().map(|(_, shown)| shown.0);
        let spread = shown().max().unwrap_or(0).saturating_sub(shown().min().unwrap_or(0));
        self.lately.len() >= STEADY && last.since(*first) >= STEADY_FOR && !Offset(spread).exceeds(OFF)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);
    const BEGIN: u64 = 1_800_000_000;

    /// Made and received, in seconds; made at once after the one before was gone.
    fn sample(made: u64, received: u64) -> Sample {
        Sample { made: Wall::from_secs(BEGIN + made), received: Wall::from_secs(BEGIN + received), queued: false }
    }

    fn after(samples: &[Sample]) -> (AgentClock, Option<i64>) {
        let mut clock = AgentClock::default();
        for sample in samples {
            clock.heard(*sample);
        }
        let moved = samples.last().and_then(|last| clock.correction(*last, WINDOW));
        (clock, moved.map(|offset| offset.0 / 1_000_000_000))
    }

    fn shown(clock: &AgentClock) -> Option<f64> {
        clock.offset().map(Offset::millis)
    }

    #[test]
    fn the_least_delay_of_the_last_minute_is_the_estimate() {
        let (clock, moved) = after(&[sample(0, 3), sample(10, 11), sample(20, 24)]);
        assert_eq!((shown(&clock), clock.verdict(), moved), (Some(1000.0), Verdict::Right, None));
        let (clock, _) = after(&[sample(0, 1), sample(70, 73)]);
        assert_eq!(shown(&clock), Some(3000.0));
        assert_eq!(AgentClock::default().verdict(), Verdict::Unknown);
    }

    #[test]
    fn a_clock_that_is_ahead_is_known_by_its_first_batch() {
        let (clock, moved) = after(&[sample(9, 1)]);
        assert_eq!((clock.verdict(), moved), (Verdict::Off, None));
        let (clock, moved) = after(&[sample(3604, 1)]);
        assert_eq!((clock.verdict(), moved), (Verdict::Moved, Some(-3600)), "in whole windows");
    }

    #[test]
    fn a_clock_that_is_behind_is_believed_when_several_batches_in_a_row_say_so() {
        let late = [sample(0, 3600), sample(10, 3610), sample(20, 3620)];
        assert_eq!(after(&late[..2]).1, None);
        let (clock, moved) = after(&late);
        assert_eq!((clock.verdict(), moved), (Verdict::Moved, Some(3600)));
    }

    #[test]
    fn a_backlog_shows_no_clock_that_is_behind() {
        let backlog: Vec<_> = (0..100).map(|n| Sample { queued: n > 0, ..sample(n * 10, 3600 + n) }).collect();
        let (clock, moved) = after(&backlog);
        assert_eq!((shown(&clock), moved), (None, None));
        // Equally late, each behind others: a line that carries no more.
        let line: Vec<_> = (0..10).map(|n| Sample { queued: true, ..sample(n * 10, 3600 + n * 10) }).collect();
        assert_eq!(after(&line).1, None);
    }

    #[test]
    fn a_backlog_of_a_clock_that_is_ahead_goes_where_it_was_measured() {
        let mut clock = AgentClock::default();
        clock.heard(sample(7200, 0));
        let waited = Sample { queued: true, ..sample(7210, 1810) };
        clock.heard(waited);
        assert_eq!(clock.correction(waited, WINDOW), Some(Offset(-7_200_000_000_000)));
    }

    #[test]
    fn a_clock_that_was_set_right_is_right_from_its_next_batch_on() {
        let (_, moved) = after(&[sample(3600, 0), sample(3610, 10), sample(20, 20)]);
        assert_eq!(moved, None);
        let (clock, _) = after(&[sample(3600, 0), sample(3610, 10), sample(20, 20), sample(30, 30)]);
        assert_eq!((shown(&clock), clock.verdict()), (Some(0.0), Verdict::Right));
    }

    #[test]
    fn no_time_is_too_strange() {
        let ends = [Wall(0), Wall(u64::MAX)];
        for (made, received) in ends.into_iter().flat_map(|made| ends.map(|received| (made, received))) {
            for queued in [false, true] {
                let sample = Sample { made, received, queued };
                let mut clock = AgentClock::default();
                clock.heard(sample);
                clock.correction(sample, WINDOW);
            }
        }
    }
}
