//! How long a round trip takes.
//!
//! A base that follows from the distance, and above it an exponential tail. The distribution has closed-form quantiles, and
//! a draw is the quantile of a uniform number: what is drawn and what `/truth` states are one formula.

use std::f64::consts::TAU;
use std::time::Duration;

use rand::{Rng, RngExt as _};

/// Light in fibre covers some 200 km in a millisecond, and a round trip goes there and back.
const KM_PER_RTT_MS: f64 = 100.0;
/// The access at both ends; also all that lies between a region and itself.
const LAST_MILE_MS: f64 = 0.5;

/// A shifted exponential distribution of round-trip times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Delay {
    pub base_ms: f64,
    pub scale_ms: f64,
}

impl Delay {
    /// Over a route that is `detour` times as long as the great circle.
    pub fn over(distance_km: f64, detour: f64) -> Self {
        let base_ms = LAST_MILE_MS + distance_km / KM_PER_RTT_MS * detour;
        Self { base_ms, scale_ms: 0.2 + 0.008 * base_ms }
    }

    #[must_use]
    pub fn later_by(self, extra_ms: f64) -> Self {
        Self { base_ms: self.base_ms + extra_ms, ..self }
    }

    /// Of `p` in `[0, 1)`.
    pub fn quantile_ms(self, p: f64) -> f64 {
        self.base_ms - self.scale_ms * (-p).ln_1p()
    }

    pub fn draw(self, rng: &mut impl Rng) -> Duration {
        Duration::from_secs_f64(self.quantile_ms(rng.random()) / 1e3)
    }

    /// One way of two, of which both together are distributed as a whole round trip is: an exponential variate is the sum of two
    /// gamma variates of shape ½, and such a one is a normal variate squared and halved (here after Box and Muller, *A note on
    /// the generation of random normal deviates*, 1958).
    pub fn draw_one_way(self, rng: &mut impl Rng) -> Duration {
        let (radius, angle): (f64, f64) = (-(-rng.random::<f64>()).ln_1p(), TAU * rng.random::<f64>());
        Duration::from_secs_f64((self.base_ms / 2.0 + self.scale_ms * radius * angle.cos().powi(2)) / 1e3)
    }

    /// The mean absolute difference of two draws: for an exponential tail, its scale.
    pub fn jitter_ms(self) -> f64 {
        self.scale_ms
    }
}

#[cfg(test)]
mod tests {
    use telemetry::time::millis;

    use super::*;
    use crate::Seed;

    #[test]
    fn draws_have_the_quantiles_and_the_jitter_that_are_stated() {
        let delay = Delay::over(6200.0, 1.4).later_by(12.0);
        let mut rng = Seed(7).stream(&["draws"]);
        check(delay, (0..200_000).map(|_| millis(delay.draw(&mut rng))).collect());
    }

    #[test]
    fn a_way_there_and_a_way_back_are_a_round_trip_and_neither_is_more_than_the_other() {
        let delay = Delay::over(6200.0, 1.4).later_by(12.0);
        let mut rng = Seed(8).stream(&["draws"]);
        let ways: Vec<f64> = (0..400_000).map(|_| millis(delay.draw_one_way(&mut rng))).collect();
        let (there, back): (Vec<f64>, Vec<f64>) = ways.chunks_exact(2).map(|pair| (pair[0], pair[1])).unzip();
        let mean = |ways: &[f64]| ways.iter().sum::<f64>() / ways.len() as f64;
        assert!((mean(&there) - mean(&back)).abs() < 0.01 * delay.scale_ms);
        assert!(ways.iter().all(|way| *way >= delay.base_ms / 2.0));
        check(delay, there.iter().zip(&back).map(|(there, back)| there + back).collect());
    }

    fn check(delay: Delay, drawn: Vec<f64>) {
        let jitter = drawn.chunks_exact(2).map(|pair| (pair[0] - pair[1]).abs()).sum::<f64>() / 100_000.0;
        assert!((jitter - delay.jitter_ms()).abs() < 0.02 * delay.jitter_ms());

        let mut sorted = drawn;
        sorted.sort_by(f64::total_cmp);
        for p in [0.5, 0.75, 0.95, 0.99] {
            let seen = sorted[(p * 200_000.0) as usize];
            // The standard error of a sample quantile here is below 2.3 % of the scale; four of them.
            assert!((seen - delay.quantile_ms(p)).abs() < 0.1 * delay.scale_ms, "p{p}: {seen}");
        }
        assert!(sorted[0] >= delay.base_ms);
    }

    #[test]
    fn a_route_takes_as_long_as_its_fibre() {
        let across = Delay::over(6000.0, 1.5);
        assert!((across.base_ms - 90.5).abs() < 1e-9);
        assert!((across.scale_ms - 0.924).abs() < 1e-9);
        assert!((Delay::over(0.0, 1.5).base_ms - 0.5).abs() < 1e-9, "a region is near itself");
    }
}
