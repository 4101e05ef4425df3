//! What it costs, in milliseconds, to send a session of a source to a region.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use telemetry::Wall;

use crate::policy::Policy;
use crate::rings::{Rings, Seen, SeriesId};

/// What a millisecond of jitter and a percent of loss weigh against a millisecond of RTT.
const JITTER_WEIGHT: f64 = 2.0;
const LOSS_PERCENT_MS: f64 = 20.0;
/// Two-sided 95 %.
const Z: f64 = 1.959_964;
/// A window with fewer replies says nothing about its 75th percentile.
const WINDOW_REPLIES: u64 = 5;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    pub ms: f64,
    /// Of the mean over disjoint windows, 95 %; `None` for fewer than three of them.
    pub interval_ms: Option<[f64; 2]>,
    pub p50_ms: f64,
    pub p75_ms: f64,
    pub p95_ms: f64,
    pub jitter_ms: f64,
    pub loss: f64,
    pub samples: u64,
    pub newest: Wall,
}

impl Cost {
    /// From what these series saw lately, or `None` when no reply came at all: then there is no distance to speak of.
    pub fn of(rings: &Rings, series: &[SeriesId], policy: &Policy, now: Wall) -> Option<Self> {
        let from = (now - policy.hints.lookback).slot(policy.window);
        let windows = rings.by_slot(series, from, Wall(u64::MAX));
        let seen = rings.merge(series.iter().copied(), from, Wall(u64::MAX));
        let p75_ms = seen.quantile_ms(0.75)?;
        let jitter_ms = jitter(&windows);
        let shown_loss = wilson_lower(seen.lost(), seen.samples());
        let ms = p75_ms + JITTER_WEIGHT * jitter_ms + LOSS_PERCENT_MS * 100.0 * shown_loss;
        Some(Self {
            ms,
            interval_ms: interval(ms, &windows),
            p50_ms: seen.quantile_ms(0.5)?,
            p75_ms,
            p95_ms: seen.quantile_ms(0.95)?,
            jitter_ms,
            loss: seen.loss()?,
            samples: seen.samples(),
            newest: seen.newest,
        })
    }
}

/// The lower end of Wilson's score interval for a ratio, 95 % (E. B. Wilson, J. Am. Stat. Assoc. 22, 1927): how much loss has
/// been shown. One lost packet in a hundred is no evidence of one percent.
pub(super) fn wilson_lower(lost: u64, samples: u64) -> f64 {
    if samples == 0 {
        return 0.0;
    }
    let (n, p) = (samples as f64, lost as f64 / samples as f64);
    let centre = p + Z * Z / (2.0 * n);
    let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    ((centre - spread) / (1.0 + Z * Z / n)).max(0.0)
}

/// Within windows, so that a path that moved does not look like one that shakes.
fn jitter(windows: &BTreeMap<Wall, Seen>) -> f64 {
    let (mut sum, mut weight) = (0.0, 0.0);
    for seen in windows.values() {
        if let Some(jitter_ms) = seen.jitter_ms() {
            let pairs = seen.replies.count() as f64 - 1.0;
            sum += jitter_ms * pairs;
            weight += pairs;
        }
    }
    if weight > 0.0 { sum / weight } else { 0.0 }
}

/// Student's interval of the windows' own costs, laid around the cost of all.
fn interval(ms: f64, windows: &BTreeMap<Wall, Seen>) -> Option<[f64; 2]> {
    let costs: Vec<f64> = windows
        .values()
        .filter(|seen| seen.replies.count() >= WINDOW_REPLIES)
        .filter_map(|seen| {
            let loss_ms = LOSS_PERCENT_MS * 100.0 * seen.loss()?;
            Some(seen.quantile_ms(0.75)? + JITTER_WEIGHT * seen.jitter_ms()? + loss_ms)
        })
        .collect();
    if costs.len() < 3 {
        return None;
    }
    let n = costs.len() as f64;
    let mean = costs.iter().sum::<f64>() / n;
    let variance = costs.iter().map(|cost| (cost - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let half = student(n - 1.0) * (variance / n).sqrt();
    Some([(ms - half).max(0.0), ms + half])
}

/// Student's t at 97.5 %, by the Cornish–Fisher expansion (Abramowitz and Stegun, 26.7.5).
fn student(freedom: f64) -> f64 {
    let first = (Z.powi(3) + Z) / 4.0;
    let second = (5.0 * Z.powi(5) + 16.0 * Z.powi(3) + 3.0 * Z) / 96.0;
    let third = (3.0 * Z.powi(7) + 19.0 * Z.powi(5) + 17.0 * Z.powi(3) - 15.0 * Z) / 384.0;
    Z + first / freedom + second / freedom.powi(2) + third / freedom.powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_loss_in_a_hundred_shows_little_and_ten_show_much() {
        assert!(wilson_lower(0, 600) < 1e-9);
        assert!(wilson_lower(1, 100) < 0.002);
        assert!((wilson_lower(10, 100) - 0.0552).abs() < 1e-3);
    }

    #[test]
    fn students_t_is_that_of_the_tables_within_four_percent() {
        for (freedom, expected) in [(2.0, 4.303), (5.0, 2.571), (29.0, 2.045)] {
            assert!((student(freedom) / expected - 1.0).abs() < 0.04, "{freedom}");
        }
    }
}
