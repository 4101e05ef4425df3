//! Brings the rows of the outbox to one receiver, and writes into the log what became of each attempt.
//!
//! Nothing is decided here: the fold says what may go out, and learns every answer. A row goes out again only after the fold
//! has seen what became of it the last time. An attempt that a restart cuts off is made again, under the same `webhook-id`.
//! Each receiver has a task of its own, so one that hangs delays nobody else; ingest knows nothing of any of them.

mod flights;
#[cfg(test)]
mod model;
mod post;

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use runtime::{Clock, Shutdown};
use telemetry::ReceiverName;

pub use post::{BuildError, Post};

use crate::core::Snapshots;
use crate::entry::{Answer, Attempt, Entry, Record, RowId};
use crate::log::{AppendError, Appender};
use flights::{Flights, Letter};

/// When the log takes nothing, an answer waits so long.
const LOG_AGAIN: Duration = Duration::from_secs(1);

/// What it takes to deliver to one receiver.
#[derive(Debug)]
pub struct Courier {
    receiver: ReceiverName,
    post: Post,
    snapshots: Snapshots,
    log: Appender,
    clock: Clock,
    /// Whether the last attempt was taken: the log tells a change of it, once.
    takes: AtomicBool,
}

impl Courier {
    pub fn new(receiver: ReceiverName, post: Post, snapshots: Snapshots, log: Appender, clock: Clock) -> Self {
        Self { receiver, post, snapshots, log, clock, takes: AtomicBool::new(true) }
    }

    pub async fn run(self, shutdown: Shutdown) -> Result<(), Infallible> {
        let mut news = self.snapshots.news();
        let (mut flights, mut flying) = (Flights::default(), FuturesUnordered::new());
        loop {
            for letter in self.due(&mut flights) {
                flying.push(self.deliver(letter));
            }
            tokio::select! {
                told = news.changed() => if told.is_err() { return Ok(()) },
                Some(row) = flying.next(), if !flying.is_empty() => flights.landed(row),
                () = shutdown.cancelled() => return Ok(()),
            }
        }
    }

    fn due(&self, flights: &mut Flights) -> Vec<Letter> {
        let state = self.snapshots.state();
        flights.begin(&state.alerts.outbox, &self.receiver, state.now, state.epoch)
    }

    /// Makes an attempt, and is done when the log has it.
    async fn deliver(&self, letter: Letter) -> RowId {
        let answer = self.post.send(&letter, self.clock.wall()).await;
        self.tell(answer);
        let attempt = Attempt { row: letter.row, number: letter.attempt, at: self.clock.wall(), answer };
        loop {
            match self.log.append(&Record::Attempt(attempt.clone()), Entry::Attempt(attempt.clone())).await {
                Ok(_) | Err(AppendError::Stopped) => return letter.row,
                Err(_) => tokio::time::sleep(LOG_AGAIN).await,
            }
        }
    }

    fn tell(&self, answer: Answer) {
        let taken = matches!(answer, Answer::Status { code: 200..=299, .. });
        match (self.takes.swap(taken, Ordering::Relaxed), taken) {
            (true, false) => tracing::warn!(receiver = %self.receiver, %answer, "receiver takes nothing"),
            (false, true) => tracing::info!(receiver = %self.receiver, "receiver takes alerts again"),
            _ => {}
        }
    }
}
