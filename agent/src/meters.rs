//! The agent's own meters: every name, unit and help in one place. They say what the windows cannot: what was not sent, and
//! what was heard that counts for nothing.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge};
use runtime::meters::Meters;
use telemetry::Outcome;

use crate::flights::{End, Miss, Noise};
use crate::names::{Answer, Tally};

#[derive(Debug, Clone)]
pub struct Instruments {
    /// An instrument counts only as long as its provider lives.
    meters: Meters,
    sent: Counter<u64>,
    ended: Counter<u64>,
    missed: Counter<u64>,
    noise: Counter<u64>,
    stamps_refused: Counter<u64>,
    other_ports: Counter<u64>,
    confirms: Counter<u64>,
    suspects: Counter<u64>,
    unfolded: Counter<u64>,
    pushed: Counter<u64>,
    retried: Counter<u64>,
    collector: Gauge<u64>,
    moves: Counter<u64>,
    points_refused: Counter<u64>,
    spool_dropped: Counter<u64>,
    names_asked: Counter<u64>,
    names_moved: Counter<u64>,
    spool_unwritten: Counter<u64>,
}

/// What became of a batch at the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Taken,
    Refused,
}

/// What became of the suspicion that a target does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspicion {
    Confirmed,
    /// Nothing was sent to confirm it.
    OverBudget,
}

impl Instruments {
    pub fn new(meters: &Meters) -> Self {
        let meter = meters.meter("isochrone.agent");
        let counter = |name, unit, help| meter.u64_counter(name).with_unit(unit).with_description(help).build();
        Self {
            meters: meters.clone(),
            sent: counter("isochrone.agent.probe.sent", "{probe}", "Probes sent, by probe."),
            ended: counter("isochrone.agent.probe.ended", "{probe}", "Probes that ended, by outcome."),
            missed: counter("isochrone.agent.probe.missed", "{probe}", "Probes that say nothing, by our own reason."),
            noise: counter("isochrone.agent.noise", "{packet}", "Packets that count for no series, by reason."),
            stamps_refused: counter(
                "isochrone.agent.stamps.refused",
                "{packet}",
                "Packets whose kernel stamp lay before the send or after the read.",
            ),
            other_ports: counter(
                "isochrone.agent.ports.other",
                "{probe}",
                "Probes from a port that the kernel chose: their own had a connection to there.",
            ),
            confirms: counter("isochrone.agent.confirm", "{burst}", "Suspicions, by what became of them."),
            suspects: counter("isochrone.agent.suspect", "{probe}", "Probes that ended while this agent was unwell."),
            unfolded: counter("isochrone.agent.window.dropped", "{window}", "Windows dropped: the encoder was behind."),
            pushed: counter("isochrone.agent.push.batches", "{batch}", "Batches that left the spool, by fate."),
            retried: counter("isochrone.agent.push.retries", "{attempt}", "Attempts that have to be made again."),
            collector: meter
                .u64_gauge("isochrone.agent.push.collector")
                .with_description(
                    "The collector that batches go to, by its place in the configuration; 0: the preferred.",
                )
                .build(),
            moves: counter("isochrone.agent.push.moves", "{move}", "Changes of that collector, by reason."),
            points_refused: counter(
                "isochrone.agent.push.points.refused",
                "{point}",
                "Points refused in batches taken.",
            ),
            spool_dropped: counter(
                "isochrone.agent.spool.dropped",
                "{batch}",
                "Batches dropped, oldest first: spool full, or they were too old.",
            ),
            spool_unwritten: counter(
                "isochrone.agent.spool.unwritten",
                "{batch}",
                "Batches that wait in memory: the spool's disk did not take them.",
            ),
            names_asked: counter("isochrone.agent.names.asked", "{question}", "Names asked for again, by answer."),
            names_moved: counter("isochrone.agent.names.moved", "{change}", "Names that changed their address."),
        }
    }

    /// As Prometheus text.
    pub fn render(&self) -> String {
        self.meters.render()
    }

    pub fn sent(&self, probe: &str) {
        self.sent.add(1, &[KeyValue::new("probe", probe.to_owned())]);
    }

    /// By the outcome of its last phase: that is whether the probe got what it went for.
    pub fn ended(&self, end: &End) {
        match end {
            End::Counted(outcome, _) => self.ended_with(*outcome),
            End::Phased(samples, _) => samples.last().into_iter().for_each(|last| self.ended_with(last.outcome)),
            End::Missed(miss) => self.missed(*miss, 1),
        }
    }

    fn ended_with(&self, outcome: Outcome) {
        self.ended.add(1, &[KeyValue::new("outcome", outcome_word(outcome))]);
    }

    pub fn missed(&self, miss: Miss, count: u64) {
        self.missed.add(count, &[KeyValue::new("reason", miss.as_str())]);
    }

    pub fn noise(&self, noise: Noise) {
        self.noise.add(1, &[KeyValue::new("reason", noise.as_str())]);
    }

    pub fn stamps_refused(&self, count: u64) {
        if count > 0 {
            self.stamps_refused.add(count, &[]);
        }
    }

    pub fn other_port(&self) {
        self.other_ports.add(1, &[]);
    }

    pub fn suspicion(&self, fate: Suspicion) {
        let fate = match fate {
            Suspicion::Confirmed => "confirmed",
            Suspicion::OverBudget => "over-budget",
        };
        self.confirms.add(1, &[KeyValue::new("fate", fate)]);
    }

    pub fn suspect(&self) {
        self.suspects.add(1, &[]);
    }

    pub fn windows_dropped(&self, count: usize) {
        self.unfolded.add(count as u64, &[]);
    }

    pub fn pushed(&self, fate: Fate) {
        let fate = match fate {
            Fate::Taken => "taken",
            Fate::Refused => "refused",
        };
        self.pushed.add(1, &[KeyValue::new("fate", fate)]);
    }

    pub fn retried(&self) {
        self.retried.add(1, &[]);
    }

    /// Batches go to the collector at that place of the configuration.
    pub fn collector_moved(&self, place: usize, reason: &'static str) {
        self.collector.record(place as u64, &[]);
        self.moves.add(1, &[KeyValue::new("reason", reason)]);
    }

    pub fn points_refused(&self, count: u64) {
        self.points_refused.add(count, &[]);
    }

    pub fn spool_dropped(&self, count: u64) {
        self.spool_dropped.add(count, &[]);
    }

    pub fn spool_unwritten(&self, count: u64) {
        if count > 0 {
            self.spool_unwritten.add(count, &[]);
        }
    }
}

impl Tally for Instruments {
    fn asked(&self, answer: &Answer) {
        let answer = match answer {
            Answer::Found { .. } => "found",
            Answer::Absent { .. } => "absent",
            Answer::Silent(_) => "silent",
        };
        self.names_asked.add(1, &[KeyValue::new("answer", answer)]);
    }

    fn moved(&self) {
        self.names_moved.add(1, &[]);
    }
}

fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Reply => "reply",
        Outcome::Failure(kind) => kind.as_str(),
    }
}
