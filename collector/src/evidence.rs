//! Sequential evidence that a series is losing packets: Page's CUSUM, one for each size of loss that matters.
//!
//! For each outcome the log-likelihood ratio of *bad* (loss `p1`) against *as usual* (loss `p0`) is added, never falling below
//! zero (E. S. Page, Continuous inspection schemes, Biometrika 41, 1954). It is kept for each vantage in that vantage's own
//! order; a cell sums over vantages, so the order between them does not matter.

use serde::{Deserialize, Serialize};

/// Loss as usual. A floor: a path that never lost anything is not trusted to be perfect.
const P0: f64 = 0.01;
/// Total loss, and heavy loss.
const P1_DOWN: f64 = 0.95;
const P1_LOSSY: f64 = 0.20;
/// A series' evidence stops growing here, so that recovery is seen soon after the fault is gone.
const CAP: f64 = 13.0;

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    pub down: f64,
    pub lossy: f64,
}

impl Evidence {
    pub fn add(&mut self, replies: u64, lost: u64) {
        self.down = step(self.down, P1_DOWN, replies, lost);
        self.lossy = step(self.lossy, P1_LOSSY, replies, lost);
    }
}

fn step(sum: f64, p1: f64, replies: u64, lost: u64) -> f64 {
    let reply = ((1.0 - p1) / (1.0 - P0)).ln();
    let loss = (p1 / P0).ln();
    (sum + replies as f64 * reply + lost as f64 * loss).clamp(0.0, CAP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_losses_in_a_row_are_evidence_and_one_is_not() {
        let mut evidence = Evidence::default();
        evidence.add(9, 1);
        assert!(evidence.down < 1.0);
        (0..3).for_each(|_| evidence.add(0, 1));
        assert!(evidence.down > 12.0);
        evidence.add(8, 0);
        assert!(evidence.down < 1.0);
    }
}
