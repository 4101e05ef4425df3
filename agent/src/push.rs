//! Batches to the collector, each until it is taken or refused: the newest and the oldest by turns, so that after an outage what
//! is true now does not wait for what was, and the backlog drains behind it. Taken means durable, so only then is it
//! forgotten. A refused one is told and dropped: sent again it would be refused again, and hold up the rest.

mod http;

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use runtime::Shutdown;
use runtime::own::SPANS;
use tracing::{Instrument as _, info, info_span, warn};

use crate::meters::{Fate, Instruments};
use crate::spool::{Batch, Lane, Shared};

pub use http::{ClientError, Http};

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// However long a collector asks us to stay away.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(1);
/// From the shutdown on; what has not gone by then stays behind.
const DRAIN: Duration = Duration::from_secs(8);

/// The other side. Its twin in tests answers as the script says.
pub trait Collector: Send + Sync {
    fn post(&self, batch: &Batch) -> impl Future<Output = Verdict> + Send;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is durable over there, less the points that were refused by name.
    Taken { refused: u64, why: String },
    /// It will never be taken.
    Refused { status: u16, why: String },
    /// Perhaps later, and not before the time that was asked for.
    Later { after: Option<Duration>, why: String },
}

/// Runs until the spool is closed and empty, or the drain is over; then it says how much stays behind.
pub async fn run(
    spool: &Shared,
    collector: &impl Collector,
    tally: &Instruments,
    shutdown: Shutdown,
) -> Result<(), std::convert::Infallible> {
    let over = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        () = deliver(spool, collector, tally) => {}
        () = over => {}
    }
    let depth = spool.depth();
    if depth.batches > 0 {
        warn!(batches = depth.batches, bytes = depth.bytes, "batches stay behind");
    }
    Ok(())
}

async fn deliver(spool: &Shared, collector: &impl Collector, tally: &Instruments) {
    let mut patience = Patience::new();
    let mut points_refused = String::new();
    let mut lane = Lane::Newest;
    while let Some(batch) = spool.next(lane).await {
        let span = info_span!(target: SPANS, "push", sequence = batch.name.sequence.0, bytes = batch.body.len());
        let fate = match collector.post(&batch).instrument(span).await {
            Verdict::Taken { refused, why } => {
                tally.points_refused(refused);
                if refused > 0 && why != points_refused {
                    warn!(sequence = batch.name.sequence.0, refused, why, "the collector refuses points");
                    points_refused = why;
                }
                Fate::Taken
            }
            Verdict::Refused { status, why } => {
                warn!(sequence = batch.name.sequence.0, status, why, "the collector refused a batch; it is dropped");
                Fate::Refused
            }
            Verdict::Later { after, why } => {
                tally.retried();
                if !patience.is_tried() {
                    warn!(why, "the collector takes no batches; they wait");
                }
                tokio::time::sleep(patience.wait(after)).await;
                continue;
            }
        };
        if patience.is_tried() {
            info!(waiting = spool.depth().batches, "the collector takes batches again");
            patience = Patience::new();
        }
        tally.pushed(fate);
        spool.forget(batch.name).await;
        lane = match lane {
            Lane::Newest => Lane::Oldest,
            Lane::Oldest => Lane::Newest,
        };
    }
}

/// Full jitter: anything between nothing and a ceiling that doubles, so that agents do not come back all at once.
struct Patience {
    ceilings: ExponentialBackoff,
    tries: u32,
}

impl Patience {
    fn new() -> Self {
        let ceilings = ExponentialBuilder::new().with_min_delay(FIRST_WAIT).with_max_delay(LONGEST_WAIT);
        Self { ceilings: ceilings.without_max_times().build(), tries: 0 }
    }

    fn is_tried(&self) -> bool {
        self.tries > 0
    }

    /// How long to wait: what was asked for, within bounds, and some more.
    fn wait(&mut self, asked: Option<Duration>) -> Duration {
        self.tries += 1;
        let ceiling = self.ceilings.next().unwrap_or(LONGEST_WAIT);
        let jitter = ceiling.mul_f64(rand::random::<f64>());
        asked.unwrap_or_default().min(LONGEST_RETRY_AFTER) + jitter
    }
}

#[cfg(test)]
mod tests;
