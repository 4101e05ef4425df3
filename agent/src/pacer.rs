//! The thread that owns the clock and the sockets. A tick sends what is due, settles what was heard, and hands over the
//! windows that are closed; the loop around it only reads the clock and waits.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use runtime::{Mono, Shutdown, timer};
use tracing::warn;

use crate::flights::{End, Ended, Flights, Miss};
use crate::meters::Instruments;
use crate::now::Now;
use crate::plan::{Plan, Planned, ProbeIndex};
use crate::probe::wire::Wire;
use crate::probe::{Order, Prober, Report};
use crate::record::{Handover, Part, Recorder, Shown};
use crate::schedule::{Cadence, Due, Schedule};

/// How long a shutdown waits for probes in flight; the push needs time after it.
const DRAIN: Duration = Duration::from_secs(4);

pub struct Pacer {
    plan: Plan,
    schedule: Schedule,
    flights: Flights,
    recorder: Recorder,
    outbox: SyncSender<Handover>,
    tally: Instruments,
    lateness: Vec<Duration>,
    certificates: BTreeMap<ProbeIndex, Shown>,
    heard: Vec<Report>,
    /// What the log has told already.
    told: HashSet<&'static str>,
}

impl Pacer {
    pub fn new(plan: Plan, window: Duration, outbox: SyncSender<Handover>, tally: Instruments, now: Now) -> Self {
        let cadence = |planned: &Planned| Cadence::of(&planned.subject.series, planned.every);
        let cadences = plan.probes().iter().map(cadence).collect();
        Self {
            schedule: Schedule::start(cadences, now),
            flights: Flights::new(rand::random()),
            recorder: Recorder::new(plan.probes().iter().map(Planned::aspect), window, now.wall),
            plan,
            outbox,
            tally,
            lateness: Vec::new(),
            certificates: BTreeMap::new(),
            heard: Vec::new(),
            told: HashSet::new(),
        }
    }

    /// Probes until the shutdown; then waits for what is in flight, for a while, and hands everything over.
    pub fn run(mut self, mut wire: Wire, shutdown: &Shutdown) -> io::Result<()> {
        if let Err(error) = timer::fine_timers() {
            warn!(%error, "the kernel keeps its timer slack; sends are up to 50 µs late");
        }
        while !shutdown.is_cancelled() {
            let now = wire.now();
            self.tick(now, &mut wire);
            wire.wait_until(self.wake_at(now))?;
        }
        self.schedule.stop();
        let give_up = wire.now().mono + DRAIN;
        loop {
            let now = wire.now();
            self.tick(now, &mut wire);
            if self.flights.is_empty() || now.mono >= give_up {
                self.finish(now);
                return Ok(());
            }
            wire.wait_until(self.wake_at(now).min(Some(give_up)))?;
        }
    }

    /// One reading of the clock, and all that follows from it.
    pub fn tick(&mut self, now: Now, prober: &mut impl Prober) {
        while let Some(due) = self.schedule.pop(now) {
            self.launch(due, now.mono, prober);
        }
        let skipped = self.schedule.take_skipped();
        self.missed(Miss::Skipped, skipped);
        let mut heard = std::mem::take(&mut self.heard);
        prober.heard(&mut heard);
        for report in heard.drain(..) {
            let (ended, noise) = self.flights.settle(report);
            if let Some(noise) = noise {
                self.tally.noise(noise);
            }
            if let Some(ended) = ended {
                self.end(&ended);
            }
        }
        self.heard = heard;
        while let Some(ended) = self.flights.expire(now.mono) {
            self.end(&ended);
        }
        let parts = self.recorder.close(now.wall);
        self.hand_over(parts, now);
    }

    /// When there is something to do without anything being heard. `None`: never.
    pub fn wake_at(&mut self, now: Now) -> Option<Mono> {
        let slot_ends = now.mono_at(self.recorder.slot_ends());
        [self.schedule.next(), self.flights.next_deadline(), slot_ends].into_iter().flatten().min()
    }

    /// What is still out is missed, and every window is closed.
    pub fn finish(&mut self, now: Now) {
        while let Some(ended) = self.flights.abandon() {
            self.end(&ended);
        }
        let parts = self.recorder.finish(now.wall);
        self.hand_over(parts, now);
    }

    fn launch(&mut self, due: Due, now: Mono, prober: &mut impl Prober) {
        let planned = self.plan.get(due.probe);
        let Some(token) = self.flights.token(due.probe) else { return self.missed(Miss::Crowded, 1) };
        let order = Order { token, errand: planned.errand, timeout: planned.timeout };
        match prober.send(order) {
            Ok(launch) => {
                self.tally.sent(planned.subject.series.probe.as_str());
                self.lateness.push(launch.sent().unwrap_or(now).since(due.at));
                self.flights.begin(due, order, launch, now);
                self.recorder.begin(due);
            }
            Err(fault) => self.missed(Miss::NotSent(fault), 1),
        }
    }

    fn end(&mut self, ended: &Ended) {
        match &ended.end {
            End::Missed(miss) => self.missed(*miss, 1),
            End::Counted(..) | End::Phased(..) => self.tally.ended(&ended.end),
        }
        if let End::Phased(_, Some(not_after)) = ended.end {
            self.certificates.insert(ended.due.probe, Shown { not_after, at: ended.due.wall });
        }
        self.recorder.record(ended);
    }

    /// Every miss is counted; each reason is logged once.
    fn missed(&mut self, miss: Miss, count: u64) {
        if count == 0 {
            return;
        }
        self.tally.missed(miss, count);
        if self.told.insert(miss.as_str()) {
            warn!(reason = miss.as_str(), %miss, "probes are missed; told once, counted always");
        }
    }

    fn hand_over(&mut self, parts: Vec<Part>, now: Now) {
        if parts.is_empty() {
            return;
        }
        let count = parts.len();
        let (lateness, certificates) = (std::mem::take(&mut self.lateness), std::mem::take(&mut self.certificates));
        if self.outbox.try_send(Handover { parts, lateness, certificates, at: now.wall }).is_err() {
            self.tally.windows_dropped(count);
        }
    }
}

#[cfg(test)]
mod tests;
