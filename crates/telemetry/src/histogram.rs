//! A sparse exponential histogram of durations, in seconds.
//!
//! Bucket `i` of scale `s` holds values in `(b^i, b^(i+1)]` with `b = 2^(2^-s)`: OpenTelemetry's exponential histogram and
//! Prometheus' native one. Our agents use scale 8, where a value read from a bucket is at most 0.136 % off. Merging adds
//! counts, so a quantile is as good after a thousand merges as after none.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The scale of everything that our agents record.
pub const SCALE: i8 = 8;

/// What our scratch histogram resolves: a nanosecond at the bottom, a minute at the top, three digits between.
const HDR_MAX_NANOS: u64 = 60_000_000_000;
const HDR_DIGITS: u8 = 3;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    scale: i8,
    zeros: u32,
    /// By index, ascending; no count is zero.
    buckets: Vec<Bucket>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    pub index: i32,
    pub count: u32,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { scale: SCALE, zeros: 0, buckets: Vec::new() }
    }
}

impl Histogram {
    /// From buckets of any scale, in ascending order of their index. Scales above ours are brought down to it.
    pub fn from_buckets(scale: i8, zeros: u32, buckets: impl IntoIterator<Item = Bucket>) -> Self {
        let buckets = buckets.into_iter().filter(|bucket| bucket.count > 0).collect();
        let mut histogram = Self { scale, zeros, buckets };
        histogram.lower_to(SCALE.min(scale));
        histogram
    }

    pub fn scale(&self) -> i8 {
        self.scale
    }

    pub fn zeros(&self) -> u32 {
        self.zeros
    }

    pub fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    pub fn is_empty(&self) -> bool {
        self.zeros == 0 && self.buckets.is_empty()
    }

    pub fn count(&self) -> u64 {
        u64::from(self.zeros) + self.buckets.iter().map(|bucket| u64::from(bucket.count)).sum::<u64>()
    }

    /// The same counts in the buckets of a scale that is coarser, or as fine.
    #[must_use]
    pub fn at_scale(&self, scale: i8) -> Self {
        let mut lowered = self.clone();
        lowered.lower_to(scale);
        lowered
    }

    /// Adds another's counts. The coarser of two scales is kept. A bucket stops counting at `u32::MAX`.
    pub fn merge(&mut self, other: &Self) {
        self.zeros = self.zeros.saturating_add(other.zeros);
        if other.buckets.is_empty() {
            return;
        }
        if self.buckets.is_empty() {
            (self.scale, self.buckets) = (other.scale, other.buckets.clone());
            return;
        }
        let scale = self.scale.min(other.scale);
        self.lower_to(scale);
        let mut lowered;
        let other = if other.scale == scale {
            &other.buckets
        } else {
            lowered = other.clone();
            lowered.lower_to(scale);
            &lowered.buckets
        };
        self.buckets = merged(&self.buckets, other);
    }

    /// All of them merged, at once: their buckets are sorted, not copied again for each.
    pub fn total(all: &[&Self]) -> Self {
        let scale = all.iter().filter(|it| !it.buckets.is_empty()).map(|it| it.scale).min().unwrap_or(SCALE);
        let mut buckets: Vec<Bucket> = Vec::with_capacity(all.iter().map(|it| it.buckets.len()).sum());
        for it in all {
            let shift = it.scale.saturating_sub(scale).clamp(0, 31);
            buckets.extend(it.buckets.iter().map(|bucket| Bucket { index: bucket.index >> shift, ..*bucket }));
        }
        buckets.sort_unstable_by_key(|bucket| bucket.index);
        buckets.dedup_by(|next, kept| {
            let same = next.index == kept.index;
            if same {
                kept.count = kept.count.saturating_add(next.count);
            }
            same
        });
        let zeros = all.iter().fold(0, |zeros: u32, it| zeros.saturating_add(it.zeros));
        Self { scale, zeros, buckets }
    }

