//! `GET /api/v1/paths/{id}/heatmap`: the same as counts by time and duration, so that a second mode shows where quantiles hide it.

use axum::Json;
use axum::extract::{Path, Query, State};
use serde::Serialize;
use telemetry::Histogram;
use telemetry::histogram::SCALE;
use utoipa::ToSchema;

use super::history::{Told, Wanted, tell};
use crate::core::Snapshots;
use crate::history::{History, Tier};
use crate::problem::Problem;

/// As fine as a picture can show.
const MOST_ROWS: i32 = 64;
/// Its bucket at our scale: where what took no time is shown when nothing took any.
const MICROSECOND: i32 = -5103;

/// Replies of each step by their duration. Steps in which nothing was seen have no column.
#[derive(Serialize, ToSchema)]
pub(super) struct Heatmap {
    step_s: f64,
    /// The windows that the steps are made of.
    tier: Tier,
    /// Ascending: row `i` counts what took longer than `bounds_ms[i]`, and no longer than `bounds_ms[i + 1]`.
    bounds_ms: Vec<f64>,
    columns: Vec<Column>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = HeatmapColumn)]
struct Column {
    /// When the step begins.
    #[schema(format = DateTime)]
    t: String,
    counts: Vec<u64>,
}

/// What a path saw, as counts by step and duration.
#[utoipa::path(
    get, path = "/api/v1/paths/{id}/heatmap", operation_id = "readHeatmap",
    params(("id" = String, Path, description = "Of a path, as `listPaths` tells it."), Wanted),
    responses((status = 200, body = Heatmap)),
)]
pub(super) async fn read(
    State(state): State<(Snapshots, History)>,
    Path(id): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Heatmap>, Problem> {
    let Told { step, tier, slots } = tell(state, &id, &wanted).await?;
    let rows = Rows::that_hold(slots.values().map(|slot| &slot.seen.replies));
    let columns =
        slots.iter().map(|(begin, slot)| Column { t: begin.to_string(), counts: rows.counts(&slot.seen.replies) });
    Ok(Json(Heatmap { step_s: step.as_secs_f64(), tier, columns: columns.collect(), bounds_ms: rows.bounds_ms() }))
}

/// Buckets of one scale, from one index to another.
#[derive(Debug, PartialEq, Eq)]
struct Rows {
    scale: i8,
    first: i32,
    /// As many as there are, none for no replies.
    len: i32,
}

impl Rows {
    /// The finest scale at which all of it has few enough rows.
    fn that_hold<'a>(histograms: impl Iterator<Item = &'a Histogram>) -> Self {
        let mut all = Histogram::default();
        histograms.for_each(|histogram| all.merge(histogram));
        loop {
            let (Some(first), Some(last)) = (all.buckets().first(), all.buckets().last()) else {
                return Self { scale: SCALE, first: MICROSECOND, len: i32::from(all.zeros() > 0) };
            };
            let len = i64::from(last.index) - i64::from(first.index) + 1;
            if len <= i64::from(MOST_ROWS) {
                return Self { scale: all.scale(), first: first.index, len: len as i32 };
            }
            all = all.at_scale(all.scale() - 1);
        }
    }

    fn bounds_ms(&self) -> Vec<f64> {
        let bound = |index: i32| (f64::from(index) * (-f64::from(self.scale)).exp2()).exp2() * 1e3;
        if self.len == 0 { Vec::new() } else { (0..=self.len).map(|row| bound(self.first + row)).collect() }
    }

    /// What took no time stands in the lowest row.
    fn counts(&self, histogram: &Histogram) -> Vec<u64> {
        let mut counts = vec![0; self.len as usize];
        if let Some(lowest) = counts.first_mut() {
            *lowest = u64::from(histogram.zeros());
        }
        for bucket in histogram.at_scale(self.scale).buckets() {
            counts[(bucket.index - self.first) as usize] += u64::from(bucket.count);
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use telemetry::histogram::Scratch;

    use super::*;

    #[test]
    fn every_reply_stands_in_the_row_whose_bounds_hold_it() {
        let samples = [1, 20, 21, 80, 81, 900, 4000].map(Duration::from_millis);
        let (low, high) = samples.split_at(3);
        let mut scratch = Scratch::default();
        let columns = [low, high].map(|samples| scratch.fold(samples.iter().copied()));
        let rows = Rows::that_hold(columns.iter());
        let bounds = rows.bounds_ms();
        assert!((33..=65).contains(&bounds.len()), "{bounds:?}");
        for (samples, histogram) in [low, high].into_iter().zip(&columns) {
            let counts = rows.counts(histogram);
            assert_eq!((counts.len(), counts.iter().sum::<u64>()), (bounds.len() - 1, samples.len() as u64));
            for sample in samples.iter().map(|sample| sample.as_secs_f64() * 1e3) {
                let near = |row: usize| bounds[row] * 0.998 <= sample && sample <= bounds[row + 1] * 1.002;
                assert!(
                    (0..counts.len()).any(|row| counts[row] > 0 && near(row)),
                    "{sample} ms: {counts:?} in {bounds:?}"
                );
            }
        }
    }

    #[test]
    fn nothing_has_no_rows_and_what_took_no_time_has_one() {
        assert_eq!(Rows::that_hold([&Histogram::default()].into_iter()).bounds_ms(), [0.0; 0]);
        let none = Histogram::from_buckets(SCALE, 3, []);
        let rows = Rows::that_hold([&none].into_iter());
        assert_eq!((rows.bounds_ms().len(), rows.counts(&none)), (2, vec![3]));
    }
}
