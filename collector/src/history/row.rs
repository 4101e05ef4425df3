//! A row: the windows of one series that begin within so many minutes or hours after a moment that its key tells.
//!
//! Byte 0 is the version, 2. Then follows a stream of bits, the most significant first, padded with zeros:
//!
//! 1. the number of windows, γ of one more; the unit of time in milliseconds, γ: the greatest in which all begins can be told;
//! 2. four codes of 4 bits each, for sizes, firsts, gaps and counts: 0–14 is Golomb–Rice with that parameter, 15 is γ;
//!    whichever is the shortest for this row;
//! 3. for each [`GROUP`] windows, in order of time, what is needed to begin with them:
//!    - units since the group before began, γ; for the first one, units since the moment plus one;
//!    - the scale and the first index of the window before (in front of all: 8 and 0), against what this was told to be of the group before: bit
//!      1 when the scale is the same, else bit 0 and 8 bits; the difference of the indices, zigzag: a first;
//!    - the bytes of the group, γ of one more; of the last one they are the rest of the row.
//!
//! The groups follow, each a stream of bits, padded. A window of it is
//!
//! - units since the window before, γ; nothing for the group's first one;
//! - bit 1 when it is usual: of the scale of the one before, without zeros and failures. Otherwise bit 0 and a
//!   bit for each of the three, followed by what is there: the scale, 8 bits; zeros, γ; a mask of 8 bits for the kinds
//!   of failures in the order of [`KINDS`], and γ for each count;
//! - how many buckets: a size. The first one's index, less the first of the last window that had any, zigzag: a first.
//!   For each further one the indices that lie between: a gap. For each one its count less one: a count.
//!
//! γ is Elias' gamma code of a number from 1: one less zeros than its bits, then the bits. Golomb–Rice writes `v >> k` zeros, a one and the
//! `k` low bits; from [`ESCAPE`] zeros on those stand for γ of `v + 1` (S. W. Golomb, 1966; R. F. Rice, 1979; P. Elias, 1975).

mod read;
mod write;

use std::collections::BTreeMap;
use std::time::Duration;

use telemetry::histogram::SCALE;
use telemetry::{FailureKind, Wall};

use crate::rings::Seen;

pub(super) use read::decode;
pub(super) use write::encode;

/// What a series, or several, saw, by the begin of each slot.
pub type Windows = BTreeMap<Wall, Seen>;

/// Begins are kept to this.
pub(super) const RESOLUTION: Duration = Duration::from_millis(1);

const VERSION: u8 = 2;
/// Windows of which all are read when one is.
const GROUP: usize = 10;
const ESCAPE: u32 = 24;
const GAMMA: u8 = 15;
const KINDS: [FailureKind; 8] = [
    FailureKind::Timeout,
    FailureKind::Refused,
    FailureKind::Unreachable,
    FailureKind::Dns,
    FailureKind::Tls,
    FailureKind::Protocol,
    FailureKind::Status,
    FailureKind::Other,
];

#[derive(Debug, thiserror::Error)]
pub enum RowError {
    #[error("a row of history of version {0:?}: was it written by another release?")]
    Version(Option<u8>),
    #[error("a row of history that does not decode")]
    Damaged,
}

fn nanos() -> u64 {
    telemetry::time::nanos(RESOLUTION)
}

/// What the next window is told by.
#[derive(Debug, Clone, Copy)]
struct Before {
    scale: i8,
    first: i32,
}

impl Default for Before {
    fn default() -> Self {
        Self { scale: SCALE, first: 0 }
    }
}

#[derive(Clone, Copy)]
struct Codes {
    sizes: u8,
    firsts: u8,
    gaps: u8,
    counts: u8,
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

#[cfg(test)]
mod tests;
