//! Keeps names: asks for each again when its time to live is over, and tells what changed.

use std::ops::RangeInclusive;
use std::time::Duration;

use runtime::Shutdown;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::{Answer, News, Resolver, Spot, Tally};

/// Between two questions for one name.
#[derive(Debug, Clone)]
pub struct Bounds {
    pub pace: RangeInclusive<Duration>,
    /// The longest wait while there is no answer.
    pub retry: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { pace: Duration::from_secs(5)..=Duration::from_mins(5), retry: Duration::from_mins(1) }
    }
}

impl Bounds {
    /// How long to wait after that answer, the `silences`th in a row without one. `jitter` is from 0 to 1 and makes the wait
    /// up to a tenth longer, so that agents that started together do not go on asking together.
    pub fn wait(&self, answer: &Answer, silences: u32, jitter: f64) -> Duration {
        let (least, most) = (*self.pace.start(), *self.pace.end());
        let wait = match answer {
            Answer::Found { ttl, .. } => (*ttl).clamp(least, most),
            Answer::Absent { ttl } => ttl.unwrap_or(least).clamp(least, self.retry.max(least)),
            Answer::Silent(_) => {
                let doubled = least.saturating_mul(2_u32.saturating_pow(silences.saturating_sub(1).min(16)));
                doubled.min(self.retry.max(least))
            }
        };
        wait.mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 10.0)
    }
}

/// Keeps them until the shutdown. What they stand for when this begins was asked for just before.
pub async fn keep(spots: Vec<Spot>, resolver: Resolver, bounds: Bounds, tally: impl Tally, shutdown: Shutdown) {
    let mut kept = JoinSet::new();
    for spot in spots {
        kept.spawn(keep_one(spot, resolver, bounds.clone(), tally.clone()));
    }
    shutdown.cancelled().await;
}

async fn keep_one(spot: Spot, resolver: Resolver, bounds: Bounds, tally: impl Tally) {
    let (name, family) = (spot.name.as_str(), spot.family.as_str());
    let mut wait = bounds.pace.start().mul_f64(1.0 + rand::random::<f64>() / 10.0);
    let mut silences = 0;
    loop {
        tokio::time::sleep(wait).await;
        let answer = resolver.ask(name, spot.family).await;
        tally.asked(&answer);
        silences = if let Answer::Silent(reason) = &answer {
            if silences == 0 {
                let address = spot.address();
                warn!(name, family, reason, ?address, "no answer for this name; what was known stands");
            }
            silences + 1
        } else {
            0
        };
        match spot.hear(&answer) {
            News::Same | News::Kept => {}
            News::Moved { from, to: Some(to) } => {
                tally.moved();
                info!(name, family, ?from, %to, "the name stands for another address");
            }
            News::Moved { from, to: None } => {
                tally.moved();
                warn!(name, family, ?from, "the name has no address any more; its probes count as dns failures");
            }
        }
        wait = bounds.wait(&answer, silences, rand::random());
    }
}
