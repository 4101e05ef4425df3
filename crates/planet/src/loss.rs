//! Losses that come in bursts: Gilbert's chain, all lost in its bad state and nothing in its good one.
//!
//! With `leave` the chance to leave the bad state at each packet and `enter` the chance to fall into it, a burst is
//! `1 / leave` packets long in the mean, and `enter / (enter + leave)` of all packets are lost.
//! E. N. Gilbert, *Capacity of a burst-noise channel*, 1960.

use rand::{Rng, RngExt as _};

/// The mean burst, in packets. A loss above two thirds cannot have bursts so short with gaps of a packet or more, and has
/// longer ones.
const MEAN_BURST: f64 = 2.0;

/// Where one path stands in its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Chain {
    /// No packet has passed yet: the first meets the chain in its steady state.
    #[default]
    Unknown,
    Good,
    Bad,
}

impl Chain {
    /// Whether the next packet is lost, at a stationary loss in `[0, 1]`.
    pub fn loses(&mut self, loss: f64, rng: &mut impl Rng) -> bool {
        let bad = match self {
            _ if loss >= 1.0 => true,
            Self::Unknown => rng.random_bool(loss),
            Self::Good => rng.random_bool((leave(loss) * loss / (1.0 - loss)).min(1.0)),
            Self::Bad => !rng.random_bool(leave(loss)),
        };
        *self = if bad { Self::Bad } else { Self::Good };
        bad
    }
}

/// The loss of independent losses in a row.
pub fn compose(losses: impl IntoIterator<Item = f64>) -> f64 {
    1.0 - losses.into_iter().map(|loss| 1.0 - loss).product::<f64>()
}

fn leave(loss: f64) -> f64 {
    if loss > 0.0 { ((1.0 - loss) / loss).min(1.0 / MEAN_BURST) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;

    /// The share of packets lost, and the mean burst.
    fn observe(loss: f64) -> (f64, f64) {
        const PACKETS: usize = 400_000;
        let mut rng = Seed(3).stream(&["losses"]);
        let mut chain = Chain::default();
        let fates: Vec<bool> = (0..PACKETS).map(|_| chain.loses(loss, &mut rng)).collect();
        let lost = fates.iter().filter(|&&lost| lost).count() as f64;
        let bursts = fates.windows(2).filter(|pair| !pair[0] && pair[1]).count() + usize::from(fates[0]);
        (lost / PACKETS as f64, lost / bursts as f64)
    }

    #[test]
    fn the_share_lost_and_the_bursts_are_as_stated() {
        for loss in [0.002, 0.02, 0.3, 0.6] {
            let (share, burst) = observe(loss);
            assert!((share - loss).abs() < 0.15 * loss, "{share} of {loss}");
            assert!((burst - MEAN_BURST).abs() < 0.1 * MEAN_BURST, "bursts of {burst} at {loss}");
        }
        let (share, _) = observe(0.9);
        assert!((share - 0.9).abs() < 0.01, "{share}");
    }

    #[test]
    fn nothing_and_everything_are_exact() {
        assert_eq!(observe(0.0).0.to_bits(), 0.0_f64.to_bits());
        assert_eq!(observe(1.0).0.to_bits(), 1.0_f64.to_bits());
    }

    #[test]
    fn a_chain_starts_in_its_steady_state() {
        let mut rng = Seed(5).stream(&["starts"]);
        let lost = (0..100_000).filter(|_| Chain::default().loses(0.3, &mut rng)).count();
        assert!((29_000..31_000).contains(&lost), "{lost}");
    }

    #[test]
    fn independent_losses_compose() {
        assert!((compose([0.5, 0.5]) - 0.75).abs() < 1e-12);
        assert!(compose([]).abs() < 1e-12);
        assert!((compose([0.1, 1.0]) - 1.0).abs() < 1e-12);
    }
}
