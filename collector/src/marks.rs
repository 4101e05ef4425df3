//! The log's clock: one mark a second, and one right after bad news. Decisions know no other time.

use std::sync::Arc;
use std::time::Duration;

use runtime::{Clock, Shutdown};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};

use crate::entry::{Entry, Record};
use crate::log::{AppendError, Appender};

pub const EVERY: Duration = Duration::from_secs(1);
/// In a storm of bad news no two marks are closer than this.
const APART: Duration = Duration::from_millis(100);

/// Rung by ingest after a batch that carries bad news.
pub type Alarm = Arc<Notify>;

pub async fn run(log: Appender, clock: Clock, alarm: Alarm, shutdown: Shutdown) -> Result<(), AppendError> {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = Instant::now();
    loop {
        let bad_news = async {
            alarm.notified().await;
            tokio::time::sleep_until(last + APART).await;
        };
        tokio::select! {
            _ = ticks.tick() => {}
            () = bad_news => {}
            () = shutdown.cancelled() => return Ok(()),
        }
        last = Instant::now();
        let now = clock.wall();
        match log.append(&Record::Mark(now), Entry::Mark { now }).await {
            // A full disk or a full queue passes; a mark that was not made is made a second later.
            Err(error @ AppendError::Write(journal::WriteError::Sync { .. })) => return Err(error),
            Err(AppendError::Stopped) => return Ok(()),
            Err(_) | Ok(_) => {}
        }
    }
}
