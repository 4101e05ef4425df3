//! Samples drawn for people: a row for each range, ranges in equal ratios. Where a tail is much longer than what it hangs on,
//! it has wider rows of its own, so that the shape of neither is lost. A row begins at exactly the time that it names and ends
//! before the next.

use std::fmt::Write as _;
use std::time::Duration;

use super::samples::{Samples, Spread};

const MOST_ROWS: usize = 12;
/// Of them, where a tail has some of its own.
const TAIL_ROWS: usize = 4;
/// A tail hangs above the first of these under which there is less than a third of all that is drawn, by ratio.
const TAIL_ABOVE: [f64; 3] = [0.95, 0.9, 0.75];
/// The longest bar, in columns.
const LONGEST_BAR: usize = 40;
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
/// What stands left of a bar: the time, and a line.
const LEFT: usize = 12;
/// And right of it: the count, and the share of all up to here.
const COUNT: usize = 8;
const SHARE: usize = 9;
const MARKS: usize = 13;

#[derive(Debug)]
struct Rows {
    all: Vec<Row>,
    /// Where the tail's wider rows begin, in nanoseconds.
    tail: Option<u64>,
    /// That the times need in milliseconds.
    decimals: usize,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    /// In nanoseconds.
    from: u64,
    count: u64,
}

/// `None`: there are no samples, or one, which has no shape.
pub(super) fn draw(phase: &str, samples: &Samples, columns: usize) -> Option<String> {
    let spread = samples.spread().filter(|spread| spread.count > 1)?;
    let Rows { all, tail, decimals } = rows(samples, &spread);
    let most = all.iter().map(|row| row.count).max()?;
    let roomy = columns >= LEFT + COUNT + SHARE + MARKS + 8;
    let right = if roomy { COUNT + SHARE + MARKS } else { COUNT };
    let longest = columns.saturating_sub(LEFT + right + 1).clamp(1, LONGEST_BAR);
    let key = if tail.is_some() && roomy { ", ┊ in wider rows" } else { "" };
    let (mut text, mut passed) = (format!("{:>10}   {phase}{key}\n", "from ms"), 0);
    for (place, Row { from, count }) in all.iter().enumerate() {
        let until = all.get(place + 1).map_or(u64::MAX, |next| next.from);
        let line = if tail.is_some_and(|tail| *from >= tail) { '┊' } else { '│' };
        passed += count;
        let from_ms = *from as f64 / 1e6;
        write!(text, "{from_ms:>10.decimals$} {line}{}{count:>COUNT$}", bar(*count, most, longest)).ok()?;
        if roomy {
            let share = passed as f64 * 100.0 / samples.count() as f64;
            write!(text, "{share:>7.1} %{}", marks(&spread, *from..until)).ok()?;
        }
        text.push('\n');
    }
    Some(text)
}

fn rows(samples: &Samples, spread: &Spread) -> Rows {
    let [min, max] = [spread.min, spread.max].map(|it| nanos(it).max(1));
    let wanted = ((2.0 * (samples.count() as f64).sqrt()).ceil() as usize).clamp(1, MOST_ROWS);
    let is_short = |end: &u64| 3.0 * ratio(min, *end).ln() < ratio(min, max).ln();
    let mut ends = TAIL_ABOVE.iter().filter_map(|q| samples.quantile(*q)).map(|end| nanos(end).max(1));
    let end = ends.find(is_short);
    let body_rows = end.map_or(wanted, |_| wanted.saturating_sub(TAIL_ROWS).max(1));
    let body = end.unwrap_or(max);
    let grain = grain(min as f64 * (ratio(min, body).powf(1.0 / body_rows as f64) - 1.0));
    let tail = end.map(|end| (end / grain + 1) * grain);
    let mut bounds: Vec<_> = ladder(min / grain * grain, body, body_rows, grain).collect();
    bounds.extend(tail.into_iter().flat_map(|tail| ladder(tail, max, TAIL_ROWS, grain)));
    bounds.dedup();
    bounds.retain(|bound| *bound <= max);
    let mut all: Vec<_> = bounds.into_iter().map(|from| Row { from, count: 0 }).collect();
    for (sample, count) in samples.iter() {
        let after = all.partition_point(|row| row.from <= nanos(sample));
        all[after.max(1) - 1].count += count;
    }
    Rows { all, tail: tail.filter(|tail| *tail <= max), decimals: 6 - grain.ilog10() as usize }
}

/// Where rows begin, from `from` on and in equal ratios up to `to`; to the grain.
fn ladder(from: u64, to: u64, rows: usize, grain: u64) -> impl Iterator<Item = u64> {
    let (low, ratio) = (from.max(1), ratio(from, to));
    let at = move |row: usize| low as f64 * ratio.powf(row as f64 / rows as f64);
    std::iter::once(from).chain((1..rows).map(move |row| ((at(row) / grain as f64).round() as u64 * grain).max(from)))
}

