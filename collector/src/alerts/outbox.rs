//! What is to be delivered, and what became of it.
//!
//! A row is one message to one receiver. The rows for one receiver about one service in one region are a lane: they go out
//! in the order in which they were written, the next only after the one before was delivered or given up. Lanes do not wait
//! for each other. Whether a row goes out again, and when, is decided here, from what the log says of its attempts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use serde::{Deserialize, Serialize};
use telemetry::{ReceiverName, RegionName, ServiceName, Wall};

use super::{AlertId, Notice, retry};
use crate::entry::{Answer, Attempt, RowId};
use crate::policy::Receiver;

/// Rows that may wait for one receiver; beyond it the oldest is given up.
const WAITING_KEPT: usize = if cfg!(test) { 4 } else { 1000 };
/// Rows that are done with and kept to be looked at.
const DELIVERED_KEPT: usize = 256;
const DEAD_KEPT: usize = 1000;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub id: RowId,
    pub receiver: ReceiverName,
    pub alert: AlertId,
    pub notice: Notice,
    pub written: Wall,
    pub attempts: u32,
    /// What the last attempt was answered.
    pub last: Option<Answer>,
    pub state: RowState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RowState {
    Waiting {
        until: Wall,
    },
    Delivered,
    /// It will not be tried again.
    Dead(Why),
}

/// Why a row was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Why {
    Refused,
    Gone,
    TooOld,
    TooMany,
    /// The receiver is not configured any more.
    Removed,
}

/// What an attempt, or the end of a row without one, came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Outcome {
    Delivered,
    Retried,
    Dead(Why),
}

/// What is told in order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lane {
    pub receiver: ReceiverName,
    pub service: ServiceName,
    pub region: RegionName,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outbox {
    queues: BTreeMap<ReceiverName, Queue>,
    written: u64,
    /// The newest last.
    delivered: VecDeque<Row>,
    dead: VecDeque<Row>,
}

/// What waits for one receiver.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Queue {
    /// In the order in which they were written.
    waiting: BTreeMap<RowId, Row>,
    endpoint: Option<Receiver>,
    /// The endpoint said that it is gone.
    gone: bool,
    /// The receiver wants no attempt before this.
    quiet_until: Wall,
    counts: BTreeMap<Outcome, u64>,
}

impl Outbox {
    /// How many rows were ever written.
    pub fn written(&self) -> u64 {
        self.written
    }

    pub(super) fn write(&mut self, receiver: &ReceiverName, alert: AlertId, notice: &Notice, now: Wall) {
        self.written += 1;
        let row = Row {
            id: RowId(self.written),
            receiver: receiver.clone(),
            alert,
            notice: notice.clone(),
            written: now,
            attempts: 0,
            last: None,
            state: RowState::Waiting { until: now },
        };
        let queue = self.queues.entry(receiver.clone()).or_default();
        queue.waiting.insert(row.id, row);
        if queue.gone {
            self.bury(receiver, Why::Gone, |_| true);
        } else if queue.waiting.len() > WAITING_KEPT {
            let oldest = queue.waiting.keys().next().copied();
            self.bury(receiver, Why::TooMany, |row| Some(row.id) == oldest);
        }
    }

    /// Takes note of what became of an attempt. One that was noted before, or whose row is done with, changes nothing.
    pub fn learn(&mut self, attempt: &Attempt, epoch: Wall) {
        let found = self.queues.values_mut().find_map(|queue| Some((queue.waiting.remove(&attempt.row)?, queue)));
        let Some((mut row, queue)) = found else { return };
        if attempt.number != row.attempts + 1 {
            queue.waiting.insert(row.id, row);
            return;
        }
        let outcome = retry::outcome(row.written, attempt);
        *queue.counts.entry(outcome).or_default() += 1;
        (row.attempts, row.last) = (attempt.number, Some(attempt.answer));
        match outcome {
            Outcome::Retried => {
                queue.quiet_until = retry::asked(attempt).unwrap_or(queue.quiet_until);
                let until = attempt.at + retry::backoff(epoch, attempt);
                row.state = RowState::Waiting { until: until.max(queue.quiet_until) };
                queue.waiting.insert(row.id, row);
            }
            Outcome::Delivered => {
                row.state = RowState::Delivered;
                keep(&mut self.delivered, row, DELIVERED_KEPT);
            }
            Outcome::Dead(why) => {
                queue.gone |= why == Why::Gone;
                row.state = RowState::Dead(why);
                let receiver = row.receiver.clone();
                keep(&mut self.dead, row, DEAD_KEPT);
                if why == Why::Gone {
                    self.bury(&receiver, Why::Gone, |_| true);
                }
            }
        }
    }

