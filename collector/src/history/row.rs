//! A row: the windows of one series that begin within so many minutes or hours after a moment that its key tells.
//!
//! Byte 0 is the version, 1. Then follows a stream of bits, the most significant first, padded with zeros:
//!
//! 1. the number of windows, γ; the unit of time in milliseconds, γ: the greatest in which all begins can be told;
//! 2. four codes of 4 bits each, for sizes, firsts, gaps and counts: 0–14 is Golomb–Rice with that parameter, 15 is γ;
//!    whichever is the shortest for this row;
//! 3. each window in order of time:
//!    - units since the window before, γ; for the first one, units since the moment plus one;
//!    - bit 1 when it is usual: of the scale of the one before (the first: 8), without zeros and failures. Otherwise bit 0 and a
//!      bit for each of the three, followed by what is there: the scale, 8 bits; zeros, γ; a mask of 8 bits for the kinds
//!      of failures in the order of [`KINDS`], and γ for each count;
//!    - how many buckets: a size. The first one's index, less the first of the last window that had any, zigzag: a first.
//!      For each further one the indices that lie between: a gap. For each one its count less one: a count.
//!
//! γ is Elias' gamma code of a number from 1: one less zeros than its bits, then the bits. Golomb–Rice writes `v >> k` zeros, a one and the
//! `k` low bits; from [`ESCAPE`] zeros on those stand for γ of `v + 1` (S. W. Golomb, 1966; R. F. Rice, 1979; P. Elias, 1975).

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bitstream_io::{BigEndian, BitRead as _, BitReader, BitWrite as _, BitWriter};
use telemetry::histogram::{Bucket, SCALE};
use telemetry::{FailureKind, Histogram, Wall};

use crate::rings::Seen;

/// What a series, or several, saw, by the begin of each slot.
pub type Windows = BTreeMap<Wall, Seen>;

/// Begins are kept to this.
pub(super) const RESOLUTION: Duration = Duration::from_millis(1);

const VERSION: u8 = 1;
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

/// `windows` begin at or after `base`.
pub(super) fn encode(base: Wall, windows: &Windows) -> Vec<u8> {
    write(base, windows).expect("memory takes every bit")
}

/// Tells each window that the row holds. What was told before a fault was in the row.
pub(super) fn decode(base: Wall, row: &[u8], mut tell: impl FnMut(Wall, Seen)) -> Result<(), RowError> {
    let Some((&VERSION, bits)) = row.split_first() else { return Err(RowError::Version(row.first().copied())) };
    let mut bits = Bits(BitReader::endian(bits, BigEndian));
    let (count, unit) = (bits.gamma()? - 1, bits.gamma()?);
    let codes = Codes { sizes: bits.code()?, firsts: bits.code()?, gaps: bits.code()?, counts: bits.code()? };
    let (mut begin, mut before) = (base.0, Before::default());
    for index in 0..count {
        let units = bits.gamma()? - u64::from(index == 0);
        let since = units.checked_mul(unit).and_then(|since| since.checked_mul(nanos()));
        begin = since.and_then(|since| begin.checked_add(since)).ok_or(RowError::Damaged)?;
        tell(Wall(begin), bits.window(codes, &mut before)?);
    }
    Ok(())
}

fn nanos() -> u64 {
    telemetry::time::nanos(RESOLUTION)
}

/// What the next window is told by.
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

/// The numbers of a row, by what codes them.
#[derive(Default)]
struct Numbers {
    sizes: Vec<u64>,
    firsts: Vec<u64>,
    gaps: Vec<u64>,
    counts: Vec<u64>,
}

impl Numbers {
    fn of(windows: &Windows) -> Self {
        let (mut numbers, mut before) = (Self::default(), 0);
        for seen in windows.values() {
            let buckets = seen.replies.buckets();
            numbers.sizes.push(buckets.len() as u64);
            if let Some(first) = buckets.first() {
                numbers.firsts.push(zigzag(i64::from(first.index) - i64::from(before)));
                before = first.index;
            }
            numbers.gaps.extend(buckets.windows(2).map(|pair| gap(pair[0].index, pair[1].index)));
            numbers.counts.extend(buckets.iter().map(|bucket| u64::from(bucket.count - 1)));
        }
        numbers
    }

