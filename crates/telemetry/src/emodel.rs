//! How a call would sound: the E-model (ITU-T G.107), simplified to what a network does to it. An estimate: the codec's
//! constants are configuration, since no standard states them for Opus.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How much a codec suffers. The default is G.711 with concealment (ITU-T G.113, appendix I).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Codec {
    /// Impairment without loss, Ie.
    pub impairment: f64,
    /// Robustness against random loss, Bpl.
    pub robustness: f64,
}

/// The mean opinion score, 1 (bad) to 4.5 (as good as a telephone gets).
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Mos(pub f64);

/// What a packet waits for its frame of 20 ms to be full.
const FRAME_MS: f64 = 20.0;
/// R of an undisturbed call, G.107's defaults.
const UNDISTURBED: f64 = 93.2;
/// One-way delay from which people notice.
const NOTICED_MS: f64 = 177.3;

impl Default for Codec {
    fn default() -> Self {
        Self { impairment: 0.0, robustness: 25.1 }
    }
}

impl Codec {
    /// The score over a path with that round trip, jitter (its buffer holds two of it) and loss ratio, lost at random.
    pub fn mos(self, rtt: Duration, jitter: Duration, loss: f64) -> Mos {
        let [rtt_ms, jitter_ms] = [rtt, jitter].map(|it| it.as_secs_f64() * 1e3);
        let delay_ms = rtt_ms / 2.0 + FRAME_MS + 2.0 * jitter_ms;
        let by_delay = 0.024 * delay_ms + 0.11 * (delay_ms - NOTICED_MS).max(0.0);
        let lost_percent = loss.clamp(0.0, 1.0) * 100.0;
        let by_loss = self.impairment + (95.0 - self.impairment) * lost_percent / (lost_percent + self.robustness);
        Mos::from_rating(UNDISTURBED - by_delay - by_loss)
    }
}

impl Mos {
    /// G.107, annex B.
    fn from_rating(rating: f64) -> Self {
        let rating = rating.clamp(0.0, 100.0);
        // Just above zero the polynomial dips below one.
        Self((1.0 + 0.035 * rating + rating * (rating - 60.0) * (100.0 - rating) * 7e-6).max(1.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mos(rtt_ms: u64, jitter_ms: u64, loss: f64) -> f64 {
        Codec::default().mos(Duration::from_millis(rtt_ms), Duration::from_millis(jitter_ms), loss).0
    }

    #[test]
    fn a_perfect_path_sounds_like_a_telephone_and_a_dead_one_like_nothing() {
        // By hand: d = 20 ms, R = 93.2 - 0.48 = 92.72.
        assert!((mos(0, 0, 0.0) - 4.400).abs() < 0.001, "{}", mos(0, 0, 0.0));
        // By hand: d = 220 ms, R = 93.2 - 5.28 - 4.697 - 3.640 = 79.583.
        assert!((mos(400, 0, 0.01) - 4.008).abs() < 0.001, "{}", mos(400, 0, 0.01));
        assert!((mos(60_000, 0, 1.0) - 1.0).abs() < f64::EPSILON);
    }

    proptest! {
        #[test]
        fn nothing_that_gets_worse_sounds_better(
            rtt in 0_u64..2000, jitter in 0_u64..200, loss in 0.0..1.0, more in 0_u64..500, lost in 0.0..0.5,
        ) {
            let before = mos(rtt, jitter, loss);
            prop_assert!((1.0..=4.5).contains(&before));
            prop_assert!(mos(rtt + more, jitter, loss) <= before);
            prop_assert!(mos(rtt, jitter + more, loss) <= before);
            prop_assert!(mos(rtt, jitter, loss + lost) <= before);
        }
    }
}
