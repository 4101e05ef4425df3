//! Probing by hand: so many probes of one kind at one address, or until somebody has seen enough, and a summary of what became
//! of them. The probes are those of `run`, sent through the same wire; there is no plan to keep, no window and no collector.

mod args;
mod histogram;
mod live;
mod samples;
mod summary;
#[cfg(test)]
mod tests;
mod text;

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use runtime::{Clock, Mono, Shutdown, Tasks};
use telemetry::Standing;

use crate::config::{AddressChoice, Collector, Config, FamilyChoice, IcmpBy, Limits, Probe, ProbeKind, Target};
use crate::endpoint::{Endpoint, Host};
use crate::flights::{Ended, Flights, Miss};
use crate::names;
use crate::now::Now;
use crate::plan::{Errand, Plan, Planned, ProbeIndex};
use crate::probe::wire::Wire;
use crate::probe::{Order, Prober, SendFault, WAYS, Way};
use crate::schedule::Due;

pub use args::Args;
pub use live::Live;
pub use summary::Summary;
pub use text::USUAL_COLUMNS;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Trial {
    pub endpoint: Endpoint,
    pub probe: Probe,
    /// `None`: until it is told to stop.
    pub count: Option<u32>,
}

/// A trial under way.
#[derive(Debug)]
struct Course {
    plan: Plan,
    every: Duration,
    count: Option<u32>,
    begun: u32,
    start: Mono,
    next: Mono,
    flights: Flights,
    summary: Summary,
}

/// Starts a trial as a thread; when it is over, `tell` gets its summary and the shutdown is called. A shutdown from outside
/// ends it at once, with what it has by then.
pub async fn start(
    trial: &Trial,
    tasks: &Tasks,
    mut live: Live,
    tell: impl FnOnce(&Summary) -> io::Result<()> + Send + 'static,
) -> io::Result<()> {
    let config = trial.config();
    let plan = Plan::new(&config, &names::resolve(&config).await);
    let mut wire = Wire::open(&plan, None, Clock::start(), tasks)?;
    let mut course = Course::new(trial, plan, wire.now());
    let (bell, stopping) = (wire.bell(), tasks.shutdown());
    tasks.spawn("bell", async move {
        stopping.cancelled().await;
        bell.ring();
        Ok::<_, io::Error>(())
    });
    let shutdown = tasks.shutdown();
    tasks.thread("trial", move || {
        course.run(&mut wire, &mut live, &shutdown)?;
        live.end();
        course.summary.conclude(wire.why());
        tell(&course.summary)?;
        shutdown.cancel();
        Ok::<_, io::Error>(())
    })
}

impl Trial {
    /// A plan wants to know where it stands and whom it tells: nobody.
    fn config(&self) -> Config {
        let name = "by-hand";
        let target = Target {
            id: name.parse().expect("a name"),
            service: name.parse().expect("a name"),
            region: name.parse().expect("a name"),
            endpoint: self.endpoint.clone(),
            family: FamilyChoice::Usual,
            addresses: AddressChoice::One,
            advertise: Vec::new(),
            confirms_per_second: 0,
            probes: vec![self.probe.clone()],
        };
        Config {
            region: name.parse().expect("a name"),
            agent: name.parse().expect("a name"),
            collectors: "http://localhost".parse::<Collector>().expect("a URL").into(),
            source_address: None,
            resolver: None,
            icmp: IcmpBy::Ourselves,
            confirms_per_second: 0,
            data_dir: None,
            spool: Limits::default(),
            zone: None,
            window: telemetry::window::DEFAULT_WIDTH,
            telemetry: None,
            targets: vec![target],
        }
    }
}

impl Course {
    fn new(trial: &Trial, plan: Plan, now: Now) -> Self {
        let Trial { endpoint, probe: Probe { kind, every, .. }, count } = trial;
        let mut summary = Summary::new(kind.as_str(), endpoint);
        if let Host::Name(_) = endpoint.host {
            summary.resolved = plan.probes().first().and_then(probed);
        }
        let flights = Flights::new(rand::random());
        Self { plan, every: *every, count: *count, begun: 0, start: now.mono, next: now.mono, flights, summary }
    }

