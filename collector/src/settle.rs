//! What leaves as a copy, be it an export or a backup, is whole up to the moment at which it was asked for: history gets what
//! the fold has gathered, and a snapshot follows.

use std::sync::atomic::Ordering;
use std::time::Duration;

use journal::Position;
use tokio::time::{Instant, sleep};

use crate::history::History;
use crate::jobs::SnapshotDue;
use crate::log::Appender;

const LOOK: Duration = Duration::from_millis(50);
/// The fold looks ten times a second whether a snapshot is due; the rest is the disk's.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub struct Settle {
    pub due: SnapshotDue,
    pub log: Appender,
    pub history: History,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "history is stored up to position {stored} of the log, and not to {wanted}, after 30 s: look at the disk, and at isochrone.history.failures"
)]
pub struct Unsettled {
    pub stored: Position,
    pub wanted: Position,
}

impl Settle {
    /// Waits until history holds all that is durable by now.
    pub async fn settle(&self) -> Result<Position, Unsettled> {
        let (wanted, until) = (self.log.durable(), Instant::now() + PATIENCE);
        let mut stored = None;
        loop {
            let now = self.history.stored();
            if now >= wanted {
                break;
            }
            if Instant::now() > until {
                return Err(Unsettled { stored: now, wanted });
            }
            // Once, and again where what was handed over was from just before: each is a snapshot.
            if stored.replace(now) != Some(now) {
                self.due.store(true, Ordering::Relaxed);
            }
            sleep(LOOK).await;
        }
        Ok(wanted)
    }
}
