//! Probes in flight: each ends exactly once, by its reply, a failure, its timeout, or as missed through a fault of ours. What
//! is heard of no probe in flight is noise, and is told with its reason.

mod past;

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use runtime::Mono;
use telemetry::{FailureKind, Outcome, Standing, UnixSeconds};

use crate::config::MAX_IN_FLIGHT;
use crate::plan::{Errand, ProbeIndex};
use crate::probe::{Heard, Launch, Order, Report, RoundTrip, Sample, SendFault, Token, Way};
use crate::schedule::Due;

use past::{Fate, Past};

/// How long a task may be behind with its report before we stop waiting.
const GRACE: Duration = Duration::from_secs(2);

/// One probe that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub due: Due,
    /// `None`: it left from a port that is nobody's way.
    pub way: Option<Way>,
    pub standing: Standing,
    pub end: End,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With what its one phase measured, or the time until the failure was known.
    Counted(Outcome, Duration),
    /// With what each of its phases measured, in their order; and until when the server's certificates are good.
    Phased(Vec<Sample>, Option<UnixSeconds>),
    Missed(Miss),
}

/// Why a probe says nothing about its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Miss {
    #[error("this agent came more than an interval too late")]
    Skipped,
    #[error("{MAX_IN_FLIGHT} probes of one kind and target are in flight")]
    Crowded,
    #[error(transparent)]
    NotSent(SendFault),
    #[error("the task that had it did not report")]
    Unreported,
    #[error("this agent stopped before it ended")]
    Stopped,
}

/// What was heard and counts for no series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noise {
    /// A reply after its timeout: told apart, since the probe was already counted as lost.
    Late,
    Double,
    Unasked,
    /// The right number from the wrong place, or to the wrong question, whether or not an answer is still awaited.
    Stranger,
    Malformed,
}

impl Miss {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Crowded => "crowded",
            Self::NotSent(SendFault::NoSocket) => "no-socket",
            Self::NotSent(SendFault::Busy) => "busy",
            Self::NotSent(SendFault::NotConnected) => "not-connected",
            Self::NotSent(SendFault::Kernel(_)) => "kernel",
            Self::Unreported => "unreported",
            Self::Stopped => "stopped",
        }
    }
}

impl Noise {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Double => "double",
            Self::Unasked => "unasked",
            Self::Stranger => "stranger",
            Self::Malformed => "malformed",
        }
    }
}

#[derive(Debug, Default)]
pub struct Flights {
    last: u32,
    out: HashMap<Token, Flight>,
    /// Ended ones stay here until their time comes; their token is then no longer out.
    deadlines: BinaryHeap<Reverse<(Mono, Token)>>,
    /// When a reply is later than usual.
    overdue: BinaryHeap<Reverse<(Mono, Token)>>,
    of_probe: HashMap<ProbeIndex, u32>,
    past: Past,
    refused_stamps: u64,
}

#[derive(Debug)]
struct Flight {
    due: Due,
    order: Order,
    way: Option<Way>,
    launch: Launch,
    standing: Standing,
}

impl Flights {
    /// `first` is random, so that answers to an earlier life of ours meet no probe of this one.
    pub fn new(first: u32) -> Self {
        Self { last: first, ..Self::default() }
    }

    /// A token for one more of that probe. `None`: too many are out.
    pub fn token(&mut self, probe: ProbeIndex) -> Option<Token> {
        if self.of_probe.get(&probe).is_some_and(|&out| out >= MAX_IN_FLIGHT) {
            return None;
        }
        Some(self.token_beside())
    }

    /// A token for what is not of the plan.
    pub fn token_beside(&mut self) -> Token {
        self.last = self.last.wrapping_add(1);
        Token(self.last)
    }

    /// A token of which somebody else hears the answer. What comes when they no longer listen is late.
    pub fn token_lent(&mut self, errand: Errand) -> Token {
        let token = self.token_beside();
        self.past.remember(token, errand, Fate::TimedOut);
        token
    }

    /// They had their answer: another one is a double.
    pub fn replied_beside(&mut self, token: Token, errand: Errand) {
        self.past.remember(token, errand, Fate::Replied);
    }

    pub fn begin(&mut self, due: Due, order: Order, launch: Launch, standing: Standing, now: Mono) {
        let deadline = match launch {
            Launch::OnTheWire(sent) => sent + order.timeout,
            Launch::Handed => now + order.timeout + GRACE,
        };
        *self.of_probe.entry(due.probe).or_default() += 1;
        self.deadlines.push(Reverse((deadline, order.token)));
        self.out.insert(order.token, Flight { due, order, way: Some(order.way), launch, standing });
    }

    /// Have [`Self::overdue`] tell when this one, of those on the wire, has waited so long.
    pub fn expect(&mut self, token: Token, within: Duration) {
        if let Some(Flight { launch: Launch::OnTheWire(sent), .. }) = self.out.get(&token) {
            self.overdue.push(Reverse((*sent + within, token)));
        }
    }

