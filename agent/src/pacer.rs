//! The thread that owns the clock and the sockets. A tick sends what is due, settles what was heard, and hands over the
//! windows that are closed; the loop around it only reads the clock and waits.

use std::collections::HashSet;
use std::io;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use runtime::{Mono, Shutdown, timer};
use telemetry::{Outcome, Standing};
use tracing::warn;

use crate::confirm::Confirm;
use crate::flights::{End, Ended, Flights, Miss};
use crate::meters::{Instruments, Suspicion};
use crate::now::Now;
use crate::plan::{Errand, Plan, Planned, ProbeIndex};
use crate::ports::Ports;
use crate::probe::wire::Wire;
use crate::probe::{Launch, Order, Prober, Report, Way};
use crate::record::{Handover, Part, Recorder, Shown};
use crate::schedule::{Due, Schedule};
use crate::trains::{self, Train, Trains};
use crate::wellness::{self, Wellness};

/// How long a shutdown waits for probes in flight; the push needs time after it.
const DRAIN: Duration = Duration::from_secs(4);

pub struct Pacer {
    plan: Plan,
    schedule: Schedule,
    flights: Flights,
    trains: Trains,
    confirm: Confirm,
    ports: Ports,
    wellness: Wellness,
    recorder: Recorder,
    outbox: SyncSender<Handover>,
    tally: Instruments,
    /// What goes along with the next windows; what was missed goes at a slot's end without any.
    beside: Handover,
    heard: Vec<Report>,
    /// What the log has told already.
    told: HashSet<&'static str>,
}

