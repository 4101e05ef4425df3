//! Reads rows, and what may be anything.

use std::collections::BTreeMap;
use std::ops::Range;

use bitstream_io::{BigEndian, BitRead as _, BitReader};
use telemetry::histogram::{Bucket, SCALE};
use telemetry::{FailureKind, Histogram, Wall};

use super::{Before, Codes, ESCAPE, GAMMA, GROUP, KINDS, RowError, VERSION, nanos, unzigzag};
use crate::rings::Seen;

/// Tells each window of the row that begins in this range. What was told before a fault was in the row.
pub(in super::super) fn decode(
    base: Wall,
    row: &[u8],
    range: &Range<Wall>,
    mut tell: impl FnMut(Wall, Seen),
) -> Result<(), RowError> {
    let Some((&VERSION, bits)) = row.split_first() else { return Err(RowError::Version(row.first().copied())) };
    let mut bits = Bits(BitReader::endian(bits, BigEndian));
    let (count, unit) = (bits.gamma()? - 1, bits.gamma()?.checked_mul(nanos()).ok_or(RowError::Damaged)?);
    let codes = Codes { sizes: bits.code()?, firsts: bits.code()?, gaps: bits.code()?, counts: bits.code()? };
    let groups = bits.groups(base, (count, unit), codes)?;
    let mut rest = bits.rest();
    for (number, group) in groups.iter().enumerate() {
        let bytes = group.bytes.unwrap_or(rest.len());
        let (bits, behind) = rest.split_at_checked(bytes).ok_or(RowError::Damaged)?;
        rest = behind;
        let ends = groups.get(number + 1).map_or(u64::MAX, |next| next.begin);
        if ends <= range.start.0 || group.begin >= range.end.0 {
            continue;
        }
        let (mut begin, mut before) = (group.begin, group.before);
        let mut bits = Bits(BitReader::endian(bits, BigEndian));
        for window in 0..group.windows {
            if window > 0 {
                begin = bits.later(begin, unit)?;
            }
            let seen = bits.window(codes, &mut before)?;
            if range.contains(&Wall(begin)) {
                tell(Wall(begin), seen);
            }
        }
    }
    Ok(())
}

/// Where it begins, and by what its first window is told.
struct Group {
    begin: u64,
    windows: u64,
    before: Before,
    /// Of the last one: the rest.
    bytes: Option<usize>,
}

/// Reads what may be anything.
struct Bits<'a>(BitReader<&'a [u8], BigEndian>);

impl<'a> Bits<'a> {
    /// Each takes bits of what is there: nothing is set aside for a number that is only told.
    fn groups(&mut self, base: Wall, (count, unit): (u64, u64), codes: Codes) -> Result<Vec<Group>, RowError> {
        let (mut groups, mut left) = (Vec::new(), count);
        let (mut begin, mut before) = (base.0, Before::default());
        while left > 0 {
            let windows = left.min(GROUP as u64);
            left -= windows;
            let units = self.gamma()? - u64::from(groups.is_empty());
            begin = later(begin, units, unit)?;
            if !self.bit()? {
                before.scale = self.bits::<u8>(8)?.cast_signed();
            }
            before.first = self.beside(before.first, codes.firsts)?;
            let bytes =
                if left > 0 { Some(usize::try_from(self.gamma()? - 1).map_err(|_| RowError::Damaged)?) } else { None };
            groups.push(Group { begin, windows, before, bytes });
        }
        Ok(groups)
    }

    /// What follows on the next whole byte.
    fn rest(mut self) -> &'a [u8] {
        self.0.byte_align();
        self.0.into_reader()
    }

    fn later(&mut self, begin: u64, unit: u64) -> Result<u64, RowError> {
        later(begin, self.gamma()?, unit)
    }

    /// An index, told by another.
    fn beside(&mut self, index: i32, code: u8) -> Result<i32, RowError> {
        let index = i64::from(index).checked_add(unzigzag(self.coded(code)?));
        index.and_then(|index| i32::try_from(index).ok()).ok_or(RowError::Damaged)
    }

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
                None => self.beside(before.first, codes.firsts)?,
                Some(Bucket { index, .. }) => {
                    let gap = i64::try_from(self.coded(codes.gaps)?).ok();
                    let index = gap.and_then(|gap| gap.checked_add(i64::from(*index) + 1));
                    index.and_then(|index| i32::try_from(index).ok()).ok_or(RowError::Damaged)?
                }
            };
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

fn later(begin: u64, units: u64, unit: u64) -> Result<u64, RowError> {
    units.checked_mul(unit).and_then(|since| begin.checked_add(since)).ok_or(RowError::Damaged)
}