/// In nanoseconds: two digits of the narrowest row, no finer than the samples are and no coarser than a millisecond.
fn grain(narrowest: f64) -> u64 {
    let digits = if narrowest < 1.0 { 0 } else { narrowest.log10().floor() as u32 };
    10_u64.pow(digits.saturating_sub(1).clamp(1, 6))
}

fn ratio(from: u64, to: u64) -> f64 {
    to.max(1) as f64 / from.max(1) as f64
}

/// As long as `count` is of `most`, to an eighth of a column; what is there at all is seen.
fn bar(count: u64, most: u64, longest: usize) -> String {
    let whole = longest as u64 * 8;
    let eighths = (count * whole).div_ceil(most.max(1)) as usize;
    let drawn = "█".repeat(eighths / 8) + EIGHTHS[eighths % 8];
    format!("{drawn:<longest$}")
}

/// The quantiles that lie in a row.
fn marks(spread: &Spread, row: std::ops::Range<u64>) -> String {
    let quantiles = [("p50", spread.p50), ("p95", spread.p95), ("p99", spread.p99)];
    let here = quantiles.iter().filter(|(_, at)| row.contains(&nanos(*at)));
    here.flat_map(|(name, _)| [" ", name]).collect()
}

fn nanos(duration: Duration) -> u64 {
    telemetry::time::nanos(duration)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn samples(micros: impl IntoIterator<Item = u64>) -> Samples {
        let mut samples = Samples::default();
        micros.into_iter().for_each(|micros| samples.push(Duration::from_micros(micros)));
        samples
    }

    fn drawn(micros: impl IntoIterator<Item = u64>, columns: usize) -> String {
        draw("rtt", &samples(micros), columns).unwrap()
    }

    #[test]
    fn a_body_and_its_long_tail_are_both_seen() {
        let body = (0..180).map(|turn| 20_000 + (turn * turn) % 7_000);
        let tail = [31_000, 44_000, 58_000, 90_000, 130_000, 700_000];
        insta::assert_snapshot!(drawn(body.chain(tail), 80));
    }

    #[test]
    fn replies_that_differ_by_microseconds_are_told_apart() {
        insta::assert_snapshot!(drawn((0..50).map(|turn| 31 + turn % 17), 80));
    }

    #[test]
    fn replies_all_alike_are_one_row() {
        insta::assert_snapshot!(drawn([57; 9], 70));
    }

    #[test]
    fn a_narrow_terminal_gets_bars_and_counts_alone() {
        insta::assert_snapshot!(drawn([900, 1000, 1000, 1100, 2000], 34));
    }

    #[test]
    fn nothing_and_a_single_reply_have_no_shape() {
        assert_eq!(draw("rtt", &samples([]), 80), None);
        assert_eq!(draw("rtt", &samples([57]), 80), None);
    }

    #[test]
    fn two_stragglers_among_thirty_do_not_press_the_others_into_one_row() {
        let most = (0..28).map(|turn| 130 + (turn * 7) % 30);
        insta::assert_snapshot!(drawn(most.chain([3369, 3701]), 80));
    }

    proptest! {
        #[test]
        fn every_sample_stands_in_the_row_that_begins_at_or_before_it(
            nanos in prop::collection::vec(prop_oneof![0_u64..100_000, 0_u64..60_000_000_000, Just(5_000_000)], 1..120),
        ) {
            let mut samples = Samples::default();
            for &nanos in &nanos {
                samples.push(Duration::from_nanos(nanos));
            }
            let rows = rows(&samples, &samples.spread().unwrap()).all;
            prop_assert!((1..=MOST_ROWS).contains(&rows.len()));
            for (place, row) in rows.iter().enumerate() {
                let until = rows.get(place + 1).map_or(u64::MAX, |next| next.from);
                prop_assert!(row.from < until, "rows ascend");
                let inside = samples.iter().filter(|(at, _)| (row.from..until).contains(&super::nanos(*at)));
                prop_assert_eq!(row.count, inside.map(|(_, count)| count).sum::<u64>());
            }
            prop_assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), nanos.len() as u64);
        }

        #[test]
        fn no_row_is_wider_than_the_terminal(
            millis in prop::collection::vec(0_u64..60_000, 2..60), columns in 24_usize..200,
        ) {
            let text = drawn(millis.into_iter().map(|millis| millis * 1000), columns);
            prop_assert!(text.lines().all(|line| line.chars().count() <= columns), "{}", text);
        }
    }
}
