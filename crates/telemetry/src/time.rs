//! Two clocks that never mix: `Wall` stamps, `Mono` measures.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// Nanoseconds since the Unix epoch: when something happened, for people and for other machines. It may jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Wall(pub u64);

/// Nanoseconds since this process began: how long something took. It never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(pub u64);

/// Whole seconds since the Unix epoch: of dates that [`Wall`] is too short for, such as the end of a certificate in 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixSeconds(pub i64);

impl Wall {
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1_000_000_000)
    }

    /// Zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The begin of the slot of this width that holds this time. Slots are counted from the epoch, so that every agent cuts
    /// at the same moments.
    #[must_use]
    pub fn slot(self, width: Duration) -> Self {
        let width = nanos(width).max(1);
        Self(self.0 - self.0 % width)
    }
}

/// A duration as nanoseconds, at most 584 years.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A duration as milliseconds, for people.
pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

impl Mono {
    /// Zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

macro_rules! moves_by_duration {
    ($($kind:ident)+) => {$(
        impl Add<Duration> for $kind {
            type Output = Self;

            fn add(self, duration: Duration) -> Self {
                Self(self.0.saturating_add(nanos(duration)))
            }
        }

        impl AddAssign<Duration> for $kind {
            fn add_assign(&mut self, duration: Duration) {
                *self = *self + duration;
            }
        }

        impl Sub<Duration> for $kind {
            type Output = Self;

            fn sub(self, duration: Duration) -> Self {
                Self(self.0.saturating_sub(nanos(duration)))
            }
        }
    )+};
}

moves_by_duration! { Wall Mono }

impl From<SystemTime> for Wall {
    fn from(time: SystemTime) -> Self {
        Self(time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, nanos))
    }
}

/// RFC 3339, UTC, milliseconds.
impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + Duration::from_nanos(self.0)).fmt(f)
    }
}

/// RFC 3339, UTC; what lies outside the years 1970 to 9999 is written as their end.
impl fmt::Display for UnixSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const END_OF_9999: u64 = 253_402_300_799;
        let since = u64::try_from(self.0).unwrap_or_default().min(END_OF_9999);
        humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(since)).fmt(f)
    }
}

impl FromStr for Wall {
    type Err = humantime::TimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        humantime::parse_rfc3339(text).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_time_reads_back_what_it_prints() {
        let time = Wall(1_764_000_123_456_000_000);
        assert_eq!(time.to_string(), "2025-11-24T16:02:03.456Z");
        assert_eq!(time.to_string().parse::<Wall>().unwrap(), time);
    }

    #[test]
    fn seconds_are_written_as_a_date_however_far_away() {
        assert_eq!(UnixSeconds(1_764_000_123).to_string(), "2025-11-24T16:02:03Z");
        assert_eq!(UnixSeconds(i64::MAX).to_string(), "9999-12-31T23:59:59Z");
        assert_eq!(UnixSeconds(-1).to_string(), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn a_slot_begins_at_a_multiple_of_its_width() {
        let width = Duration::from_secs(10);
        assert_eq!(Wall::from_secs(129).slot(width), Wall::from_secs(120));
        assert_eq!(Wall::from_secs(120).slot(width), Wall::from_secs(120));
    }
}
