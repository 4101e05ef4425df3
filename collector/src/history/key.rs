//! How rows are found: the hour they are of, and the number that the store gives a series.

use std::ops::RangeInclusive;
use std::time::Duration;

use telemetry::Wall;
use telemetry::time::nanos;

pub(super) const HOUR: Duration = Duration::from_hours(1);

/// Since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Hour(pub(super) u32);

/// Counted up by the store, in the order in which it first saw them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Number(pub(super) u32);

impl Hour {
    pub(super) fn of(time: Wall) -> Self {
        Self((time.0 / nanos(HOUR)) as u32)
    }

    /// Those that hold any of `[from, to)`.
    pub(super) fn of_range(from: Wall, to: Wall) -> RangeInclusive<Self> {
        Self::of(from)..=Self::of(Wall(to.0.saturating_sub(1)))
    }

    pub(super) fn begin(self) -> Wall {
        Wall(u64::from(self.0) * nanos(HOUR))
    }
}

/// Eight bytes, by which rows lie in the order of series and hour.
pub(super) fn key(series: Number, hour: Hour) -> [u8; 8] {
    ((u64::from(series.0) << 32) | u64::from(hour.0)).to_be_bytes()
}

pub(super) fn of_key(key: &[u8]) -> Option<(Number, Hour)> {
    let key = u64::from_be_bytes(*key.first_chunk()?);
    Some((Number((key >> 32) as u32), Hour(key as u32)))
}
