//! What tests and benches of every crate begin from. A feature for it would compile this crate twice, for tests and for binaries.

use crate::histogram::{Bucket, SCALE};
use crate::{Family, Histogram, Labels, Name, Series, Standing};

/// The voice ping of `fra-1`, in fra, to `iad-voice-1`.
pub fn series() -> Series {
    let name = |text: &str| text.parse::<Name>().expect("a name");
    Series {
        agent: "fra-1".parse().expect("a name"),
        source: "fra".parse().expect("a name"),
        target: "iad-voice-1".parse().expect("a name"),
        region: "iad".parse().expect("a name"),
        service: "voice".parse().expect("a name"),
        probe: name("voice"),
        phase: name("rtt"),
        family: Family::Ipv4,
        standing: Standing::Regular,
        labels: Labels::new(),
    }
}

/// What a series saw in one window.
#[derive(Debug, Clone)]
pub struct Drawn {
    pub histogram: Histogram,
    /// Of all samples.
    pub seconds: f64,
}

impl Drawn {
    /// What a counter has counted with this on top.
    pub fn add(&mut self, more: &Self) {
        self.histogram.merge(&more.histogram);
        self.seconds += more.seconds;
    }
}

/// So many samples of a path that usually takes so many seconds: jitter of about a percent, and one packet in fifty that waited in a
/// queue. `uniform` is between 0 and 1.
pub fn window(usual: f64, samples: usize, mut uniform: impl FnMut() -> f64) -> Drawn {
    let mut sample = || {
        let jitter: f64 = (0..4).map(|_| 0.02 * uniform() - 0.01).sum();
        let queued = if uniform() < 0.02 { 0.3 * uniform() } else { 0.0 };
        usual * (1.0 + jitter + queued)
    };
    let mut samples: Vec<f64> = (0..samples).map(|_| sample()).collect();
    samples.sort_by(f64::total_cmp);
    let mut buckets: Vec<Bucket> = Vec::with_capacity(samples.len());
    for index in samples.iter().map(|seconds| (seconds.log2() * f64::from(SCALE).exp2()).ceil() as i32 - 1) {
        match buckets.last_mut() {
            Some(last) if last.index == index => last.count += 1,
            _ => buckets.push(Bucket { index, count: 1 }),
        }
    }
    Drawn { histogram: Histogram::from_buckets(SCALE, 0, buckets), seconds: samples.iter().sum() }
}