    /// The value at nearest rank `⌈q · n⌉`, or `None` when there are none.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        let rank = ((q * count as f64).ceil() as u64).clamp(1, count.max(1));
        if rank <= u64::from(self.zeros) {
            return Some(0.0);
        }
        let mut below = u64::from(self.zeros);
        let bucket = self.buckets.iter().find(|bucket| {
            below += u64::from(bucket.count);
            below >= rank
        })?;
        Some(self.value(bucket.index))
    }

    pub fn max(&self) -> Option<f64> {
        self.quantile(1.0)
    }

    /// Of all values.
    pub fn sum(&self) -> f64 {
        self.buckets.iter().map(|bucket| f64::from(bucket.count) * self.value(bucket.index)).sum()
    }

    /// The mean absolute difference of two values drawn from here: what RFC 3550's interarrival jitter tends to when
    /// neighbours are independent. `None` for fewer than two values.
    pub fn mean_difference(&self) -> Option<f64> {
        let count = self.count() as f64;
        if count < 2.0 {
            return None;
        }
        // With values in ascending order, Σ|x_i − x_j| over ordered pairs = 2 Σ x_k (values below − values above).
        let mut below = f64::from(self.zeros);
        let mut sum = 0.0;
        for bucket in &self.buckets {
            let here = f64::from(bucket.count);
            let above = count - below - here;
            sum += 2.0 * self.value(bucket.index) * here * (below - above);
            below += here;
        }
        Some((sum / (count * (count - 1.0))).max(0.0))
    }

    /// The value that stands for a bucket: the one whose relative distance to both bounds is the same.
    fn value(&self, index: i32) -> f64 {
        let width = (-f64::from(self.scale)).exp2();
        let low = (f64::from(index) * width).exp2();
        let high = (f64::from(index + 1) * width).exp2();
        2.0 * low * high / (low + high)
    }

    fn lower_to(&mut self, scale: i8) {
        let shift = u32::from(self.scale.saturating_sub(scale).unsigned_abs());
        if self.scale <= scale {
            return;
        }
        self.scale = scale;
        let mut lowered: Vec<Bucket> = Vec::with_capacity(self.buckets.len());
        for bucket in &self.buckets {
            let index = bucket.index >> shift.min(31);
            match lowered.last_mut() {
                Some(last) if last.index == index => last.count = last.count.saturating_add(bucket.count),
                _ => lowered.push(Bucket { index, count: bucket.count }),
            }
        }
        self.buckets = lowered;
    }
}

fn merged(left: &[Bucket], right: &[Bucket]) -> Vec<Bucket> {
    let mut merged = Vec::with_capacity(left.len().max(right.len()) + 4);
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    loop {
        let take_left = match (left.peek(), right.peek()) {
            (Some(a), Some(b)) if a.index == b.index => {
                merged.push(Bucket { index: a.index, count: a.count.saturating_add(b.count) });
                left.next();
                right.next();
                continue;
            }
            (Some(a), Some(b)) => a.index < b.index,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return merged,
        };
        merged.extend(if take_left { left.next() } else { right.next() });
    }
}

/// The one dense histogram that a thread needs: a window's samples pass through it when the window closes.
#[derive(Debug)]
pub struct Scratch(hdrhistogram::Histogram<u32>);

impl Default for Scratch {
    fn default() -> Self {
        let hdr = hdrhistogram::Histogram::new_with_bounds(1, HDR_MAX_NANOS, HDR_DIGITS);
        Self(hdr.expect("the bounds are constants that the library takes"))
    }
}

impl Scratch {
    /// Samples above a minute count as a minute.
    pub fn fold(&mut self, samples: impl IntoIterator<Item = Duration>) -> Histogram {
        self.0.reset();
        for sample in samples {
            self.0.saturating_record(crate::time::nanos(sample));
        }
        from_hdr(&self.0)
    }
}

/// HDR → exponential at scale 8, through the midpoint of each HDR bucket.
pub fn from_hdr(hdr: &hdrhistogram::Histogram<u32>) -> Histogram {
    let mut histogram = Histogram::default();
    for step in hdr.iter_recorded() {
        let nanos = hdr.median_equivalent(step.value_iterated_to());
        let count = step.count_at_value();
        if nanos == 0 {
            histogram.zeros = histogram.zeros.saturating_add(count);
            continue;
        }
        let index = index_at_our_scale(nanos as f64 / 1e9);
        match histogram.buckets.last_mut() {
            Some(last) if last.index == index => last.count = last.count.saturating_add(count),
            _ => histogram.buckets.push(Bucket { index, count }),
        }
    }
    histogram
}

/// And back, for tools that read HDR.
pub fn to_hdr(histogram: &Histogram) -> hdrhistogram::Histogram<u32> {
    let Scratch(mut hdr) = Scratch::default();
    hdr.saturating_record_n(0, histogram.zeros);
    for bucket in &histogram.buckets {
        let nanos = (histogram.value(bucket.index) * 1e9).round() as u64;
        hdr.saturating_record_n(nanos, bucket.count);
    }
    hdr
}

