//! Writes rows.

use std::io;

use bitstream_io::{BigEndian, BitWrite as _, BitWriter};
use telemetry::Wall;

use super::{Before, Codes, ESCAPE, GAMMA, GROUP, KINDS, VERSION, Windows, nanos, zigzag};
use crate::rings::Seen;

type Out = BitWriter<Vec<u8>, BigEndian>;

/// `windows` begin at or after `base`.
pub(in super::super) fn encode(base: Wall, windows: &Windows) -> Vec<u8> {
    write(base, windows).expect("memory takes every bit")
}

fn write(base: Wall, windows: &Windows) -> io::Result<Vec<u8>> {
    let millis: Vec<_> = windows.keys().map(|begin| (begin.0 - base.0) / nanos()).collect();
    let unit = millis.iter().copied().fold(0, greatest_common_divisor).max(1);
    let windows: Vec<_> = millis.into_iter().map(|millis| millis / unit).zip(windows.values()).collect();
    let mut out = BitWriter::endian(vec![VERSION], BigEndian);
    gamma(&mut out, windows.len() as u64 + 1)?;
    gamma(&mut out, unit)?;
    let codes = Numbers::of(windows.iter().map(|(_, seen)| *seen)).codes();
    for code in [codes.sizes, codes.firsts, codes.gaps, codes.counts] {
        out.write_var(4, code)?;
    }
    let (mut before, mut told, mut last) = (Before::default(), Before::default(), None);
    let mut groups = Vec::new();
    for (number, group) in windows.chunks(GROUP).enumerate() {
        let (begin, _) = group[0];
        gamma(&mut out, last.map_or(begin + 1, |last| begin - last))?;
        write_before(&mut out, codes, told, before)?;
        (last, told) = (Some(begin), before);
        let group = write_group(group, codes, &mut before)?;
        if (number + 1) * GROUP < windows.len() {
            gamma(&mut out, group.len() as u64 + 1)?;
        }
        groups.push(group);
    }
    out.byte_align()?;
    Ok([out.into_writer(), groups.concat()].concat())
}

fn write_before(out: &mut Out, codes: Codes, told: Before, before: Before) -> io::Result<()> {
    out.write_bit(told.scale == before.scale)?;
    if told.scale != before.scale {
        out.write_var(8, before.scale.cast_unsigned())?;
    }
    coded(out, codes.firsts, zigzag(i64::from(before.first) - i64::from(told.first)))
}

fn write_group(group: &[(u64, &Seen)], codes: Codes, before: &mut Before) -> io::Result<Vec<u8>> {
    let (mut out, mut last) = (BitWriter::endian(Vec::new(), BigEndian), None);
    for (begin, seen) in group {
        if let Some(last) = last {
            gamma(&mut out, begin - last)?;
        }
        last = Some(begin);
        write_window(&mut out, seen, codes, before)?;
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

/// The numbers of a row, by what codes them.
#[derive(Default)]
struct Numbers {
    sizes: Vec<u64>,
    firsts: Vec<u64>,
    gaps: Vec<u64>,
    counts: Vec<u64>,
}

impl Numbers {
    fn of<'a>(windows: impl Iterator<Item = &'a Seen>) -> Self {
        let (mut numbers, mut before) = (Self::default(), 0);
        for seen in windows {
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

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}