    fn run(&mut self, wire: &mut Wire, live: &mut Live, shutdown: &Shutdown) -> io::Result<()> {
        loop {
            let now = wire.now();
            self.tick(now, wire);
            if self.is_over() {
                return Ok(());
            }
            if shutdown.is_cancelled() {
                self.abandon();
                return Ok(());
            }
            live.show(now.mono, |columns| self.summary.line(now.mono.since(self.start), columns));
            let moment = [self.wake_at(), live.due()].into_iter().flatten().min();
            wire.wait_until(moment)?;
        }
    }

    /// Nobody waits for what is still out: it is neither received nor lost.
    fn abandon(&mut self) {
        while let Some(ended) = self.flights.abandon() {
            self.end(Some(ended));
        }
    }

    fn tick(&mut self, now: Now, prober: &mut impl Prober) {
        let mut heard = Vec::new();
        prober.heard(&mut heard);
        for report in heard {
            let (ended, noise) = self.flights.settle(report);
            self.end(ended);
            if let Some(noise) = noise {
                self.summary.noise(noise);
            }
        }
        while let Some(ended) = self.flights.expire(now.mono) {
            self.end(Some(ended));
        }
        while self.is_due(now.mono) {
            self.launch(now, prober);
        }
    }

    /// When there is something to do without anything being heard.
    fn wake_at(&mut self) -> Option<Mono> {
        let next = (self.has_more() && !self.waits_for_the_first()).then_some(self.next);
        [next, self.flights.next_deadline()].into_iter().flatten().min()
    }

    fn is_over(&self) -> bool {
        !self.has_more() && self.flights.is_empty()
    }

    fn has_more(&self) -> bool {
        self.count.is_none_or(|count| self.begun < count)
    }

    fn is_due(&self, now: Mono) -> bool {
        self.has_more() && self.next <= now && !self.waits_for_the_first()
    }

    /// A gateway's first probe opens the connection that the others beat on.
    fn waits_for_the_first(&self) -> bool {
        self.opens_first() && self.begun == 1 && !self.flights.is_empty()
    }

    fn opens_first(&self) -> bool {
        self.plan.probes().first().is_some_and(|planned| planned.phase == "hello")
    }

    fn launch(&mut self, now: Now, prober: &mut impl Prober) {
        let probe = ProbeIndex(u32::from(self.opens_first() && self.begun > 0));
        self.begun += 1;
        // What is overdue is sent now, and the pace goes on from here: a burst would measure itself.
        self.next = self.next.max(now.mono - self.every) + self.every;
        let planned = self.plan.get(probe);
        let Some(token) = self.flights.token(probe) else { return self.summary.missed(Miss::Crowded) };
        let way = Way((self.begun % u32::from(WAYS)) as u8);
        let order = Order { token, errand: planned.errand(), timeout: planned.timeout, way };
        let result = prober.send(order);
        match result {
            Ok(launch) => {
                self.summary.sent += 1;
                let due = Due { probe, at: now.mono, wall: now.wall };
                self.flights.begin(due, order, launch, Standing::Regular, now.mono);
            }
            Err(fault) => self.summary.missed(Miss::NotSent(fault)),
        }
        // What can never be sent is tried as often as was asked for, and not for ever.
        let hopeless = matches!(result, Err(SendFault::NoSocket)) || order.errand == Errand::Nowhere;
        if hopeless {
            self.count.get_or_insert(self.begun);
        }
    }

    fn end(&mut self, ended: Option<Ended>) {
        let Some(Ended { due, end, .. }) = ended else { return };
        self.summary.ended(self.plan.get(due.probe).phase, &end);
    }
}

/// The address that a probe goes to. `None`: it has none, or asks again for each connection.
fn probed(planned: &Planned) -> Option<IpAddr> {
    match planned.errand() {
        Errand::VoicePing(to)
        | Errand::VoiceDiscovery(to)
        | Errand::Stun(to)
        | Errand::Stamp(to)
        | Errand::Tcp(to)
        | Errand::Dns(to, _) => Some(to.ip()),
        Errand::Icmp(to) | Errand::SurgePing(to) => Some(to),
        Errand::Dial(_) | Errand::Floor | Errand::Nowhere => None,
    }
}

/// Where a trial of that kind goes needs a port.
fn port_is_missing(kind: &ProbeKind, endpoint: &Endpoint) -> bool {
    kind.needs_port() && endpoint.port.is_none()
}
