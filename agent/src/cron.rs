//! Probes by the clock on the wall: a cron expression of six fields, UTC, with the grammar of tokio-cron-scheduler, whose
//! parser this is. The scheduler itself looks twice a second and may lose its jobs in a stall; here the due times are the
//! pacer's own, so that a heavy probe is sent as exactly as a light one.
//!
//! A probe is due at each time of the expression plus its offset, up to [`SPREAD`], from the hash that spreads the others: a
//! fleet with one expression does not send in one second. The wall clock is looked at again at least every [`LOOK`], so that
//! setting it moves the next send and nothing is sent twice. Of what was slept through only the latest is sent, and nothing
//! that is late by more than [`LATEST`]: the rest is skipped, and told.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use croner::parser::{CronParser, Seconds, Year};
use runtime::{Mono, Wall};

use crate::now::Now;

pub const SPREAD: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_mins(1);
const LATEST: Duration = Duration::from_mins(1);
/// How many skipped times are counted one by one.
const COUNTED: u64 = 10_000;

#[derive(Clone, PartialEq)]
pub struct Cron(Arc<croner::Cron>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cron expression has six fields, and a day that comes")]
pub struct InvalidCron;

/// The times of one probe.
#[derive(Debug)]
pub struct Firings {
    cron: Cron,
    offset: Duration,
    next: Wall,
}

/// What has become due.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Fired {
    pub due: Option<(Mono, Wall)>,
    pub skipped: u64,
}

impl Firings {
    pub fn new(cron: Cron, offset: Duration, now: Wall) -> Self {
        let mut firings = Self { cron, offset, next: now };
        firings.next = firings.after(now);
        firings
    }

    /// When to look at it again.
    pub fn look(&self, now: Now) -> Mono {
        now.mono + self.next.since(now.wall.min(self.next)).min(LOOK)
    }

    /// `at` is when this look was to be: nothing that it finds was due before.
    pub fn take(&mut self, at: Mono, now: Now) -> Fired {
        // The clock may have been set back.
        self.next = self.next.min(self.after(now.wall));
        if now.wall < self.next {
            return Fired::default();
        }
        let (mut wall, mut skipped) = (self.next, 0);
        self.next = self.after(wall);
        while self.next <= now.wall && skipped < COUNTED {
            (wall, skipped) = (self.next, skipped + 1);
            self.next = self.after(wall);
        }
        self.next = self.next.max(self.after(now.wall));
        let late = now.wall.since(wall);
        if late > LATEST {
            return Fired { due: None, skipped: skipped + 1 };
        }
        Fired { due: Some((at.max(now.mono - late), wall)), skipped }
    }

    /// The first due time after that one.
    fn after(&self, wall: Wall) -> Wall {
        self.cron.after(wall - self.offset).map_or(Wall(u64::MAX), |time| time + self.offset)
    }
}

impl Cron {
    fn after(&self, wall: Wall) -> Option<Wall> {
        let seconds = wall.0 / 1_000_000_000;
        let from = DateTime::<Utc>::from_timestamp(seconds.cast_signed(), 0)?;
        let next = self.0.find_next_occurrence(&from, false).ok()?;
        Some(Wall::from_secs(next.timestamp().cast_unsigned()))
    }
}

impl FromStr for Cron {
    type Err = InvalidCron;

    fn from_str(text: &str) -> Result<Self, InvalidCron> {
        let parser = CronParser::builder().seconds(Seconds::Required).year(Year::Disallowed).build();
        let cron = Self(Arc::new(parser.parse(text).map_err(|_| InvalidCron)?));
        // Without years, what never comes after one moment never comes.
        cron.after(Wall::from_secs(0)).map(|_| cron).ok_or(InvalidCron)
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({})", self.0.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2025-11-24T16:00:00Z, a whole hour.
    const HOUR: u64 = 1_764_000_000;
    const OFFSET: Duration = Duration::from_secs(7);
    const NONE: Fired = Fired { due: None, skipped: 0 };

    fn every_five_minutes(now: Now) -> Firings {
        Firings::new("0 */5 * * * *".parse().unwrap(), OFFSET, now.wall)
    }

    fn now(mono: u64, wall: u64) -> Now {
        Now { mono: Mono(mono * 1_000_000_000), wall: Wall::from_secs(wall) }
    }

    #[test]
    fn a_probe_is_due_at_the_times_of_its_expression_plus_its_offset_and_at_no_other() {
        let mut firings = every_five_minutes(now(0, HOUR + 20));
        let (mut at, mut due) = (firings.look(now(0, HOUR + 20)), Vec::new());
        while due.len() < 3 {
            let now = Now { mono: at, wall: Wall::from_secs(HOUR + 20) + at.since(Mono(0)) };
            let fired = firings.take(at, now);
            assert_eq!(fired.skipped, 0);
            due.extend(fired.due);
            at = firings.look(now);
            assert!(at > now.mono && at.since(now.mono) <= LOOK);
        }
        let expected = [307, 607, 907].map(|after| (now(after - 20, 0).mono, Wall::from_secs(HOUR + after)));
        assert_eq!(due, expected);
    }

    #[test]
    fn what_was_slept_through_is_skipped_and_never_sent_in_a_burst() {
        let mut firings = every_five_minutes(now(0, HOUR + 8));
        // The third of three times, 20 s late; it counts against when it was due.
        let fired = firings.take(now(60, 0).mono, now(919, HOUR + 927));
        assert_eq!(fired, Fired { due: Some((now(899, 0).mono, Wall::from_secs(HOUR + 907))), skipped: 2 });
        assert_eq!(firings.take(now(920, 0).mono, now(920, HOUR + 928)), NONE);
        // Too late for the one time there was.
        let fired = firings.take(now(1300, 0).mono, now(1300, HOUR + 1308));
        assert_eq!(fired, Fired { due: None, skipped: 1 });
    }

    #[test]
    fn a_clock_that_is_set_moves_the_next_time_and_repeats_none() {
        let mut firings = every_five_minutes(now(0, HOUR + 8));
        let fired = firings.take(now(299, 0).mono, now(299, HOUR + 307));
        assert_eq!(fired.due, Some((now(299, 0).mono, Wall::from_secs(HOUR + 307))));
        // Back by ten minutes and a bit: the times of then come again, each once, and those of before are forgotten.
        let back = now(359, HOUR + 367 - 663);
        assert_eq!(firings.take(back.mono, back), NONE);
        assert_eq!(firings.next, Wall::from_secs(HOUR - 300 + 7));
        // Ahead, beyond the next time by half a minute: due when that was seen, not before.
        let ahead = now(400, HOUR + 637);
        let fired = firings.take(ahead.mono, ahead);
        assert_eq!(fired.due, Some((ahead.mono, Wall::from_secs(HOUR + 607))));
    }

    #[test]
    fn an_expression_has_six_fields_and_a_day_that_comes() {
        for good in ["0 */5 * * * *", "30 0 3 * * 1-5", "0 0 0 29 2 *"] {
            assert!(good.parse::<Cron>().is_ok(), "{good}");
        }
        for bad in ["", "*/5 * * * *", "0 0 0 30 2 *", "0 60 * * * *", "0 0 0 1 1 * 2020", "every minute"] {
            assert_eq!(bad.parse::<Cron>(), Err(InvalidCron), "{bad}");
        }
    }
}