fn index_at_our_scale(seconds: f64) -> i32 {
    (seconds.log2() * f64::from(SCALE).exp2()).ceil() as i32 - 1
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// 1 µs to 60 s, even over magnitudes.
    fn a_sample() -> impl Strategy<Value = u64> {
        (3.0..10.778_f64).prop_map(|exponent| 10f64.powf(exponent) as u64)
    }

    fn fold(samples: &[u64]) -> Histogram {
        Scratch::default().fold(samples.iter().map(|&nanos| Duration::from_nanos(nanos)))
    }

    fn exact_quantile(samples: &[u64], q: f64) -> f64 {
        let mut sorted = samples.to_vec();
        sorted.sort_unstable();
        let rank = ((q * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len());
        sorted[rank - 1] as f64 / 1e9
    }

    fn assert_near(measured: f64, exact: f64, tolerance: f64) {
        assert!((measured / exact - 1.0).abs() <= tolerance, "{measured} against {exact}");
    }

    const QUANTILES: [f64; 7] = [0.0, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0];

    proptest! {
        #[test]
        fn a_quantile_is_within_a_quarter_percent_of_the_exact_one_at_any_merge_depth(
            windows in vec(vec(a_sample(), 1..40), 1..20),
        ) {
            let mut merged = Histogram::default();
            for window in &windows {
                merged.merge(&fold(window));
            }
            let samples = windows.concat();
            prop_assert_eq!(merged.count(), samples.len() as u64);
            for q in QUANTILES {
                assert_near(merged.quantile(q).unwrap(), exact_quantile(&samples, q), 0.0025);
            }
        }

        #[test]
        fn a_total_is_what_merging_one_after_the_other_gives(
            parts in vec((-2..=SCALE, 0..3_u32, vec((-50..50, 0..3_u32), 0..8)), 0..8),
        ) {
            let parts: Vec<_> = parts.into_iter().map(|(scale, zeros, buckets)| {
                let buckets: std::collections::BTreeMap<_, _> = buckets.into_iter().collect();
                Histogram::from_buckets(scale, zeros, buckets.into_iter().map(|(index, count)| Bucket { index, count }))
            }).collect();
            let mut merged = Histogram::default();
            for part in &parts {
                merged.merge(part);
            }
            prop_assert_eq!(Histogram::total(&parts.iter().collect::<Vec<_>>()), merged);
        }

        #[test]
        fn a_way_through_hdr_and_back_stays_within_a_quarter_percent(samples in vec(a_sample(), 1..60)) {
            let there = fold(&samples);
            let back = from_hdr(&to_hdr(&there));
            prop_assert_eq!(back.count(), there.count());
            for q in QUANTILES {
                assert_near(back.quantile(q).unwrap(), exact_quantile(&samples, q), 0.0025 + 0.002);
            }
        }

        #[test]
        fn merging_is_the_same_in_any_order(
            a in vec(a_sample(), 0..20), b in vec(a_sample(), 0..20), scales in (-2..12_i8, -2..12_i8),
        ) {
            let [left, right] = [(a, scales.0), (b, scales.1)]
                .map(|(samples, scale)| Histogram::from_buckets(scale, 1, fold(&samples).buckets));
            let (mut ab, mut ba) = (left.clone(), right.clone());
            ab.merge(&right);
            ba.merge(&left);
            prop_assert_eq!(ab.count(), left.count() + right.count());
            prop_assert_eq!(ab.buckets, ba.buckets);
        }

        #[test]
        fn the_mean_difference_is_that_of_all_pairs(samples in vec(a_sample(), 2..40)) {
            let pairs = samples.iter().flat_map(|a| samples.iter().map(move |b| a.abs_diff(*b) as f64 / 1e9));
            let exact = pairs.sum::<f64>() / (samples.len() * (samples.len() - 1)) as f64;
            let measured = fold(&samples).mean_difference().unwrap();
            let largest = *samples.iter().max().unwrap() as f64 / 1e9;
            prop_assert!((measured - exact).abs() <= 0.005 * largest, "{} against {}", measured, exact);
        }
    }

    #[test]
    fn a_quantile_of_nothing_is_none() {
        assert_eq!(Histogram::default().quantile(0.5), None);
        assert_eq!(Histogram::default().max(), None);
        assert_eq!(Histogram::default().mean_difference(), None);
    }

    #[test]
    fn a_finer_foreign_scale_is_brought_down_to_ours() {
        let fine = Histogram::from_buckets(10, 0, [Bucket { index: -5, count: 2 }, Bucket { index: -4, count: 3 }]);
        assert_eq!(fine.scale(), SCALE);
        assert_eq!(fine.buckets(), [Bucket { index: -2, count: 2 }, Bucket { index: -1, count: 3 }]);
    }

    #[test]
    fn a_coarser_foreign_scale_keeps_its_own_error() {
        let mut coarse = Histogram::from_buckets(3, 0, [Bucket { index: -30, count: 1 }]);
        coarse.merge(&fold(&[80_000_000]));
        assert_eq!((coarse.scale(), coarse.count()), (3, 2));
    }
}
