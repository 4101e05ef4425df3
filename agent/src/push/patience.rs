//! How long to wait before the next attempt.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

pub(super) const FIRST_WAIT: Duration = Duration::from_millis(100);
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// However long a collector asks us to stay away.
pub(super) const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(1);
/// A collector asks in whole seconds, of many agents at once: within the second each comes at a time of its own.
const WITHIN: Duration = Duration::from_secs(1);

/// Full jitter: anything between nothing and a ceiling that doubles, so that agents do not come back all at once.
#[derive(Debug)]
pub struct Patience {
    ceilings: ExponentialBackoff,
    tries: u32,
}

impl Default for Patience {
    fn default() -> Self {
        let ceilings = ExponentialBuilder::new().with_min_delay(FIRST_WAIT).with_max_delay(LONGEST_WAIT);
        Self { ceilings: ceilings.without_max_times().build(), tries: 0 }
    }
}

impl Patience {
    pub fn is_tried(&self) -> bool {
        self.tries > 0
    }

    /// What was asked for, within bounds, and some more. `chance` is from 0 to 1.
    pub fn wait(&mut self, asked: Option<Duration>, chance: f64) -> Duration {
        self.tries += 1;
        let ceiling = self.ceilings.next().unwrap_or(LONGEST_WAIT);
        match asked {
            Some(asked) => asked.min(LONGEST_RETRY_AFTER) + ceiling.max(WITHIN).mul_f64(chance),
            None => ceiling.mul_f64(chance),
        }
    }
}
