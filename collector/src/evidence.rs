//! Sequential evidence that a series is losing packets: Page's CUSUM, one for each size of loss that matters.
//!
//! For each outcome the log-likelihood ratio of loss `p1` against loss `p0` is added, never falling below
//! zero (E. S. Page, Continuous inspection schemes, Biometrika 41, 1954). It is kept for each vantage in that vantage's own
//! order; a cell sums over vantages, so the order between them does not matter.

use serde::{Deserialize, Serialize};

/// Loss as usual. A floor: a path that never lost anything is not trusted to be perfect.
const USUAL: f64 = 0.01;
/// Heavy loss, and as good as no reply at all. *Down* is held against heavy loss, so that a path that loses every third
/// packet is lossy and not down.
const LOSSY: f64 = 0.20;
const DOWN: f64 = 0.95;
/// A series' evidence stops growing here, so that recovery is seen soon after the fault is gone.
const CAP: f64 = 13.0;
/// So many losses may have been the last of what is told together: of failures that follow each other an agent tells from the second on,
/// each at once. All that came before them are spread over the rest, in no known order.
const LAST: f64 = 2.0;

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    pub down: f64,
    pub lossy: f64,
}

impl Evidence {
    /// What one vantage tells together.
    pub fn add(&mut self, replies: f64, lost: f64) {
        self.down = step(self.down, LOSSY, DOWN, replies, lost);
        self.lossy = step(self.lossy, USUAL, LOSSY, replies, lost);
    }
}

fn step(sum: f64, p0: f64, p1: f64, replies: f64, lost: f64) -> f64 {
    let reply = ((1.0 - p1) / (1.0 - p0)).ln();
    let loss = (p1 / p0).ln();
    let last = lost.min(LAST);
    let spread = (sum + replies * reply + (lost - last) * loss).clamp(0.0, CAP);
    (spread + last * loss).min(CAP)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn after(outcomes: &str) -> Evidence {
        let mut evidence = Evidence::default();
        for outcome in outcomes.chars() {
            evidence.add(f64::from(u8::from(outcome == '.')), f64::from(u8::from(outcome == 'x')));
        }
        evidence
    }

    #[test]
    fn losses_in_a_row_are_evidence_and_a_single_one_is_not() {
        assert!(after(".........x").lossy < 4.0);
        assert!(after("......xxxx").down > 6.0);
        assert!(after("......xxxx....").down < 1.0);
    }

    proptest! {
        #[test]
        fn a_part_of_a_window_that_is_lost_is_not_silence_however_many_are_in_it(
            windows in vec((1..400_u32).prop_flat_map(|sent| (0..=sent / 2, Just(sent))), 1..20),
        ) {
            let mut evidence = Evidence::default();
            for (lost, sent) in windows {
                evidence.add(f64::from(sent - lost), f64::from(lost));
                prop_assert!(evidence.down < 4.5, "{evidence:?} after {lost} of {sent}");
            }
        }

        #[test]
        fn silence_is_seen_at_once_whatever_came_before(before in vec((0..100_u32, 0..10_u32), 0..20)) {
            let mut evidence = Evidence::default();
            for (replies, lost) in before {
                evidence.add(replies.into(), lost.into());
            }
            evidence.add(8.0, 2.0);
            evidence.add(0.0, 1.0);
            prop_assert!(evidence.down > 4.5, "{evidence:?} after three in a row");
        }
    }

    #[test]
    fn every_third_packet_lost_is_heavy_loss_and_not_silence() {
        let evidence = after(&".x.".repeat(20));
        assert!(evidence.lossy > 12.0 && evidence.down < 2.0, "{evidence:?}");
    }
}