    fn codes(&self) -> Codes {
        let [sizes, firsts, gaps, counts] =
            [&self.sizes, &self.firsts, &self.gaps, &self.counts].map(|of| shortest(of));
        Codes { sizes, firsts, gaps, counts }
    }
}

fn shortest(numbers: &[u64]) -> u8 {
    let bits = |code: u8| numbers.iter().map(|number| bits_of(code, *number)).sum::<u64>();
    (0..=GAMMA).min_by_key(|code| bits(*code)).unwrap_or_default()
}

fn bits_of(code: u8, number: u64) -> u64 {
    let gamma = 2 * u64::from((number + 1).ilog2()) + 1;
    match (code, number >> code) {
        (GAMMA, _) => gamma,
        (_, zeros) if zeros < u64::from(ESCAPE) => zeros + 1 + u64::from(code),
        _ => u64::from(ESCAPE) + 1 + gamma,
    }
}

fn gap(before: i32, next: i32) -> u64 {
    u64::try_from(i64::from(next) - i64::from(before) - 1).unwrap_or_default()
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

type Out = BitWriter<Vec<u8>, BigEndian>;

fn write(base: Wall, windows: &Windows) -> io::Result<Vec<u8>> {
    let millis: Vec<_> = windows.keys().map(|begin| (begin.0 - base.0) / nanos()).collect();
    let unit = millis.iter().copied().fold(0, greatest_common_divisor).max(1);
    let mut out = BitWriter::endian(vec![VERSION], BigEndian);
    gamma(&mut out, windows.len() as u64 + 1)?;
    gamma(&mut out, unit)?;
    let codes = Numbers::of(windows).codes();
    for code in [codes.sizes, codes.firsts, codes.gaps, codes.counts] {
        out.write_var(4, code)?;
    }
    let mut before = Before::default();
    let mut last = None;
    for (millis, seen) in millis.into_iter().zip(windows.values()) {
        let units = millis / unit;
        gamma(&mut out, last.map_or(units + 1, |last| units - last))?;
        last = Some(units);
        write_window(&mut out, seen, codes, &mut before)?;
    }
    out.byte_align()?;
    Ok(out.into_writer())
}

fn write_window(out: &mut Out, seen: &Seen, codes: Codes, before: &mut Before) -> io::Result<()> {
    let (replies, failures) = (&seen.replies, &seen.failures);
    let unusual = [replies.scale() != before.scale, replies.zeros() > 0, !failures.is_empty()];
    let usual = unusual == [false; 3];
    out.write_bit(usual)?;
    if !usual {
        unusual.iter().try_for_each(|unusual| out.write_bit(*unusual))?;
    }
    if unusual[0] {
        out.write_var(8, replies.scale().cast_unsigned())?;
        before.scale = replies.scale();
    }
    if unusual[1] {
        gamma(out, u64::from(replies.zeros()))?;
    }
    if unusual[2] {
        let there = KINDS.map(|kind| failures.get(&kind).copied().unwrap_or_default());
        there.iter().try_for_each(|count| out.write_bit(*count > 0))?;
        there.into_iter().filter(|count| *count > 0).try_for_each(|count| gamma(out, count))?;
    }
    let buckets = replies.buckets();
    coded(out, codes.sizes, buckets.len() as u64)?;
    let Some(first) = buckets.first() else { return Ok(()) };
    coded(out, codes.firsts, zigzag(i64::from(first.index) - i64::from(before.first)))?;
    before.first = first.index;
    buckets.windows(2).try_for_each(|pair| coded(out, codes.gaps, gap(pair[0].index, pair[1].index)))?;
    buckets.iter().try_for_each(|bucket| coded(out, codes.counts, u64::from(bucket.count - 1)))
}

fn gamma(out: &mut Out, number: u64) -> io::Result<()> {
    let bits = number.ilog2();
    out.write_unary::<1>(bits)?;
    out.write_var(bits, number - (1 << bits))
}

fn coded(out: &mut Out, code: u8, number: u64) -> io::Result<()> {
    if code == GAMMA {
        return gamma(out, number + 1);
    }
    let zeros = number >> code;
    if zeros >= u64::from(ESCAPE) {
        out.write_unary::<1>(ESCAPE)?;
        return gamma(out, number + 1);
    }
    out.write_unary::<1>(zeros as u32)?;
    out.write_var(u32::from(code), number - (zeros << code))
}

/// Reads what may be anything.
struct Bits<'a>(BitReader<&'a [u8], BigEndian>);