impl Pacer {
    pub fn new(
        plan: Plan,
        window: Duration,
        confirms_per_second: u32,
        outbox: SyncSender<Handover>,
        tally: Instruments,
        now: Now,
    ) -> Self {
        let count = plan.probes().len();
        Self {
            schedule: Schedule::of_plan(plan.probes(), now),
            flights: Flights::new(rand::random()),
            trains: Trains::default(),
            confirm: Confirm::new(plan.probes().iter().map(Planned::confirms), confirms_per_second, now.mono),
            ports: Ports::new(count, now.mono),
            wellness: Wellness::new(now.mono),
            recorder: Recorder::new(plan.probes().iter().map(Planned::aspect), window, now.wall),
            plan,
            outbox,
            tally,
            beside: Handover::default(),
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
        self.confirm.stop();
        let give_up = wire.now().mono + DRAIN;
        loop {
            let now = wire.now();
            self.tick(now, &mut wire);
            if (self.flights.is_empty() && self.trains.next().is_none()) || now.mono >= give_up {
                self.finish(now);
                return Ok(());
            }
            wire.wait_until(self.wake_at(now).min(Some(give_up)))?;
        }
    }

    /// One reading of the clock, and all that follows from it.
    pub fn tick(&mut self, now: Now, prober: &mut impl Prober) {
        self.measure_floor(now.mono, prober);
        while let Some(due) = self.schedule.pop(now) {
            self.launch(due, now.mono, prober);
        }
        for (probe, count) in self.schedule.take_skipped() {
            self.missed(probe, Miss::Skipped, count);
        }
        self.send_trains(now.mono, prober);
        self.hear(now, prober);
        while let Some(ended) = self.flights.expire(now.mono) {
            self.end(ended, now.mono);
        }
        while let Some(ended) = self.trains.pop(now.mono) {
            self.end(ended, now.mono);
        }
        let unwell = self.wellness.is_unwell(now.mono);
        while let Some((probe, way)) = self.flights.overdue(now.mono) {
            // What is slow while we are may be slow through us.
            if !unwell {
                self.doubt(probe, way, now.mono);
            }
        }
        while let Some((probe, way)) = self.confirm.pop(now.mono) {
            self.launch_confirming(probe, way, now, prober);
        }
        self.beside.losing_ports.extend(self.ports.news(now.mono));
        let slot_ends = self.recorder.slot_ends();
        let parts = self.recorder.close(now.wall);
        // What was missed has no window to go along with where nothing was sent.
        let untold = slot_ends != self.recorder.slot_ends() && !self.beside.missed.is_empty();
        if untold || !parts.is_empty() {
            self.hand_over(parts, now);
        }
    }

    /// When there is something to do without anything being heard. `None`: never.
    pub fn wake_at(&mut self, now: Now) -> Option<Mono> {
        let slot_ends = now.mono_at(self.recorder.slot_ends());
        let ours = [self.schedule.next(), self.trains.next(), self.confirm.next(), self.flights.next_deadline()];
        ours.into_iter().chain([Some(self.wellness.next()), slot_ends]).flatten().min()
    }

    /// What is still out is missed, and every window is closed.
    pub fn finish(&mut self, now: Now) {
        while let Some(ended) = self.flights.abandon().or_else(|| self.trains.abandon()) {
            self.end(ended, now.mono);
        }
        let parts = self.recorder.finish(now.wall);
        if !parts.is_empty() || !self.beside.missed.is_empty() {
            self.hand_over(parts, now);
        }
    }

    fn measure_floor(&mut self, now: Mono, prober: &mut impl Prober) {
        if self.wellness.begin_tick(now) {
            let (token, errand) = (self.flights.token_beside(), Errand::Floor);
            let launch = prober.send(Order { token, errand, timeout: wellness::LIMIT, way: Way::default() });
            let sent = launch.ok().and_then(Launch::sent);
            self.wellness.asked(sent.map(|sent| (token, sent)));
        }
    }

    fn launch(&mut self, due: Due, now: Mono, prober: &mut impl Prober) {
        let planned = self.plan.get(due.probe);
        let way = self.ports.take_turn(due.probe);
        if let Some(packets) = planned.train {
            self.trains.begin(due, planned, way, packets);
            self.recorder.begin(due);
            return;
        }
        let Some(token) = self.flights.token(due.probe) else { return self.missed(due.probe, Miss::Crowded, 1) };
        let order = Order { token, errand: planned.errand(), timeout: planned.timeout, way };
        match prober.send(order) {
            Ok(launch) => {
                let late = launch.sent().unwrap_or(now).since(due.at);
                self.tally.sent(planned.subject.series.probe.as_str());
                self.wellness.sent(late);
                self.beside.lateness.push(late);
                self.flights.begin(due, order, launch, Standing::Regular, now);
                if order.errand.is_datagram()
                    && let Some(patience) = self.confirm.patience(due.probe).filter(|it| *it < order.timeout)
                {
                    self.flights.expect(token, patience);
                }
                self.recorder.begin(due);
            }
            Err(fault) => self.missed(due.probe, Miss::NotSent(fault), 1),
        }
    }

    /// Nobody waits for a confirming probe longer than is usual: it is asked because a reply is already late.
    fn launch_confirming(&mut self, probe: ProbeIndex, way: Way, now: Now, prober: &mut impl Prober) {
        let planned = self.plan.get(probe);
        let token = self.flights.token_beside();
        let timeout = self.confirm.patience(probe).map_or(planned.timeout, |patience| patience.min(planned.timeout));
        let order = Order { token, errand: planned.errand(), timeout, way };
        match prober.send(order) {
            Ok(launch) => {
                let due = Due { probe, at: now.mono, wall: now.wall };
                self.tally.sent(planned.subject.series.probe.as_str());
                self.flights.begin(due, order, launch, Standing::Confirming, now.mono);
                self.recorder.begin(due);
            }
            Err(fault) => {
                self.confirm.ended(probe, None);
                self.missed(probe, Miss::NotSent(fault), 1);
            }
        }
    }

    fn send_trains(&mut self, now: Mono, prober: &mut impl Prober) {
        let Self { flights, trains, wellness, beside, tally, .. } = self;
        let missed = trains.send(now, |train, due| {
            let Train { errand, timeout, way, .. } = *train;
            let token = flights.token_lent(errand);
            let sent = prober.send(Order { token, errand, timeout, way }).map(|launch| launch.sent().unwrap_or(now));
            if let Ok(sent) = sent {
                tally.sent(trains::PROBE);
                wellness.sent(sent.since(due));
                beside.lateness.push(sent.since(due));
            }
            (token, sent)
        });
        for (probe, fault) in missed {
            self.missed(probe, Miss::NotSent(fault), 1);
        }
    }

    fn hear(&mut self, now: Now, prober: &mut impl Prober) {
        let mut heard = std::mem::take(&mut self.heard);
        prober.heard(&mut heard);
        for report in heard.drain(..) {
            if self.wellness.hear(&report) {
                continue;
            }
            if self.trains.hear(&report) {
                if let Report::Answer { token, errand, .. } = report {
                    self.flights.replied_beside(token, errand);
                }
                continue;
            }
            if matches!(report, Report::OtherPort { .. }) {
                self.tally.other_port();
            }
            let (ended, noise) = self.flights.settle(report);
            if let Some(noise) = noise {
                self.tally.noise(noise);
            }
            if let Some(ended) = ended {
                self.end(ended, now.mono);
            }
        }
        self.heard = heard;
        self.tally.stamps_refused(self.flights.take_refused_stamps());
    }

    fn end(&mut self, mut ended: Ended, now: Mono) {
        let probe = ended.due.probe;
        if let End::Missed(miss) = ended.end {
            self.missed(probe, miss, 1);
        } else {
            self.tally.ended(&ended.end);
            if ended.standing == Standing::Regular && self.wellness.is_unwell(now) {
                ended.standing = Standing::Suspect;
                self.tally.suspect();
            }
        }
        if let End::Phased(_, Some(not_after)) = ended.end {
            self.beside.certificates.insert(probe, Shown { not_after, at: ended.due.wall });
        }
        self.recorder.record(&ended);
        if let End::Counted(outcome, took) = ended.end {
            self.learn(&ended, outcome, took, now);
        } else if ended.standing == Standing::Confirming {
            self.confirm.ended(probe, None);
        }
    }

    /// What an outcome says beyond its window.
    fn learn(&mut self, ended: &Ended, outcome: Outcome, took: Duration, now: Mono) {
        let Ended { due: Due { probe, .. }, way, standing, .. } = *ended;
        let (failed, errand) = (outcome != Outcome::Reply, self.plan.get(probe).toward());
        if let Some(way) = way.filter(|_| errand.has_ports() && standing != Standing::Suspect) {
            self.ports.count(probe, way, failed, now);
        }
        match standing {
            Standing::Regular if failed && errand.is_datagram() => self.doubt(probe, way.unwrap_or_default(), now),
            Standing::Regular if !failed => self.confirm.replied(probe, took),
            Standing::Confirming if self.confirm.ended(probe, Some(failed)) => {
                self.tally.suspicion(Suspicion::Confirmed);
                self.recorder.hurry(probe);
            }
            Standing::Regular | Standing::Confirming | Standing::Suspect => {}
        }
    }

    fn doubt(&mut self, probe: ProbeIndex, way: Way, now: Mono) {
        if !self.confirm.doubt(probe, way, now) {
            self.tally.suspicion(Suspicion::OverBudget);
        }
    }

    /// Every miss is counted, of the agent and of its probe; each reason is logged once.
    fn missed(&mut self, probe: ProbeIndex, miss: Miss, count: u64) {
        self.tally.missed(miss, count);
        *self.beside.missed.entry((probe, miss.as_str())).or_default() += count;
        if self.told.insert(miss.as_str()) {
            warn!(reason = miss.as_str(), %miss, "probes are missed; told once, counted always");
        }
    }

    fn hand_over(&mut self, parts: Vec<Part>, now: Now) {
        let count = parts.len();
        let noise_floor = self.wellness.take_floor();
        let handover = Handover { parts, noise_floor, at: now.wall, ..std::mem::take(&mut self.beside) };
        if self.outbox.try_send(handover).is_err() {
            self.tally.windows_dropped(count);
        }
    }
}

#[cfg(test)]
mod tests;
