//! From when to when windows begin.

use std::ops::Range;

use telemetry::Wall;

use super::key::Hour;
use super::row::RESOLUTION;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    first: Wall,
    last: Wall,
}

impl Span {
    pub(super) fn of(begin: Wall) -> Self {
        Self { first: begin, last: begin }
    }

    pub(super) fn take(&mut self, begin: Wall) {
        (self.first, self.last) = (self.first.min(begin), self.last.max(begin));
    }

    pub(super) fn is_in(self, range: &Range<Wall>) -> bool {
        self.first < range.end && self.last >= range.start
    }

    /// Within an hour, in eight bytes.
    pub(super) fn told(self, hour: Hour) -> [u8; 8] {
        let millis = |begin: Wall| begin.since(hour.begin()).as_millis() as u64;
        ((millis(self.first) << 32) | millis(self.last)).to_be_bytes()
    }

    pub(super) fn read(hour: Hour, bytes: &[u8]) -> Option<Self> {
        let told = u64::from_be_bytes(bytes.try_into().ok()?);
        let begin =
            |units: u64| hour.begin() + RESOLUTION * u32::try_from(units & u64::from(u32::MAX)).unwrap_or_default();
        Some(Self { first: begin(told >> 32), last: begin(told) })
    }
}