impl Bits<'_> {
    fn code(&mut self) -> Result<u8, RowError> {
        self.bits(4)
    }

    fn window(&mut self, codes: Codes, before: &mut Before) -> Result<Seen, RowError> {
        let usual = self.bit()?;
        let mut unusual = [false; 3];
        if !usual {
            unusual = [self.bit()?, self.bit()?, self.bit()?];
        }
        if unusual[0] {
            before.scale = self.bits::<u8>(8)?.cast_signed();
        }
        if before.scale > SCALE {
            return Err(RowError::Damaged);
        }
        let zeros = if unusual[1] { self.gamma()? } else { 0 };
        let failures = if unusual[2] { self.failures()? } else { BTreeMap::new() };
        let buckets = self.buckets(codes, before)?;
        let zeros = u32::try_from(zeros).map_err(|_| RowError::Damaged)?;
        let replies = Histogram::from_buckets(before.scale, zeros, buckets);
        Ok(Seen { replies, failures, ..Seen::default() })
    }

    fn failures(&mut self) -> Result<BTreeMap<FailureKind, u64>, RowError> {
        let mut there = [false; KINDS.len()];
        for there in &mut there {
            *there = self.bit()?;
        }
        let kinds = KINDS.into_iter().zip(there).filter(|(_, there)| *there);
        kinds.map(|(kind, _)| Ok((kind, self.gamma()?))).collect()
    }

    /// A bucket takes a bit at least of what is there: nothing is set aside for a size that is only told.
    fn buckets(&mut self, codes: Codes, before: &mut Before) -> Result<Vec<Bucket>, RowError> {
        let size = self.coded(codes.sizes)?;
        let mut buckets = Vec::new();
        for nth in 0..size {
            let index = match buckets.last() {
                None => i64::from(before.first).checked_add(unzigzag(self.coded(codes.firsts)?)),
                Some(Bucket { index, .. }) => {
                    let gap = i64::try_from(self.coded(codes.gaps)?).ok();
                    gap.and_then(|gap| gap.checked_add(i64::from(*index) + 1))
                }
            };
            let index = index.and_then(|index| i32::try_from(index).ok()).ok_or(RowError::Damaged)?;
            if nth == 0 {
                before.first = index;
            }
            buckets.push(Bucket { index, count: 0 });
        }
        for bucket in &mut buckets {
            let count = self.coded(codes.counts)?.checked_add(1).and_then(|count| u32::try_from(count).ok());
            bucket.count = count.ok_or(RowError::Damaged)?;
        }
        Ok(buckets)
    }

    fn gamma(&mut self) -> Result<u64, RowError> {
        let bits = self.zeros()?;
        let low = if bits < u64::BITS { self.bits::<u64>(bits)? } else { return Err(RowError::Damaged) };
        Ok((1 << bits) | low)
    }

    fn coded(&mut self, code: u8) -> Result<u64, RowError> {
        if code == GAMMA {
            return Ok(self.gamma()? - 1);
        }
        let zeros = self.zeros()?;
        match zeros {
            0..ESCAPE => Ok((u64::from(zeros) << code) | self.bits::<u64>(u32::from(code))?),
            ESCAPE => Ok(self.gamma()? - 1),
            _ => Err(RowError::Damaged),
        }
    }

    /// How many, up to the next one.
    fn zeros(&mut self) -> Result<u32, RowError> {
        self.0.read_unary::<1>().map_err(|_| RowError::Damaged)
    }

    fn bit(&mut self) -> Result<bool, RowError> {
        self.0.read_bit().map_err(|_| RowError::Damaged)
    }

    fn bits<T: bitstream_io::Integer>(&mut self, bits: u32) -> Result<T, RowError> {
        self.0.read_var(bits).map_err(|_| RowError::Damaged)
    }
}

#[cfg(test)]
mod tests;
