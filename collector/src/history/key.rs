//! How rows are found: the hour they are of, and the number that the store gives a series.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use journal::Position;
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

    /// Those that hold any of it.
    pub(super) fn of_range(range: &Range<Wall>) -> RangeInclusive<Self> {
        Self::of(range.start)..=Self::of(Wall(range.end.0.saturating_sub(1)))
    }

    pub(super) fn begin(self) -> Wall {
        Wall(u64::from(self.0) * nanos(HOUR))
    }

    pub(super) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Where the rows of a series lie together, one for each hour.
pub(super) fn by_series(series: Number, hour: Hour) -> [u8; 8] {
    pair(series.0, hour.0)
}

/// Where the rows of an hour lie together, one for each series.
pub(super) fn by_hour(hour: Hour, series: Number) -> [u8; 8] {
    pair(hour.0, series.0)
}

/// What came of an hour in a part; its rows lie together behind it.
pub(super) fn part(hour: Hour, position: Position) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&hour.0.to_be_bytes());
    key[4..].copy_from_slice(&position.0.to_be_bytes());
    key
}

/// A row of a part.
pub(super) fn in_part(hour: Hour, position: Position, series: Number) -> [u8; 16] {
    let mut key = [0; 16];
    key[..12].copy_from_slice(&part(hour, position));
    key[12..].copy_from_slice(&series.0.to_be_bytes());
    key
}

pub(super) fn of_series(key: &[u8]) -> Option<(Number, Hour)> {
    let (series, hour) = key.split_first_chunk()?;
    Some((Number(u32::from_be_bytes(*series)), Hour(u32::from_be_bytes(hour.try_into().ok()?))))
}

/// The series is the last of every key by which the rows of an hour lie together.
pub(super) fn series_of(key: &[u8]) -> Option<Number> {
    key.last_chunk().map(|series| Number(u32::from_be_bytes(*series)))
}

pub(super) fn of_part(key: &[u8]) -> Option<(Hour, Position)> {
    let (hour, position) = key.split_first_chunk()?;
    Some((Hour(u32::from_be_bytes(*hour)), Position(u64::from_be_bytes(position.try_into().ok()?))))
}

fn pair(first: u32, second: u32) -> [u8; 8] {
    ((u64::from(first) << 32) | u64::from(second)).to_be_bytes()
}
