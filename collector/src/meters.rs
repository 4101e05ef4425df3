//! The collector's own meters: every name, unit and help stands here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use journal::Position;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Meter};
use runtime::meters::Meters;
use telemetry::ReceiverName;

use crate::admission::Gate;
use crate::core::Snapshots;
use crate::history::{History, Standing};
use crate::log::Appender;

#[derive(Debug, Clone)]
pub struct Ingested {
    batches: Counter<u64>,
    bytes: Counter<u64>,
    refused: Counter<u64>,
    refused_points: Counter<u64>,
}

impl Ingested {
    pub fn new(meters: &Meters) -> Self {
        let meter = meters.meter("isochrone-collector");
        Self {
            batches: counter(&meter, "isochrone.ingest.batches", "{batch}", "Batches acknowledged, durable."),
            bytes: counter(&meter, "isochrone.ingest.bytes", "By", "Bytes of acknowledged batches, as received."),
            refused: counter(&meter, "isochrone.ingest.refused", "{batch}", "Batches refused, by reason."),
            refused_points: counter(
                &meter,
                "isochrone.ingest.refused_points",
                "{point}",
                "Points refused in batches that were taken.",
            ),
        }
    }

    pub fn taken(&self, bytes: usize, refused_points: u64) {
        self.batches.add(1, &[]);
        self.bytes.add(bytes as u64, &[]);
        self.refused_points.add(refused_points, &[]);
    }

    pub fn refused(&self, reason: &'static str) {
        self.refused.add(1, &[KeyValue::new("reason", reason)]);
    }
}

/// What was sent on.
#[derive(Debug)]
pub struct Exported {
    batches: Counter<u64>,
    cut: Counter<u64>,
    retries: Counter<u64>,
    next: Arc<AtomicU64>,
}

impl Exported {
    pub fn new(meters: &Meters, log: &Appender, next: Position) -> Self {
        let meter = meters.meter("isochrone-collector");
        let (log, next) = (log.clone(), Arc::new(AtomicU64::new(next.0)));
        let at = Arc::clone(&next);
        meter
            .u64_observable_gauge("isochrone.export.behind")
            .with_unit("{entry}")
            .with_description("Entries of the log that were not looked at yet, to send batches on.")
            .with_callback(move |it| it.observe(log.durable().0.saturating_sub(at.load(Ordering::Relaxed)), &[]))
            .build();
        Self {
            batches: counter(&meter, "isochrone.export.batches", "{batch}", "Batches sent on, by what became of them."),
            cut: counter(
                &meter,
                "isochrone.export.cut",
                "{entry}",
                "Entries of the log, batches and others, that were cut away before batches could be sent on.",
            ),
            retries: counter(&meter, "isochrone.export.retries", "{try}", "Tries that the receiver asked to repeat."),
            next,
        }
    }

    pub fn at(&self, next: Position) {
        self.next.store(next.0, Ordering::Relaxed);
    }

    pub fn sent(&self) {
        self.batches.add(1, &[KeyValue::new("outcome", "sent")]);
    }

    pub fn refused(&self) {
        self.batches.add(1, &[KeyValue::new("outcome", "refused")]);
    }

    pub fn retried(&self) {
        self.retries.add(1, &[]);
    }

    pub fn cut(&self, entries: u64) {
        self.cut.add(entries, &[]);
    }
}

/// Gauges that are read off the state when someone asks.
pub fn observe(meters: &Meters, snapshots: &Snapshots, log: &Appender) {
    let meter = meters.meter("isochrone-collector");
    let log = log.clone();
    let gauge = |name, unit, help| meter.u64_observable_gauge(name).with_unit(unit).with_description(help);
    gauge("isochrone.log.size", "By", "Bytes of the log on disk.")
        .with_callback(move |it| it.observe(log.bytes(), &[]))
        .build();
    let state = snapshots.clone();
    gauge("isochrone.live.series", "{series}", "Series with data in the last minutes.")
        .with_callback(move |it| it.observe(state.state().rings.iter().count() as u64, &[]))
        .build();
    let state = snapshots.clone();
    meter
        .u64_observable_counter("isochrone.fold.points")
        .with_unit("{point}")
        .with_description("Points by what became of them.")
        .with_callback(move |it| {
            let tally = state.state().tally;
            let outcomes = [
                ("counted", tally.points),
                ("repeated", tally.repeated_points),
                ("late", tally.late_points),
                ("early", tally.early_points),
                ("beyond", tally.beyond_points),
            ];
            for (outcome, count) in outcomes {
                it.observe(count, &[KeyValue::new("outcome", outcome)]);
            }
        })
        .build();
    let state = snapshots.clone();
    meter
        .u64_observable_counter("isochrone.fold.moved_points")
        .with_unit("{point}")
        .with_description("Points that were moved in time, since their agent's clock is off by more than 5 minutes.")
        .with_callback(move |it| it.observe(state.state().tally.moved_points, &[]))
        .build();
    let state = snapshots.clone();
    meter
        .u64_observable_counter("isochrone.fold.clock_leaps")
        .with_unit("{leap}")
        .with_description("Marks more than 5 minutes away from the one before: a pause, or a clock that was set.")
        .with_callback(move |it| it.observe(state.state().clock.leaps, &[]))
        .build();
    let state = snapshots.clone();
    meter
        .u64_observable_counter("isochrone.fold.batches")
        .with_unit("{batch}")
        .with_description(
            "Batches by what became of them; retired: of boots that are over, which may have been counted.",
        )
        .with_callback(move |it| {
            let tally = state.state().tally;
            it.observe(tally.batches, &[KeyValue::new("outcome", "counted")]);
            it.observe(tally.repeated_batches, &[KeyValue::new("outcome", "repeated")]);
            it.observe(tally.retired_batches, &[KeyValue::new("outcome", "retired")]);
        })
        .build();
    let state = snapshots.clone();
    meter
        .u64_observable_counter("isochrone.fold.beyond_certificates")
        .with_unit("{certificate}")
        .with_description("Certificates of new probes beyond the bounds, which are not kept.")
        .with_callback(move |it| it.observe(state.state().tally.beyond_certificates, &[]))
        .build();
}

