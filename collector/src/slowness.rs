//! Slow is relative to the same path's own last quarter of an hour, and an absolute difference.

use serde::{Deserialize, Serialize};
use telemetry::Wall;

use crate::rings::{Rings, Seen, SeriesId};

/// p50 above the usual one by this ratio and by this much.
const RATIO: f64 = 0.30;
const MS: f64 = 10.0;
/// So many samples make a baseline.
const BASELINE_SAMPLES: u64 = 60;

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Slower {
    pub p50_ms: f64,
    pub usual_ms: f64,
}

/// Whether these series, together, are slower in what they saw from there on than before, by `factor` of the thresholds.
pub fn slower(
    rings: &Rings,
    series: impl IntoIterator<Item = SeriesId>,
    (from, recent): (Wall, &Seen),
    factor: f64,
) -> Option<Slower> {
    let p50_ms = recent.quantile_ms(0.5)?;
    let before = rings.merge(series, Wall::default(), from);
    let usual_ms = before.quantile_ms(0.5)?;
    let slow = before.samples() >= BASELINE_SAMPLES && p50_ms > usual_ms + (usual_ms * RATIO).max(MS) * factor;
    slow.then_some(Slower { p50_ms, usual_ms })
}
