//! Slow is relative to what is usual for the same path, and an absolute difference. A path too young to have a usual week is
//! compared with its own last quarter of an hour.

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

/// What a p50 differs by from the usual one, at least, to be clearly another.
pub fn margin_ms(usual_ms: f64) -> f64 {
    (usual_ms * RATIO).max(MS)
}

/// By `factor` of the margin.
pub fn slower(recent: &Seen, usual_ms: f64, factor: f64) -> Option<Slower> {
    let p50_ms = recent.quantile_ms(0.5)?;
    (p50_ms > usual_ms + margin_ms(usual_ms) * factor).then_some(Slower { p50_ms, usual_ms })
}

/// Whether these series, together, are slower in what they saw from there on than before.
pub fn slower_than_before(
    rings: &Rings,
    series: impl IntoIterator<Item = SeriesId>,
    (from, recent): (Wall, &Seen),
    factor: f64,
) -> Option<Slower> {
    let before = rings.merge(series, Wall::default(), from);
    if before.samples() < BASELINE_SAMPLES {
        return None;
    }
    slower(recent, before.quantile_ms(0.5)?, factor)
}
