//! For Prometheus: native histograms of the same scale, thus with the same buckets. They are counters, as Prometheus has them.

use telemetry::histogram::Bucket;
use telemetry::sample::Drawn;
use telemetry::{Wall, time};

use super::fleet::{Agent, WIDTH, labels};
use super::load::Batch;
use super::remote::{self, BucketSpan, TimeSeries, WriteRequest};

const METRIC: &str = "isochrone_probe_duration_seconds";
/// Prometheus' own: what is nearer to zero is zero.
const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

pub(super) fn batches(agent: &Agent, first: Wall) -> anyhow::Result<Vec<Batch>> {
    let labels: Vec<_> = agent.subjects.iter().map(|subject| remote::labels(METRIC, labels(agent, subject))).collect();
    let mut counters = agent.seen[0].clone();
    let windows = agent.seen.iter().enumerate().map(|(window, seen)| {
        if window > 0 {
            counters.iter_mut().zip(seen).for_each(|(counter, seen)| counter.add(seen));
        }
        let timestamp = millis(first + WIDTH * (window as u32 + 1));
        let series = counters.iter().zip(&labels).map(|(counter, labels)| TimeSeries {
            labels: labels.clone(),
            histograms: vec![histogram(counter, timestamp)],
            samples: Vec::new(),
        });
        WriteRequest { timeseries: series.collect() }.batch()
    });
    windows.collect()
}

pub(super) fn millis(time: Wall) -> i64 {
    time::millis(time.since(Wall::default())) as i64
}

fn histogram(counter: &Drawn, timestamp: i64) -> remote::Histogram {
    let buckets = counter.histogram.buckets();
    let (mut positive_spans, mut positive_deltas) = (Vec::<BucketSpan>::new(), Vec::new());
    let mut before = Bucket { index: -1, count: 0 };
    for &bucket in buckets {
        let gap = bucket.index - before.index - 1;
        match positive_spans.last_mut() {
            Some(span) if gap == 0 => span.length += 1,
            // Prometheus counts from one bucket further up, and the first span's offset from there.
            None => positive_spans.push(BucketSpan { offset: bucket.index + 1, length: 1 }),
            Some(_) => positive_spans.push(BucketSpan { offset: gap, length: 1 }),
        }
        positive_deltas.push(i64::from(bucket.count) - i64::from(before.count));
        before = bucket;
    }
    remote::Histogram {
        count: counter.histogram.count(),
        sum: counter.seconds,
        schema: i32::from(counter.histogram.scale()),
        zero_threshold: ZERO_THRESHOLD,
        zero_count: 0,
        positive_spans,
        positive_deltas,
        timestamp,
    }
}
