//! Sends on what was taken: batches as they came, in the log's order, to another OTLP receiver, each at least once.
//!
//! It reads the log and keeps its own place in it, so nothing waits for it: a receiver that is slow or gone delays no
//! acknowledgement and fills no memory. What it has not sent when the log is cut is lost to it, and counted: the log reaches
//! back behind the older of the two newest snapshots, five minutes or more while the collector runs. After an abrupt end some
//! batches go again. They bear their agents' names, by which a collector of ours counts them once.

mod otlp;
mod place;

use std::sync::Arc;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use journal::{Position, ReadError, Reader};
use runtime::Shutdown;
use runtime::meters::Meters;
use tokio::sync::watch;
use tokio::time::{Duration, sleep};
use tracing::{error, info, warn};

use crate::entry::Record;
use crate::log::Appender;
use crate::meters::Exported;

pub use otlp::{ClientError, Otlp};
pub use place::{Place, PlaceError};

const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// However long a receiver asks us to stay away.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(5);
/// The place is kept after so many batches, and whenever there is nothing to send.
const KEEP_EVERY: u64 = 256;

pub struct Export {
    /// Of durable entries, from the place on.
    pub reader: Reader,
    pub place: Place,
    pub receiver: Otlp,
    pub meters: Arc<Exported>,
    /// Tells that there may be more in the log.
    pub news: watch::Receiver<()>,
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
        Self { reader: log.reader(place.next), place, receiver, meters, news }
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
            match self.reader.next() {
                Some(Ok((position, record))) => {
                    self.send(position, &record).await;
                    self.go_on(position.next());
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
                None => {
                    self.place.keep();
                    if self.news.changed().await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn go_on(&mut self, next: Position) {
        self.place.next = next;
        self.meters.at(next);
        if next.0.is_multiple_of(KEEP_EVERY) {
            self.place.keep();
        }
    }

    /// Until it is taken or refused. A refused one would be refused again, and hold up the rest.
    async fn send(&self, position: Position, record: &[u8]) {
        let Ok(Record::Batch(envelope, body)) = Record::decode(record) else { return };
        let mut waits: Option<ExponentialBackoff> = None;
        loop {
            match self.receiver.post(&envelope, body).await {
                Verdict::Taken => self.meters.sent(),
                Verdict::Refused { why } => {
                    warn!(%position, why, "the receiver refused a batch; it is not sent again");
                    self.meters.refused();
                }
                Verdict::Later { after, why } => {
                    if waits.is_none() {
                        warn!(why, "the receiver takes no batches; they wait in the log");
                    }
                    self.meters.retried();
                    let wait = waits.get_or_insert_with(patience).next().unwrap_or(LONGEST_WAIT);
                    sleep(wait.max(after.unwrap_or_default().min(LONGEST_RETRY_AFTER))).await;
                    continue;
                }
            }
            if waits.is_some() {
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
