//! Opens batches, on a thread of its own: what it takes to inflate and walk them is never taken from those who wait for a hint,
//! from the API, or from the probes of our own health.

use std::collections::HashMap;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::StatusCode;
use runtime::{Clock, Mono};
use telemetry::otlp::{HEADER_AGENT, PROBE_DURATION};
use telemetry::{AgentId, Boot, Origin, Outcome, Series, Standing};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::admission::{Overload, Ticket};
use crate::bodies::Bodies;
use crate::config::Limits;
use crate::core::Snapshots;
use crate::decode::{Catalog, DecodeError, Refused, inflate, sender};
use crate::entry::{Batch, Encoding, Entry, Envelope, Point, Record};
use crate::json::{self, JsonError};
use crate::log::{AppendError, Appender, Pending};
use crate::problem::Problem;
use crate::sequences::{Barred, Stamps};

/// Boots that are remembered as admitted, and for how long.
const REMEMBERED: usize = 65_536;
const ASK_AGAIN: Duration = Duration::from_hours(1);
/// To whoever starts too often.
const LATER_S: u32 = 60;

/// A batch that was let in, as it came.
#[derive(Debug)]
pub struct Packed {
    pub origin: Option<Origin>,
    pub form: Form,
    pub encoding: Encoding,
    pub body: Bytes,
    pub ticket: Ticket,
}

/// In which a body came, and is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Protobuf,
    Json,
}

/// A batch on its way to the disk.
pub struct Taken {
    pub refused: Refused,
    /// `None`: nothing in it is ours, so there is nothing to keep.
    pub pending: Option<Pending>,
    pub news: News,
}

/// Whether decisions may depend on it at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    Bad,
    Other,
}

/// The way to the thread. It ends when the last one is gone.
#[derive(Debug, Clone)]
pub struct Unpack(SyncSender<Job>);

struct Job {
    packed: Packed,
    reply: oneshot::Sender<Result<Taken, Problem>>,
}

/// What the thread needs.
pub struct Unpacker {
    jobs: Receiver<Job>,
    log: Appender,
    clock: Clock,
    limits: Limits,
    /// What the fold has published.
    folded: Snapshots,
    catalog: Catalog,
    bodies: Bodies,
    boots: Boots,
}

impl Unpack {
    pub fn new(log: Appender, folded: Snapshots, clock: Clock, limits: Limits) -> (Self, Unpacker) {
        // Whoever waits here has a ticket, so it is never full.
        let (sender, jobs) = mpsc::sync_channel(limits.waiting.batches);
        // Attributes are found by their hash: nobody outside may know how to make two meet.
        let catalog = Catalog::new(Uuid::new_v4().as_u128() as u64);
        let (bodies, boots) = (Bodies::default(), Boots::default());
        (Self(sender), Unpacker { jobs, log, clock, limits, folded, catalog, bodies, boots })
    }

    pub async fn take(&self, packed: Packed) -> Result<Taken, Problem> {
        let (reply, taken) = oneshot::channel();
        let stopped = || Problem::from(AppendError::Stopped);
        self.0.try_send(Job { packed, reply }).map_err(|_| stopped())?;
        taken.await.map_err(|_| stopped())?
    }
}

impl Unpacker {
    /// Runs until nobody can bring any more.
    pub fn run(mut self) {
        while let Ok(Job { packed, reply }) = self.jobs.recv() {
            // Whoever brought it may be gone. What is in the log is counted all the same.
            drop(reply.send(self.take(packed)));
        }
    }