    /// Drops what waits for receivers that are not configured any more. One that had gone is tried again at another URL.
    pub(super) fn adopt(&mut self, receivers: &BTreeMap<ReceiverName, Receiver>) {
        let names: BTreeSet<_> = receivers.keys().chain(self.queues.keys()).cloned().collect();
        for name in names {
            let endpoint = receivers.get(&name);
            let queue = self.queues.entry(name.clone()).or_default();
            if queue.endpoint.as_ref() != endpoint {
                *queue = Queue {
                    gone: false,
                    quiet_until: Wall::default(),
                    endpoint: endpoint.cloned(),
                    ..std::mem::take(queue)
                };
            }
            if endpoint.is_none() {
                self.bury(&name, Why::Removed, |_| true);
            }
        }
    }

    /// Whether that receiver had gone and now has another URL, which knows nothing of what was told before.
    pub(super) fn begins_anew(&self, name: &ReceiverName, receiver: &Receiver) -> bool {
        self.queues.get(name).is_some_and(|queue| queue.gone && queue.endpoint.as_ref() != Some(receiver))
    }

    /// The rows that may go out to this receiver: the first of each of its lanes, if it is time.
    pub fn due(&self, receiver: &ReceiverName, now: Wall) -> impl Iterator<Item = &Row> {
        let mut lanes = BTreeSet::new();
        let queue = self.queues.get(receiver).filter(|queue| queue.quiet_until <= now);
        let rows = queue.into_iter().flat_map(|queue| queue.waiting.values());
        let first = rows.filter(move |row| lanes.insert((&row.notice.service, &row.notice.region)));
        first.filter(move |row| matches!(row.state, RowState::Waiting { until } if until <= now))
    }

    /// A row that is not done with.
    pub fn waiting(&self, id: RowId) -> Option<&Row> {
        self.queues.values().find_map(|queue| queue.waiting.get(&id))
    }

    /// Every row that is kept: those that wait, then those that are done with, the newest of them first.
    pub fn iter(&self) -> impl Iterator<Item = &Row> {
        let waiting = self.queues.values().flat_map(|queue| queue.waiting.values());
        waiting.chain(self.dead.iter().rev()).chain(self.delivered.iter().rev())
    }

    /// How often each came to what, of each receiver.
    pub fn counts(&self) -> impl Iterator<Item = (&ReceiverName, Outcome, u64)> {
        let of_queue = |(name, queue)| Queue::counts(queue).map(move |(outcome, count)| (name, outcome, count));
        self.queues.iter().flat_map(of_queue)
    }

    /// How many rows wait for each receiver, and since when the oldest of them.
    pub fn backlog(&self) -> impl Iterator<Item = (&ReceiverName, usize, Option<Wall>)> {
        let oldest = |queue: &Queue| queue.waiting.values().next().map(|row| row.written);
        self.queues.iter().map(move |(name, queue)| (name, queue.waiting.len(), oldest(queue)))
    }

    /// Gives up rows that wait.
    fn bury(&mut self, receiver: &ReceiverName, why: Why, which: impl Fn(&Row) -> bool) {
        let Some(queue) = self.queues.get_mut(receiver) else { return };
        for (_, mut row) in queue.waiting.extract_if(.., |_, row| which(row)) {
            row.state = RowState::Dead(why);
            *queue.counts.entry(Outcome::Dead(why)).or_default() += 1;
            keep(&mut self.dead, row, DEAD_KEPT);
        }
    }
}

impl Queue {
    fn counts(&self) -> impl Iterator<Item = (Outcome, u64)> {
        self.counts.iter().map(|(outcome, count)| (*outcome, *count))
    }
}

impl Row {
    pub fn lane(&self) -> Lane {
        let Notice { service, region, .. } = &self.notice;
        Lane { receiver: self.receiver.clone(), service: service.clone(), region: region.clone() }
    }
}

fn keep(rows: &mut VecDeque<Row>, row: Row, kept: usize) {
    rows.push_back(row);
    rows.drain(..rows.len().saturating_sub(kept));
}

impl RowId {
    /// As outsiders see it, and the `webhook-id`: no other log has the same.
    pub fn name(self, epoch: Wall) -> String {
        format!("msg_{:x}_{}", epoch.0, self.0)
    }
}

impl RowState {
    pub const ALL: [&str; 3] = ["waiting", "delivered", "dead"];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Delivered => "delivered",
            Self::Dead(_) => "dead",
        }
    }
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retried => "retried",
            Self::Dead(Why::Refused) => "refused",
            Self::Dead(Why::Gone) => "gone",
            Self::Dead(Why::TooOld) => "too_old",
            Self::Dead(Why::TooMany) => "too_many",
            Self::Dead(Why::Removed) => "removed",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "the receiver refused it",
            Self::Gone => "the receiver said that it is gone",
            Self::TooOld => "it could not be delivered for a day",
            Self::TooMany => "too many waited for this receiver",
            Self::Removed => "the receiver is not configured any more",
        })
    }
}