    /// The next one that has waited longer than was expected, and still does.
    pub fn overdue(&mut self, now: Mono) -> Option<(ProbeIndex, Way)> {
        while let Some(head) = self.overdue.peek_mut() {
            let Reverse((at, token)) = *head;
            let flight = self.out.get(&token);
            if flight.is_some() && at > now {
                return None;
            }
            PeekMut::pop(head);
            if let Some(flight) = flight {
                return Some((flight.due.probe, flight.order.way));
            }
        }
        None
    }

    /// How many of the kernel's stamps were not believed since this was last asked.
    pub fn take_refused_stamps(&mut self) -> u64 {
        std::mem::take(&mut self.refused_stamps)
    }

    /// What a report ends, and what about it is noise. A late one can be both.
    pub fn settle(&mut self, report: Report) -> (Option<Ended>, Option<Noise>) {
        match report {
            Report::Malformed => (None, Some(Noise::Malformed)),
            Report::OtherPort { token } => {
                if let Some(flight) = self.out.get_mut(&token) {
                    flight.way = None;
                }
                (None, None)
            }
            Report::Failed { token, kind, after } => {
                let end = End::Counted(Outcome::Failure(kind), after);
                (self.end(token, end, Fate::Other), None)
            }
            Report::NotSent { token, fault } => (self.end(token, End::Missed(Miss::NotSent(fault)), Fate::Other), None),
            Report::Phased { token, samples, not_after } => {
                (self.end(token, End::Phased(samples, not_after), Fate::Other), None)
            }
            Report::Answer { token, errand, outcome, heard } => self.answer(token, errand, outcome, heard),
        }
    }

    /// The next probe whose time is over. Settle what was heard first: it may have been in time.
    pub fn expire(&mut self, now: Mono) -> Option<Ended> {
        forget_ended(&mut self.deadlines, &self.out);
        let Reverse((deadline, token)) = *self.deadlines.peek()?;
        if deadline > now {
            return None;
        }
        let (end, fate) = match self.out.get(&token)?.launch {
            Launch::OnTheWire(sent) => (timeout(now.since(sent)), Fate::TimedOut),
            Launch::Handed => (End::Missed(Miss::Unreported), Fate::Other),
        };
        self.end(token, end, fate)
    }

    /// Ends one of those that are still out, because we stop.
    pub fn abandon(&mut self) -> Option<Ended> {
        let token = *self.out.keys().next()?;
        self.end(token, End::Missed(Miss::Stopped), Fate::Other)
    }

    /// When the next one expires, or is overdue. `None`: none is out.
    pub fn next_deadline(&mut self) -> Option<Mono> {
        forget_ended(&mut self.deadlines, &self.out);
        forget_ended(&mut self.overdue, &self.out);
        let heads = [self.deadlines.peek(), self.overdue.peek()];
        heads.into_iter().flatten().map(|Reverse((moment, _))| *moment).min()
    }

    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    fn answer(
        &mut self,
        token: Token,
        errand: Errand,
        outcome: Outcome,
        heard: Heard,
    ) -> (Option<Ended>, Option<Noise>) {
        let Some(flight) = self.out.get(&token) else { return (None, Some(self.past.explain(token, errand))) };
        if flight.order.errand != errand {
            return (None, Some(Noise::Stranger));
        }
        let sent = flight.launch.sent().unwrap_or(flight.due.at);
        // What a reflector says of its own time is believed only where it fits into the whole.
        let Some(RoundTrip { time: rtt, stamp_refused }) = heard.round_trip(sent) else {
            let end = End::Counted(Outcome::Failure(FailureKind::Protocol), Duration::ZERO);
            return (self.end(token, end, Fate::Replied), None);
        };
        self.refused_stamps += u64::from(stamp_refused);
        if rtt <= flight.order.timeout {
            return (self.end(token, End::Counted(outcome, rtt), Fate::Replied), None);
        }
        (self.end(token, timeout(rtt), Fate::Replied), Some(Noise::Late))
    }

    fn end(&mut self, token: Token, end: End, fate: Fate) -> Option<Ended> {
        let Flight { due, order: Order { errand, .. }, way, standing, .. } = self.out.remove(&token)?;
        if let Some(out) = self.of_probe.get_mut(&due.probe) {
            *out -= 1;
        }
        self.past.remember(token, errand, fate);
        Some(Ended { due, way, standing, end })
    }
}

/// Takes those that have ended off the top.
fn forget_ended(heap: &mut BinaryHeap<Reverse<(Mono, Token)>>, out: &HashMap<Token, Flight>) {
    while let Some(head) = heap.peek_mut() {
        let Reverse((_, token)) = *head;
        if out.contains_key(&token) {
            return;
        }
        PeekMut::pop(head);
    }
}

fn timeout(after: Duration) -> End {
    End::Counted(Outcome::Failure(FailureKind::Timeout), after)
}

#[cfg(test)]
mod tests;
