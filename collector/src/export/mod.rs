//! Sends on what was taken: batches as they came, to another OTLP receiver, each at least once. They go in the log's order, some
//! at once, so that neighbours may change places: what they hold adds up in any order.
//!
//! It reads the log and keeps its own place in it, so nothing waits for it: a receiver that is slow or gone delays no
//! acknowledgement and fills no memory. What it has not sent when the log is cut is lost to it, and counted: the log reaches
//! back behind the older of the two newest snapshots, five minutes or more while the collector runs. After an abrupt end some
//! batches go again. They bear their agents' names, by which a collector of ours counts them once.

mod otlp;
mod place;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use futures_util::future::join_all;
use journal::{Position, ReadError};
use runtime::Shutdown;
use runtime::meters::Meters;
use tokio::sync::watch;
use tokio::time::{Duration, sleep};
use tracing::{error, info, warn};

use crate::entry::Record;
use crate::log::{Appender, Records};
use crate::meters::Exported;

pub use otlp::{ClientError, Otlp};
pub use place::{Place, PlaceError};

const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// However long a receiver asks us to stay away.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(5);
/// Entries that are under way together: a receiver far away answers each late, and must not set the pace.
const AT_ONCE: usize = 16;

pub struct Export {
    /// Of durable entries, from the place on.
    pub reader: Box<dyn Records>,
    pub place: Place,
    pub receiver: Otlp,
    pub meters: Arc<Exported>,
    /// Tells that there may be more in the log.
    pub news: watch::Receiver<()>,
    /// Whether the receiver does: a change is told once.
    pub takes: AtomicBool,
}

/// What a receiver says to a batch.
#[derive(Debug)]
enum Verdict {
    Taken,
    /// It will never be taken.
    Refused {
        why: String,
    },
    /// Perhaps later, and not before the time that was asked for.
    Later {
        after: Option<Duration>,
        why: String,
    },
}

impl Export {
    pub fn new(receiver: Otlp, place: Place, log: &Appender, news: watch::Receiver<()>, meters: &Meters) -> Self {
        let meters = Arc::new(Exported::new(meters, log, place.next));
        Self { reader: log.reader(place.next), place, receiver, meters, news, takes: AtomicBool::new(true) }
    }

    /// Runs until told to stop, and keeps its place.
    pub async fn run(mut self, shutdown: Shutdown) -> Result<(), std::convert::Infallible> {
        tokio::select! {
            () = self.follow() => {}
            () = shutdown.cancelled() => {}
        }
        self.place.keep();
        Ok(())
    }

    /// Ends when nobody writes the log any more, or when it cannot be read: the rest of the collector goes on.
    async fn follow(&mut self) {
        loop {
            let mut group = Vec::new();
            let stopped = loop {
                if group.len() == AT_ONCE {
                    break None;
                }
                match self.reader.next() {
                    Some(Ok(entry)) => group.push(entry),
                    Some(Err(error)) => break Some(Err(error)),
                    None => break Some(Ok(())),
                }
            };
            join_all(group.iter().map(|(position, record)| self.send(*position, record))).await;
            if let Some((position, _)) = group.last() {
                self.go_on(position.next());
            }
            match stopped {
                None => {}
                Some(Ok(())) => {
                    self.place.keep();
                    if self.news.changed().await.is_err() {
                        return;
                    }
                }
                Some(Err(ReadError::Cut { wanted, first })) => {
                    let entries = first.0 - wanted.0;
                    warn!(entries, "the log was cut before they could be sent on");
                    self.meters.cut(entries);
                    self.reader.seek(first);
                    self.go_on(first);
                }
                Some(Err(error)) => {
                    error!(error = &error as &dyn std::error::Error, "nothing is sent on any more");
                    return;
                }
            }
        }
    }

    fn go_on(&mut self, next: Position) {
        self.place.go_on(next);
        self.meters.at(next);
    }

    /// Until it is taken or refused. A refused one would be refused again, and hold up the rest.
    async fn send(&self, position: Position, record: &[u8]) {
        let Ok(Record::Batch(envelope, body)) = Record::decode(record) else { return };
        let mut waits = patience();
        loop {
            match self.receiver.post(&envelope, body).await {
                Verdict::Taken => self.meters.sent(),
                Verdict::Refused { why } => {
                    warn!(%position, why, "the receiver refused a batch; it is not sent again");
                    self.meters.refused();
                }
                Verdict::Later { after, why } => {
                    if self.takes.swap(false, Ordering::Relaxed) {
                        warn!(why, "the receiver takes no batches; they wait in the log");
                    }
                    self.meters.retried();
                    let wait = waits.next().unwrap_or(LONGEST_WAIT);
                    sleep(wait.max(after.unwrap_or_default().min(LONGEST_RETRY_AFTER))).await;
                    continue;
                }
            }
            if !self.takes.swap(true, Ordering::Relaxed) {
                info!("the receiver takes batches again");
            }
            return;
        }
    }
}

fn patience() -> ExponentialBackoff {
    let waits = ExponentialBuilder::new().with_min_delay(FIRST_WAIT).with_max_delay(LONGEST_WAIT);
    waits.with_jitter().without_max_times().build()
}
