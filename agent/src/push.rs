//! Batches to the collector, each until it is taken or refused: the newest and the oldest by turns, so that after an outage what
//! is true now does not wait for what was, and the backlog drains behind it. Taken means durable, so only then is it
//! forgotten. A refused one is told and dropped: sent again it would be refused again, and hold up the rest.
//!
//! Of several collectors the first that takes batches gets them. Whoever gets one gets the same bytes under the same name.

mod http;
mod patience;
mod preference;

use std::time::Duration;

use runtime::own::SPANS;
use runtime::{Mono, Shutdown};
use telemetry::time::nanos;
use tokio::time::Instant;
use tracing::{Instrument as _, info, info_span, warn};

use crate::meters::{Fate, Instruments};
use crate::spool::{Batch, Lane, Shared};

pub use http::{ClientError, Http};
pub use patience::Patience;
pub use preference::{Move, Preference, Then, Trouble, Why};

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
    let (began, mut preference) = (Instant::now(), Preference::new(collectors.len()));
    let now = || Mono(nanos(began.elapsed()));
    let mut patience = Patience::default();
    let mut points_refused = String::new();
    let mut lane = Lane::Newest;
    while let Some(batch) = spool.next(lane).await {
        let span = info_span!(target: SPANS, "push", sequence = batch.name.sequence.0, bytes = batch.body.len());
        let collector = &collectors[preference.choose(now())];
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
            Verdict::Later { trouble, after, why } => {
                tally.retried();
                if let Then::Wait(asked) = preference.failed(trouble, after) {
                    if !patience.is_tried() {
                        warn!(collector = collector.name(), why, "the collector takes no batches; they wait");
                    }
                    tokio::time::sleep(patience.wait(asked, rand::random())).await;
                }
                continue;
            }
        };
        if let Some(moved) = preference.took(now(), rand::random()) {
            tally.collector_moved(moved.to, moved.why.as_str());
            tell(moved, collectors);
        }
        if patience.is_tried() {
            info!(waiting = spool.depth().batches, "the collector takes batches again");
            patience = Patience::default();
        }
        tally.pushed(fate);
        spool.forget(batch.name).await;
        lane = match lane {
            Lane::Newest => Lane::Oldest,
            Lane::Oldest => Lane::Newest,
        };
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
