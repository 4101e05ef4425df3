//! `OpenMetrics` text, version 1.0: what was measured as classic histograms and counters, with times, as a scrape at the end of each
//! window would have seen them had it begun with the range.
//!
//! Bounds are the same for all, so that they add up over series: half octaves from 2⁻¹⁴ s (61 µs) to 2⁶ s, where the buckets of
//! our own histograms end too. A family is written as a whole before the next, a series within it in order of time, as the format asks.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;

use telemetry::{FailureKind, Histogram, Series, Standing, Wall};

use super::{Extract, ExtractError};
use crate::history::History;
use crate::rings::Seen;

const DURATION: &str = "isochrone_probe_duration_seconds";
const FAILURES: &str = "isochrone_probe_failures";
/// Half octaves of a second: the first bound and the last.
const FIRST: i64 = -28;
const LAST: i64 = 12;
const BOUNDS: usize = (LAST - FIRST + 1) as usize;

pub(super) fn write(extract: &Extract, history: &History, out: &mut impl Write) -> Result<(), ExtractError> {
    durations(extract, history, out)?;
    failures(extract, history, out)?;
    Ok(writeln!(out, "# EOF")?)
}

fn durations(extract: &Extract, history: &History, out: &mut impl Write) -> Result<(), ExtractError> {
    writeln!(out, "# HELP {DURATION} How long probes took that got what they went for.")?;
    writeln!(out, "# TYPE {DURATION} histogram")?;
    writeln!(out, "# UNIT {DURATION} seconds")?;
    let bounds: Vec<_> = (FIRST..=LAST).map(le).collect();
    let mut of = Of::<Total>::default();
    history.walk(&extract.range, extract.tier, |series, windows| {
        of.follow(series, |_, _| Ok(()))?;
        for (begin, seen) in windows {
            for moment in of.moments(begin, begin + extract.width()) {
                if moment > begin {
                    of.total.add(&seen.replies);
                }
                of.total.write(out, (&of.labels, &bounds), moment)?;
            }
        }
        Ok(())
    })
}

/// A reason is a metric of its own, all of whose points come before the next one's: those of a series wait for its end.
fn failures(extract: &Extract, history: &History, out: &mut impl Write) -> Result<(), ExtractError> {
    writeln!(out, "# HELP {FAILURES} Probes that did not, by why.")?;
    writeln!(out, "# TYPE {FAILURES} counter")?;
    let mut of = Of::<Vec<(Wall, Failed)>>::default();
    let mut tell = |labels: &str, points: &Vec<(Wall, Failed)>| {
        let kinds: BTreeSet<_> = points.iter().flat_map(|(_, failed)| failed.keys()).collect();
        for kind in kinds {
            let (error, mut total) = (kind.as_str(), 0);
            for (moment, failed) in points {
                total += failed.get(kind).copied().unwrap_or_default();
                let time = seconds(*moment);
                writeln!(out, "{FAILURES}_total{{{labels},error=\"{error}\"}} {total} {time}")?;
            }
        }
        Ok(())
    };
    history.walk(&extract.range, extract.tier, |series, windows| {
        of.follow(series, &mut tell)?;
        for (begin, Seen { failures, .. }) in windows {
            for moment in of.moments(begin, begin + extract.width()) {
                let failed = if moment > begin { failures.clone() } else { Failed::new() };
                of.total.push((moment, failed));
            }
        }
        Ok::<_, ExtractError>(())
    })?;
    tell(&of.labels, &of.total)
}

type Failed = BTreeMap<FailureKind, u64>;

/// Where one series stands.
#[derive(Default)]
struct Of<T> {
    series: Option<Arc<Series>>,
    labels: String,
    /// Until when it was told.
    until: Wall,
    total: T,
}

impl<T: Default> Of<T> {
    /// Begins anew with another series, once the one before is told.
    fn follow(
        &mut self,
        series: &Arc<Series>,
        tell: impl FnOnce(&str, &T) -> Result<(), ExtractError>,
    ) -> Result<(), ExtractError> {
        if self.series.as_ref() != Some(series) {
            tell(&self.labels, &self.total)?;
            *self = Self { series: Some(Arc::clone(series)), labels: labels(series), ..Self::default() };
        }
        Ok(())
    }