    fn take(&mut self, packed: Packed) -> Result<Taken, Problem> {
        let Packed { origin, form, mut encoding, mut body, mut ticket } = packed;
        if form == Form::Json {
            body = json::to_protobuf(&inflate(&body, encoding, self.limits.inflated_bytes)?)?.into();
            encoding = Encoding::Identity;
        }
        let inflated = inflate(&body, encoding, self.limits.inflated_bytes)?;
        ticket.settle(inflated.len())?;
        if let Some(origin) = &origin {
            self.check(origin, &body, &inflated)?;
        }
        let envelope = Envelope { origin, received: self.clock.wall(), encoding };
        let (batch, mut refused) = self.catalog.read(envelope.clone(), &inflated)?;
        if batch.points.len() > self.limits.points {
            let detail = format!("{} points, {} are allowed in a batch", batch.points.len(), self.limits.points);
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "points", detail));
        }
        let news = if is_bad_news(&batch) { News::Bad } else { News::Other };
        if batch.origin.is_none() && batch.reports.is_empty() {
            return Ok(Taken { refused, pending: None, news });
        }
        self.check_boot(&batch)?;
        self.tell_beyond(&batch, &mut refused);
        let record = Record::Batch(envelope, &body);
        let pending = self.log.submit(&record, Entry::Batch(batch), Some(ticket))?;
        Ok(Taken { refused, pending: Some(pending), news })
    }

    fn check(&mut self, origin: &Origin, body: &[u8], inflated: &[u8]) -> Result<(), Problem> {
        if origin.agent != sender(inflated)?.agent {
            let detail = format!("header {HEADER_AGENT}: not the agent that the resource names");
            return Err(Problem::new(StatusCode::BAD_REQUEST, "header", detail));
        }
        if !self.bodies.agree(origin, body) {
            let detail = "another body came under this agent, boot and sequence";
            return Err(Problem::new(StatusCode::CONFLICT, "conflict", detail));
        }
        Ok(())
    }

    /// A boot is asked about once in a while: the fold forgets none that was heard in two days.
    fn check_boot(&mut self, batch: &Batch) -> Result<(), Problem> {
        let Some(origin) = &batch.origin else { return Ok(()) };
        if !self.boots.is_due(origin, self.clock.mono()) {
            return Ok(());
        }
        let state = self.folded.state();
        let stamps = Stamps { made: batch.made(), received: state.clock.read(batch.received) };
        state.sequences.admits(origin, stamps)?;
        drop(state);
        self.boots.admitted(origin, self.clock.mono());
        Ok(())
    }

    /// The fold decides, and decides later; by what it has published it would not keep these points. They are logged with the rest, as it
    /// may yet be told to keep more.
    fn tell_beyond(&self, batch: &Batch, refused: &mut Refused) {
        if !self.folded.is_beyond() {
            return;
        }
        let state = self.folded.state();
        let Some(policy) = &state.policy else { return };
        for Point { series, .. } in &batch.points {
            if let Some(bound) = state.rings.bound_on(series, policy.bounds) {
                let Series { target, probe, phase, family, .. } = &**series;
                refused.add(
                    PROBE_DURATION,
                    &format_args!("{bound} keeps out {target} {probe}/{phase} {}", family.as_str()),
                );
            }
        }
    }
}

/// Boots that were admitted, and when.
#[derive(Debug, Default)]
struct Boots(HashMap<(AgentId, Boot), Mono>);

impl Boots {
    fn is_due(&self, origin: &Origin, now: Mono) -> bool {
        let key = (origin.agent.clone(), origin.boot);
        self.0.get(&key).is_none_or(|admitted| now.since(*admitted) >= ASK_AGAIN)
    }

    fn admitted(&mut self, origin: &Origin, now: Mono) {
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        self.0.insert((origin.agent.clone(), origin.boot), now);
    }
}

fn is_bad_news(batch: &Batch) -> bool {
    let votes = |point: &&Point| point.series.standing != Standing::Suspect;
    batch.points.iter().filter(votes).any(|point| matches!(point.outcome, Outcome::Failure(_)))
}

impl From<Overload> for Problem {
    fn from(overload: Overload) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "overload", overload).retry_after(overload.retry_after_s)
    }
}

impl From<Barred> for Problem {
    fn from(barred: Barred) -> Self {
        match barred {
            Barred::Retired { .. } => Self::new(StatusCode::GONE, "boot-over", barred),
            Barred::TooMany => Self::new(StatusCode::TOO_MANY_REQUESTS, "boots", barred).retry_after(LATER_S),
        }
    }
}

impl From<JsonError> for Problem {
    fn from(error: JsonError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", error)
    }
}

impl From<DecodeError> for Problem {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::TooLarge(_) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "inflated-size", error),
            DecodeError::Inflate(_) => Self::new(StatusCode::BAD_REQUEST, "inflate", error),
            DecodeError::Malformed(_) => Self::new(StatusCode::BAD_REQUEST, "malformed", error),
            DecodeError::Resource(_) => Self::new(StatusCode::BAD_REQUEST, "resource", error),
        }
    }
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Submit(journal::SubmitError::TooLarge { .. }) => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "size", "the batch is too large for the log")
            }
            _ => Self::new(StatusCode::SERVICE_UNAVAILABLE, "log", "the log takes nothing now").retry_after(5),
        }
    }
}
