//! A log that nobody need keep: what stands at each position is computed.

use std::sync::Arc;
use std::time::Duration;

use collector::entry::Point;
use telemetry::histogram::{Bucket, SCALE};
use telemetry::{Histogram, Outcome, Series, Wall, sample};

pub(crate) const SERIES: u64 = 12;
pub(crate) const WIDTH: Duration = Duration::from_secs(10);
/// Of simulated time, from each position to the next.
pub(crate) const EVERY: Duration = Duration::from_mins(10);
pub(crate) const BEGIN: Wall = Wall::from_secs(20_000 * 24 * 3600);
/// By which some come late: their hours were rolled up before.
const LATE: u64 = 24;
/// One of so many positions has such.
const SOME: u64 = 7;

pub(crate) fn series(number: u64) -> Arc<Series> {
    let target = format!("target-{number}").parse().expect("a name");
    Arc::new(Series { target, ..sample::series() })
}

pub(crate) fn at(position: u64) -> Wall {
    BEGIN + Duration::from_secs(EVERY.as_secs() * position)
}

/// What this series saw, as the entry at that position tells it.
pub(crate) fn points(position: u64, series: &Arc<Series>, number: u64) -> impl Iterator<Item = Point> {
    let late = (position > LATE && position.is_multiple_of(SOME)).then(|| position - LATE);
    let point = move |of: u64, bytes: u64| {
        let count = 1 + ((of * 31 + number * 7 + bytes) % 5) as u32;
        let histogram = Histogram::from_buckets(SCALE, 0, [Bucket { index: -900 + (of % 40) as i32, count }]);
        let begin = at(of);
        Point { series: Arc::clone(series), outcome: Outcome::Reply, begin, end: begin + WIDTH, histogram }
    };
    [Some(point(position, 0))].into_iter().chain([late.map(|of| point(of, position))]).flatten()
}
