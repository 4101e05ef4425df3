//! The replies of one phase, by value: what is alike is counted, so that memory grows with their spread and not with time.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Serialize, Serializer};

#[derive(Debug, Clone, Default)]
pub(super) struct Samples {
    of: BTreeMap<Duration, u64>,
    count: u64,
    last: Option<Duration>,
}

/// Quantiles by nearest rank, exact to the microsecond.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Spread {
    pub(super) count: u64,
    #[serde(rename = "min_ms", serialize_with = "millis")]
    pub(super) min: Duration,
    #[serde(rename = "p50_ms", serialize_with = "millis")]
    pub(super) p50: Duration,
    #[serde(rename = "p95_ms", serialize_with = "millis")]
    pub(super) p95: Duration,
    #[serde(rename = "p99_ms", serialize_with = "millis")]
    pub(super) p99: Duration,
    #[serde(rename = "max_ms", serialize_with = "millis")]
    pub(super) max: Duration,
}

impl Samples {
    pub(super) fn push(&mut self, sample: Duration) {
        *self.of.entry(grained(sample)).or_default() += 1;
        self.count += 1;
        self.last = Some(sample);
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn last(&self) -> Option<Duration> {
        self.last
    }

    /// From the shortest, each with how often it came.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Duration, u64)> {
        self.of.iter().map(|(sample, count)| (*sample, *count))
    }

    /// `None`: there are none.
    pub(super) fn quantile(&self, q: f64) -> Option<Duration> {
        let rank = ((q * self.count as f64).ceil() as u64).max(1);
        let mut passed = 0;
        let reached = self.iter().find(|(_, count)| {
            passed += count;
            passed >= rank
        });
        reached.map(|(sample, _)| sample)
    }

    pub(super) fn spread(&self) -> Option<Spread> {
        let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|q| self.quantile(q));
        let (min, max) = (self.of.first_key_value()?.0, self.of.last_key_value()?.0);
        Some(Spread { count: self.count, min: *min, p50: p50?, p95: p95?, p99: p99?, max: *max })
    }
}

/// Half a microsecond is a whole number of grains, so what is rounded to a microsecond after this comes out the same.
fn grained(sample: Duration) -> Duration {
    let grain = if sample < Duration::from_millis(1) { 10 } else { 500 };
    Duration::new(sample.as_secs(), sample.subsec_nanos() / grain * grain)
}

/// In milliseconds, to the microsecond.
pub(super) fn rounded(duration: Duration) -> f64 {
    (telemetry::time::nanos(duration).saturating_add(500) / 1000) as f64 / 1e3
}

fn millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(rounded(*duration))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn samples(of: &[u64]) -> Samples {
        let mut samples = Samples::default();
        for &nanos in of {
            samples.push(Duration::from_nanos(nanos));
        }
        samples
    }

    proptest! {
        #[test]
        fn a_quantile_is_that_of_the_sorted_samples_to_the_microsecond(
            nanos in prop::collection::vec(prop_oneof![0_u64..2_000_000, 0_u64..60_000_000_000], 1..200), q in 0.0..=1.0_f64,
        ) {
            let mut sorted = nanos.clone();
            sorted.sort_unstable();
            let rank = ((q * sorted.len() as f64).ceil() as usize).max(1);
            let exact = Duration::from_nanos(sorted[rank - 1]);
            let micros = |duration: Duration| (duration.as_nanos() + 500) / 1000;
            prop_assert_eq!(micros(samples(&nanos).quantile(q).unwrap()), micros(exact));
        }
    }

    #[test]
    fn of_nothing_there_is_no_quantile_and_of_one_all_are_it() {
        assert!(samples(&[]).spread().is_none());
        let Spread { count, min, p50, p95, p99, max } = samples(&[7_000_000]).spread().unwrap();
        assert_eq!((count, [min, p50, p95, p99, max]), (1, [Duration::from_millis(7); 5]));
    }

    #[test]
    fn a_long_run_of_like_replies_takes_no_more_room_than_they_spread() {
        let mut samples = Samples::default();
        (0..100_000).for_each(|turn| samples.push(Duration::from_nanos(20_000_000 + turn % 100_000)));
        assert_eq!((samples.count(), samples.of.len()), (100_000, 200));
    }
}
