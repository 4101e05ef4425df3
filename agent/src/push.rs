//! Batches to the collector, each until it is taken or refused: the newest and the oldest by turns, so that after an outage what
//! is true now does not wait for what was, and the backlog drains behind it. Taken means durable, so only then is it
//! forgotten. A refused one is told and dropped: sent again it would be refused again, and hold up the rest.
//!
//! Of several collectors the first that takes batches gets them. Whoever gets one gets the same bytes under the same name.

mod http;
mod patience;
mod preference;
mod turns;

use std::time::Duration;

use runtime::own::SPANS;
use runtime::{Mono, Shutdown};
use telemetry::time::nanos;
use tokio::time::Instant;
use tracing::{Instrument as _, info, info_span, warn};

use crate::meters::Instruments;
use crate::spool::{Batch, Shared};

pub use http::{ClientError, Http};
pub use patience::Patience;
pub use preference::{Move, Preference, Then, Trouble, Why};
pub use turns::{Turn, Turns};

/// From the shutdown on; what has not gone by then stays behind.
const DRAIN: Duration = Duration::from_secs(8);

/// The other side. Its twin in tests answers as the script says.
pub trait Collector: Send + Sync {
    /// For the log.
    fn name(&self) -> &str;

    fn post(&self, batch: &Batch) -> impl Future<Output = Verdict> + Send;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is durable over there, less the points that were refused by name.
    Taken { refused: u64, why: String },
    /// It will never be taken.
    Refused { status: u16, why: String },
    /// Perhaps later, and not before the time that was asked for.
    Later { trouble: Trouble, after: Option<Duration>, why: String },
}

/// Runs until the spool is closed and empty, or the drain is over; then it says how much stays behind. The collectors stand in
/// the order of preference.
pub async fn run(
    spool: &Shared,
    collectors: &[impl Collector],
    tally: &Instruments,
    shutdown: Shutdown,
) -> Result<(), std::convert::Infallible> {
    let over = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        () = deliver(spool, collectors, tally) => {}
        () = over => {}
    }
    let depth = spool.depth();
    if depth.batches > 0 {
        warn!(batches = depth.batches, bytes = depth.bytes, "batches stay behind");
    }
    Ok(())
}

async fn deliver(spool: &Shared, collectors: &[impl Collector], tally: &Instruments) {
    let (began, mut turns) = (Instant::now(), Turns::new(collectors.len()));
    let now = || Mono(nanos(began.elapsed()));
    let mut points_refused = String::new();
    while let Some(batch) = spool.next(turns.lane()).await {
        let sequence = batch.name.sequence.0;
        let span = info_span!(target: SPANS, "push", sequence, bytes = batch.body.len());
        let collector = &collectors[turns.choose(now())];
        let verdict = collector.post(&batch).instrument(span).await;
        let waited = turns.is_tried();
        let turn = turns.hear(&verdict, now(), rand::random());
        match verdict {
            Verdict::Taken { refused, why } => {
                tally.points_refused(refused);
                if refused > 0 && why != points_refused {
                    warn!(sequence, refused, why, "the collector refuses points");
                    points_refused = why;
                }
            }
            Verdict::Refused { status, why } => {
                warn!(sequence, status, why, "the collector refused a batch; it is dropped");
            }
            Verdict::Later { why, .. } => {
                tally.retried();
                if !waited && matches!(turn, Turn::Wait(_)) {
                    warn!(collector = collector.name(), why, "the collector takes no batches; they wait");
                }
            }
        }
        match turn {
            Turn::Another => {}
            Turn::Wait(wait) => tokio::time::sleep(wait).await,
            Turn::Forget { fate, moved } => {
                if let Some(moved) = moved {
                    tally.collector_moved(moved.to, moved.why.as_str());
                    tell(moved, collectors);
                }
                if waited {
                    info!(waiting = spool.depth().batches, "the collector takes batches again");
                }
                tally.pushed(fate);
                spool.forget(batch.name).await;
            }
        }
    }
}

fn tell(Move { from, to, why }: Move, collectors: &[impl Collector]) {
    let (from, collector) = (collectors[from].name(), collectors[to].name());
    match why {
        Why::Preferred => info!(collector, from, "batches go to a preferred collector again"),
        Why::Left(_) => warn!(collector, from, reason = why.as_str(), "batches go to another collector"),
    }
}

#[cfg(test)]
mod tests;
