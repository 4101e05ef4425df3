//! How much the spool keeps, and for how long.

use std::ops::RangeInclusive;
use std::time::Duration;

use runtime::config::{Table, kind};

use super::duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub bytes: u64,
    pub age: Duration,
}

/// A sixteenth of it goes at a time.
const BYTES: RangeInclusive<i64> = 16 << 10..=1 << 40;
const AGES: RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(24 * 30);

impl Limits {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        let Self { bytes, age } = Self::default();
        let bytes = table.optional("bytes", kind::integer(BYTES)).map_or(bytes, i64::unsigned_abs);
        Self { bytes, age: duration(table, "age", age, AGES) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 << 20, age: Duration::from_hours(24) }
    }
}
