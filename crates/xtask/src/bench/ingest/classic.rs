//! For `VictoriaMetrics`: classic histograms, a series for each of a few bounds, one for the sum and one for the count.

use telemetry::Wall;
use telemetry::sample::Drawn;

use super::fleet::{Agent, WIDTH, labels};
use super::load::Batch;
use super::native::millis;
use super::remote::{self, Label, Sample, TimeSeries, WriteRequest};

const METRIC: &str = "isochrone_probe_duration_seconds";
/// Without `+Inf`. Each is half as much again as the one before.
const BOUNDS: usize = 19;
const LOWEST: f64 = 0.001;
/// Series for each of ours.
pub(super) const SERIES: usize = BOUNDS + 3;

pub(super) fn batches(agent: &Agent, first: Wall) -> anyhow::Result<Vec<Batch>> {
    let names: Vec<_> = agent.subjects.iter().map(|subject| names(&labels(agent, subject))).collect();
    let mut counters = agent.seen[0].clone();
    let windows = agent.seen.iter().enumerate().map(|(window, seen)| {
        if window > 0 {
            counters.iter_mut().zip(seen).for_each(|(counter, seen)| counter.add(seen));
        }
        let timestamp = millis(first + WIDTH * (window as u32 + 1));
        let series = counters.iter().zip(&names).flat_map(|(counter, names)| {
            names.iter().zip(values(counter)).map(|(labels, value)| TimeSeries {
                labels: labels.clone(),
                samples: vec![Sample { value, timestamp }],
                histograms: Vec::new(),
            })
        });
        WriteRequest { timeseries: series.collect() }.batch()
    });
    windows.collect()
}

fn bounds() -> impl Iterator<Item = f64> {
    (0..BOUNDS).map(|step| LOWEST * 1.5_f64.powi(step as i32))
}

fn names(labels: &[(String, String)]) -> Vec<Vec<Label>> {
    let bounds = bounds().map(|bound| format!("{bound:.6}")).chain(["+Inf".to_owned()]);
    let bucket = |bound| {
        let labels = labels.iter().cloned().chain([("le".to_owned(), bound)]);
        remote::labels(&format!("{METRIC}_bucket"), labels)
    };
    let whole = ["sum", "count"].map(|what| remote::labels(&format!("{METRIC}_{what}"), labels.iter().cloned()));
    bounds.map(bucket).chain(whole).collect()
}

/// In the order of their names.
fn values(counter: &Drawn) -> Vec<f64> {
    let histogram = &counter.histogram;
    let width = (-f64::from(histogram.scale())).exp2();
    let below = |bound: f64| {
        let buckets =
            histogram.buckets().iter().take_while(|bucket| f64::from(bucket.index + 1) * width <= bound.log2());
        buckets.map(|bucket| f64::from(bucket.count)).sum()
    };
    let count = histogram.count() as f64;
    bounds().map(below).chain([count, counter.seconds, count]).collect()
}