    /// When a window is told: at its end; and where nothing was measured before it, at its begin too, so that what it counts is not taken
    /// for something that came in between.
    fn moments(&mut self, begin: Wall, end: Wall) -> impl Iterator<Item = Wall> + use<T> {
        let gap = begin > self.until;
        self.until = end;
        gap.then_some(begin).into_iter().chain([end])
    }
}

/// All replies since the range began.
#[derive(Default)]
struct Total {
    /// By bound, not added up.
    counts: Vec<u64>,
    count: u64,
    sum: f64,
}

impl Total {
    fn add(&mut self, replies: &Histogram) {
        self.counts.resize(BOUNDS, 0);
        let coarse = replies.at_scale(1);
        self.counts[0] += u64::from(coarse.zeros());
        for bucket in coarse.buckets() {
            // Its upper bound, which is a whole number of half octaves at this scale and at all that are coarser.
            let upper = (i64::from(bucket.index) + 1) << (1 - i32::from(coarse.scale()));
            let place = usize::try_from(upper.max(FIRST) - FIRST).unwrap_or_default();
            if let Some(count) = self.counts.get_mut(place) {
                *count += u64::from(bucket.count);
            }
        }
        self.count += replies.count();
        self.sum += replies.sum();
    }

    fn write(&self, out: &mut impl Write, (labels, bounds): (&str, &[String]), moment: Wall) -> std::io::Result<()> {
        let (mut below, time) = (0, seconds(moment));
        for (place, le) in bounds.iter().enumerate() {
            below += self.counts.get(place).copied().unwrap_or_default();
            writeln!(out, "{DURATION}_bucket{{{labels},le=\"{le}\"}} {below} {time}")?;
        }
        let Self { count, sum, .. } = self;
        writeln!(out, "{DURATION}_bucket{{{labels},le=\"+Inf\"}} {count} {time}")?;
        writeln!(out, "{DURATION}_count{{{labels}}} {count} {time}")?;
        writeln!(out, "{DURATION}_sum{{{labels}}} {sum} {time}")
    }
}

/// As `/metrics` calls them, with who measured, and what its samples may be used for. Names and labels need no escapes.
fn labels(series: &Series) -> String {
    let Series { agent, source, target, region, service, probe, phase, family, standing, labels } = series;
    let standing = match standing {
        Standing::Regular => "regular",
        Standing::Confirming => "confirming",
        Standing::Suspect => "suspect",
    };
    let mut text = format!(
        "source=\"{source}\",target=\"{target}\",service=\"{service}\",region=\"{region}\",probe=\"{probe}\",\
         family=\"{}\",phase=\"{phase}\",agent=\"{agent}\",standing=\"{standing}\"",
        family.as_str(),
    );
    text.extend(labels.iter().map(|(label, value)| format!(",{}=\"{value}\"", label.as_str())));
    text
}

/// A bound in seconds, to six digits, of which none depends on the machine.
fn le(half_octaves: i64) -> String {
    let exact = (half_octaves as f64 / 2.0).exp2();
    let rounded: f64 = format!("{exact:.5e}").parse().unwrap_or(exact);
    format!("{rounded:?}")
}

fn seconds(moment: Wall) -> String {
    let millis = moment.0 / 1_000_000;
    format!("{}.{:03}", millis / 1000, millis % 1000)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use telemetry::histogram::Scratch;

    use super::*;

    fn below(total: &Total, seconds: f64) -> u64 {
        let bounds = (FIRST..=LAST).filter(|bound| le(*bound).parse::<f64>().unwrap() <= seconds);
        total.counts.iter().take(bounds.count()).sum()
    }

    #[test]
    fn every_reply_is_below_the_bounds_above_it_whatever_the_scale() {
        let replies = Scratch::default().fold([1, 40, 40, 900, 59_000].map(Duration::from_millis));
        for scale in [8, 3, 1, 0] {
            let mut total = Total::default();
            total.add(&replies.at_scale(scale));
            let counts = [0.000_4, 0.002, 0.03, 0.07, 0.5, 1.1, 70.0].map(|seconds| below(&total, seconds));
            assert_eq!(counts, [0, 1, 1, 3, 3, 4, 5], "scale {scale}");
        }
    }

    #[test]
    fn what_is_longer_than_any_bound_is_in_the_count_alone() {
        let mut total = Total::default();
        total.add(&Histogram::from_buckets(8, 1, [telemetry::histogram::Bucket { index: 256 * 7, count: 2 }]));
        assert_eq!((below(&total, 100.0), total.count), (1, 3));
    }
}