/// What was let in and is not folded yet.
pub fn observe_gate(meters: &Meters, gate: &Gate) {
    let meter = meters.meter("isochrone-collector");
    let gauge = |name, unit, help| meter.u64_observable_gauge(name).with_unit(unit).with_description(help);
    let waiting = gate.clone();
    gauge("isochrone.ingest.waiting", "{batch}", "Batches that were let in and are not folded yet.")
        .with_callback(move |it| it.observe(waiting.waiting().batches as u64, &[]))
        .build();
    let waiting = gate.clone();
    gauge("isochrone.ingest.waiting_size", "By", "Bytes that these hold, as sent and inflated.")
        .with_callback(move |it| it.observe(waiting.waiting().bytes as u64, &[]))
        .build();
}

/// How far history is, and what it takes.
pub fn observe_history(meters: &Meters, history: &History, log: &Appender) {
    let meter = meters.meter("isochrone-collector");
    let (log, of) = (log.clone(), history.clone());
    meter
        .u64_observable_gauge("isochrone.history.behind")
        .with_unit("{entry}")
        .with_description("Entries of the log that are durable there and not stored in history yet.")
        .with_callback(move |it| it.observe(log.durable().0.saturating_sub(of.stored().0), &[]))
        .build();
    let of = history.clone();
    meter
        .u64_observable_gauge("isochrone.history.size")
        .with_unit("By")
        .with_description("Bytes of history on disk, by tier.")
        .with_callback(move |it| {
            for (tier, bytes) in of.bytes() {
                it.observe(bytes, &[KeyValue::new("tier", tier.as_str())]);
            }
        })
        .build();
    let of = history.clone();
    meter
        .u64_observable_counter("isochrone.history.failures")
        .with_unit("{failure}")
        .with_description(
            "Times that something could not be stored in history. It is tried again, and the log is kept.",
        )
        .with_callback(move |it| it.observe(of.failures(), &[]))
        .build();
    let of = history.clone();
    meter
        .u64_observable_gauge("isochrone.history.standing")
        .with_unit("{history}")
        .with_description(
            "1 for how it stands: kept; refused, to be tried again; or lapsed until the next start. The log has it all.",
        )
        .with_callback(move |it| {
            let now = of.standing();
            for standing in Standing::ALL {
                it.observe(u64::from(standing == now), &[KeyValue::new("standing", standing.as_str())]);
            }
        })
        .build();
    let of = history.clone();
    meter
        .u64_observable_counter("isochrone.history.expired_points")
        .with_unit("{point}")
        .with_description("Points that came after their hour had been dropped from history.")
        .with_callback(move |it| it.observe(of.expired(), &[]))
        .build();
}

/// What the outbox holds and what became of the rest, read off the state.
pub fn observe_outbox(meters: &Meters, snapshots: &Snapshots) {
    let meter = meters.meter("isochrone-collector");
    let receiver = |name: &ReceiverName| KeyValue::new("receiver", name.to_string());
    let state = snapshots.clone();
    meter
        .u64_observable_counter("isochrone.alerts.deliveries")
        .with_unit("{delivery}")
        .with_description("Attempts to deliver, and rows given up without one, by receiver and outcome.")
        .with_callback(move |it| {
            for (name, outcome, count) in state.state().alerts.outbox.counts() {
                it.observe(count, &[receiver(name), KeyValue::new("outcome", outcome.as_str())]);
            }
        })
        .build();
    let state = snapshots.clone();
    meter
        .u64_observable_gauge("isochrone.alerts.waiting")
        .with_unit("{row}")
        .with_description("Rows of the outbox that wait to be delivered.")
        .with_callback(move |it| {
            for (name, rows, _) in state.state().alerts.outbox.backlog() {
                it.observe(rows as u64, &[receiver(name)]);
            }
        })
        .build();
    let state = snapshots.clone();
    meter
        .f64_observable_gauge("isochrone.alerts.oldest")
        .with_unit("s")
        .with_description("Age of the oldest row that waits to be delivered.")
        .with_callback(move |it| {
            let state = state.state();
            for (name, _, oldest) in state.alerts.outbox.backlog() {
                let age = oldest.map_or(0.0, |oldest| state.now.since(oldest).as_secs_f64());
                it.observe(age, &[receiver(name)]);
            }
        })
        .build();
}

fn counter(meter: &Meter, name: &'static str, unit: &'static str, help: &'static str) -> Counter<u64> {
    meter.u64_counter(name).with_unit(unit).with_description(help).build()
}
