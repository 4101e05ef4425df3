//! Slow is relative to the same path's own last quarter of an hour, and an absolute difference.

use serde::{Deserialize, Serialize};
use telemetry::Wall;

use crate::rings::{Rings, SeriesId};

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

/// Whether these series, together, are slower from there on than before, by `factor` of the thresholds.
pub fn slower(rings: &Rings, series: &[SeriesId], from: Wall, factor: f64) -> Option<Slower> {
    let p50_ms = rings.merge(series.iter().copied(), from, Wall(u64::MAX)).quantile_ms(0.5)?;
    let before = rings.merge(series.iter().copied(), Wall::default(), from);
    let usual_ms = before.quantile_ms(0.5)?;
    let slow = before.samples() >= BASELINE_SAMPLES && p50_ms > usual_ms + (usual_ms * RATIO).max(MS) * factor;
    slow.then_some(Slower { p50_ms, usual_ms })
}
