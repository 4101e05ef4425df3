//! Some agents, the network and a collector, and what befalls them.

use std::collections::BTreeSet;
use std::time::Duration;

use agent::push::{Trouble, Turn, Verdict};
use agent::spool::{Batch, Limits, Name};
use anyhow::{Context as _, ensure};
use journal::sim::Dice;
use telemetry::{Mono, Wall};

use crate::agent::{Agent, Health, Pushing};
use crate::collector::{Collector, Settled, What};
use crate::events::{Agenda, Event, Try};
use crate::ledger::{Ledger, Sums, origin};
use crate::network::Network;
use crate::strikes::{Strike, lasts};
use crate::trace::Trace;

const BEGIN: Wall = Wall::from_secs(1_800_000_000);
const AGENTS: usize = 3;
/// For so long agents measure and things go wrong.
const TROUBLE: Duration = Duration::from_mins(1);
/// By then a spool looks again at a disk that failed, when it gets a batch.
const REOPENED: Duration = Duration::from_secs(11);
/// By then all that waits has gone.
const DRAINED: Duration = Duration::from_secs(500);
/// After so long an agent waits for no answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What came of a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Of everything that happened, and of the state in which it ended.
    pub trace: u64,
    pub made: u64,
    pub counted: u64,
    /// Given up and named, or died with an agent's memory.
    pub lost: u64,
}

/// Lives a whole life. An error says what did not hold, and what happened before.
pub fn run(seed: u64) -> anyhow::Result<Life> {
    let mut world = World::new(seed)?;
    let lived = world.live();
    let Sums { made, counted, lost } = lived.with_context(|| format!("seed {seed}, after\n{}", world.trace.last()))?;
    Ok(Life { trace: world.trace.hash(), made, counted, lost })
}

struct World {
    dice: Dice,
    agenda: Agenda,
    agents: Vec<Agent>,
    network: Network,
    collector: Collector,
    ledger: Ledger,
    trace: Trace,
    tries: u64,
    weather: Weather,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Weather {
    Trouble,
    Calm,
}

impl World {
    fn new(seed: u64) -> anyhow::Result<Self> {
        let mut dice = Dice::new(seed);
        let limits = Limits {
            bytes: [6000, 16_000, 1 << 20][dice.roll(3)],
            age: Duration::from_secs([40, 86_400, 86_400][dice.roll(3)]),
        };
        let network = Network::drawn(&mut dice);
        let agents = (0..AGENTS).map(|number| Agent::of_few_targets(number, limits)).collect();
        Ok(Self {
            dice,
            agenda: Agenda::new(BEGIN),
            agents,
            network,
            collector: Collector::new(seed)?,
            ledger: Ledger::default(),
            trace: Trace::default(),
            tries: 0,
            weather: Weather::Trouble,
        })
    }

    fn live(&mut self) -> anyhow::Result<Sums> {
        self.agenda.plan(Duration::ZERO, Event::StartCollector);
        self.agenda.plan(Duration::ZERO, Event::Mark);
        for agent in 0..AGENTS {
            self.agenda.plan(Duration::ZERO, Event::StartAgent { agent });
            let after = self.millis(3000);
            self.agenda.plan(after, Event::Measure { agent });
        }
        for _ in 0..self.dice.roll(16) {
            let after = self.millis(60_000);
            self.agenda.plan(after, Event::Strike);
        }
        self.until(BEGIN + TROUBLE, |_| false)?;
        self.calm();
        self.until(self.agenda.now + REOPENED, |_| false)?;
        // The first batch finds disks well, the second may tell of gaps, the third shows that they are told.
        for _ in 0..3 {
            for agent in 0..AGENTS {
                self.measure(agent)?;
            }
            self.drain()?;
        }
        let untold = self.agents.iter().find_map(|agent| agent.alive.as_ref()?.spool.gaps().first().copied());
        ensure!(untold.is_none(), "{untold:?} is still to be told");
        let state = self.collector.state(self.agenda.now)?;
        let bytes = collector::snapshot::encode(&state)?;
        self.trace.note(self.agenda.now, format_args!("ends as {:?}", xxhash_rust::xxh3::xxh3_64(&bytes)));
        self.ledger.check(&state)
    }

    /// Everything is healed and started; nothing more goes wrong.
    fn calm(&mut self) {
        self.weather = Weather::Calm;
        self.network.calm();
        self.collector.disk().inspect(|disk| disk.heal());
        if self.collector.up.is_none() {
            self.agenda.plan(Duration::ZERO, Event::StartCollector);
        }
        for agent in 0..AGENTS {
            self.agents[agent].heal();
            if self.agents[agent].alive.is_none() {
                self.agenda.plan(Duration::ZERO, Event::StartAgent { agent });
            }
        }
    }

    fn drain(&mut self) -> anyhow::Result<()> {
        let empty = |agent: &Agent| agent.alive.as_ref().is_some_and(|alive| alive.spool.depth().batches == 0);
        let drained = |world: &Self| world.agents.iter().all(empty) && world.collector.up.is_some();
        self.until(self.agenda.now + DRAINED, drained)?;
        ensure!(drained(self), "what waits does not drain");
        Ok(())
    }

    fn until(&mut self, end: Wall, over: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        while self.agenda.now < end && !over(self) {
            let event = self.agenda.next().context("a mark is always due")?;
            self.happen(event)?;
            self.meet_power_losses();
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> anyhow::Result<()> {
        let now = self.agenda.now;
        match event {
            Event::Measure { agent } => {
                if self.weather == Weather::Trouble {
                    self.measure(agent)?;
                    let after = Duration::from_millis(200) + self.millis(3000);
                    self.agenda.plan(after, Event::Measure { agent });
                }
            }
            Event::Push { agent, life } => {
                if self.agents[agent].life == life
                    && let Some(alive) = &mut self.agents[agent].alive
                {
                    alive.pushing = Pushing::Idle;
                    self.push(agent);
                }
            }
            Event::Arrive { of, batch } => self.arrive(of, &batch)?,
            Event::Answer { of, verdict } => self.hear(of, &verdict),
            Event::Settle { life } => {
                if self.collector.life == life {
                    let settled = self.collector.settle(now)?;
                    self.answer(settled);
                    self.expect_settling();
                }
            }
            Event::Mark => {
                self.agenda.plan(collector::marks::EVERY, Event::Mark);
                if let Some(up) = self.collector.up.as_mut().filter(|up| up.is_open()) {
                    up.mark(now)?;
                }
                self.expect_settling();
            }
            Event::Strike => self.strike(),
            Event::StartAgent { agent } => {
                if self.agents[agent].alive.is_none() {
                    self.agents[agent].start(now);
                    self.trace.note(now, format_args!("agent {agent} starts"));
                    self.push(agent);
                }
            }
            Event::StartCollector => {
                if self.collector.up.is_none() {
                    let started = self.collector.start(now)?;
                    self.trace.note(now, format_args!("collector starts: {started}"));
                    if !started {
                        self.agenda.plan(Duration::from_secs(1), Event::StartCollector);
                    }
                    self.expect_settling();
                }
            }
            Event::HealAgent { agent } => self.agents[agent].heal(),
            Event::HealCollector => drop(self.collector.disk().inspect(|disk| disk.heal())),
            Event::Join { agent } => self.network.join(agent),
        }
        Ok(())
    }

    fn measure(&mut self, agent: usize) -> anyhow::Result<()> {
        // Not at the very begin of a slot: a window has a width.
        let now = self.agenda.now + Duration::from_nanos(1);
        let Some(made) = self.agents[agent].measure(now, &mut self.dice) else { return Ok(()) };
        self.trace.note(now, format_args!("agent {agent} made {:?}, dropped {}", made.name, made.dropped));
        self.ledger.make(&self.agents[agent].id, made)?;
        self.push(agent);
        Ok(())
    }

    /// Sends what is next, where nothing is under way.
    fn push(&mut self, agent: usize) {
        let Some(alive) = &mut self.agents[agent].alive else { return };
        if alive.pushing != Pushing::Idle {
            return;
        }
        let Some(batch) = alive.next() else { return };
        self.tries += 1;
        let of = Try { agent, number: self.tries, name: batch.name };
        alive.pushing = Pushing::Trying(of.number);
        self.trace.note(self.agenda.now, format_args!("agent {agent} sends {:?}", batch.name));
        for after in self.network.request(agent, &mut self.dice) {
            self.agenda.plan(after, Event::Arrive { of, batch: batch.clone() });
        }
        self.agenda.plan(TIMEOUT, Event::Answer { of, verdict: later(None) });
    }

    fn arrive(&mut self, of: Try, batch: &Batch) -> anyhow::Result<()> {
        let origin = origin(&self.agents[of.agent].id, batch.name);
        let Some(up) = self.collector.up.as_mut().filter(|up| up.is_open()) else {
            self.reply(of, later(None));
            return Ok(());
        };
        let samples = up.take(of, origin.clone(), &batch.body, self.agenda.now)?;
        self.trace.note(self.agenda.now, format_args!("{:?} of agent {} arrives", batch.name, of.agent));
        self.ledger.arrive(&origin, samples)?;
        self.expect_settling();
        Ok(())
    }

    /// The disk takes its time for what waits.
    fn expect_settling(&mut self) {
        if self.collector.up.as_ref().is_some_and(crate::collector::Up::waits) {
            let after = Duration::from_micros(200) + self.millis(8);
            self.agenda.plan(after, Event::Settle { life: self.collector.life });
        }
    }

    fn answer(&mut self, settled: Vec<Settled>) {
        for Settled { what, taken } in settled {
            let What::Batch(of, origin, gaps) = what else { continue };
            self.trace.note(self.agenda.now, format_args!("{:?} of agent {} is taken: {taken}", of.name, of.agent));
            if taken {
                self.ledger.taken(&origin, gaps);
                self.reply(of, Verdict::Taken { refused: 0, why: String::new() });
            } else {
                self.reply(of, later(Some(Duration::from_secs(5))));
            }
        }
        if self.collector.up.is_none() {
            let after = lasts(&mut self.dice);
            self.agenda.plan(after, Event::StartCollector);
        }
    }

    fn reply(&mut self, of: Try, verdict: Verdict) {
        if let Some(after) = self.network.answer(of.agent, &mut self.dice) {
            self.agenda.plan(after, Event::Answer { of, verdict });
        }
    }

    fn hear(&mut self, of: Try, verdict: &Verdict) {
        let Agent { alive: Some(alive), life, .. } = &mut self.agents[of.agent] else { return };
        if alive.pushing != Pushing::Trying(of.number) {
            return;
        }
        let chance = self.dice.roll(1000) as f64 / 1000.0;
        let turn = alive.turns.hear(verdict, Mono(self.agenda.now.0), chance);
        self.trace.note(self.agenda.now, format_args!("agent {} hears of {:?}: {turn:?}", of.agent, of.name));
        match turn {
            Turn::Wait(wait) => {
                alive.pushing = Pushing::Waiting;
                self.agenda.plan(wait, Event::Push { agent: of.agent, life: *life });
            }
            Turn::Another => unreachable!("there is one collector"),
            Turn::Forget { .. } => {
                alive.forget(of.name);
                alive.pushing = Pushing::Idle;
                self.push(of.agent);
            }
        }
    }

    fn strike(&mut self) {
        if self.weather == Weather::Calm {
            return;
        }
        let (strike, agent) = (Strike::drawn(&mut self.dice), self.dice.roll(AGENTS));
        let lasts = lasts(&mut self.dice);
        self.trace.note(self.agenda.now, format_args!("{strike:?}, agent {agent}, for {lasts:?}"));
        match strike {
            Strike::KillAgent => {
                let died = self.agents[agent].kill();
                self.bury(agent, died, lasts);
            }
            Strike::CutAgent => {
                let died = self.agents[agent].cut_power(&mut self.dice);
                self.bury(agent, died, lasts);
            }
            Strike::AgentDisk(trouble) => {
                self.agents[agent].health = Health::Troubled;
                trouble.strike(&self.agents[agent].disk);
                self.agenda.plan(lasts, Event::HealAgent { agent });
            }
            Strike::Part => {
                self.network.part(agent);
                self.agenda.plan(lasts, Event::Join { agent });
            }
            Strike::KillCollector => {
                self.collector.kill();
                self.agenda.plan(lasts, Event::StartCollector);
            }
            Strike::CutCollector => {
                self.collector.cut_power(&mut self.dice);
                self.agenda.plan(lasts, Event::StartCollector);
            }
            Strike::CollectorDisk(trouble) => {
                self.collector.disk().inspect(|disk| trouble.strike(disk));
                self.agenda.plan(lasts, Event::HealCollector);
            }
            Strike::Snapshot => self.collector.snapshot(),
        }
    }

    fn bury(&mut self, agent: usize, died: BTreeSet<Name>, lasts: Duration) {
        self.trace.note(self.agenda.now, format_args!("agent {agent} dies, and with it {died:?}"));
        self.ledger.died(&self.agents[agent].id, died);
        self.agenda.plan(lasts, Event::StartAgent { agent });
    }

    /// Where an operation of a disk met with a loss of power, its machine is off.
    fn meet_power_losses(&mut self) {
        for agent in 0..AGENTS {
            if self.agents[agent].disk.is_off() {
                let died = self.agents[agent].cut_power(&mut self.dice);
                let lasts = lasts(&mut self.dice);
                self.bury(agent, died, lasts);
            }
        }
        if self.collector.disk().is_some_and(journal::sim::SimDisk::is_off) {
            self.collector.cut_power(&mut self.dice);
            let lasts = lasts(&mut self.dice);
            self.trace.note(self.agenda.now, format_args!("the collector loses power for {lasts:?}"));
            self.agenda.plan(lasts, Event::StartCollector);
        }
    }

    fn millis(&mut self, most: usize) -> Duration {
        Duration::from_millis(self.dice.roll(most) as u64)
    }
}

fn later(after: Option<Duration>) -> Verdict {
    Verdict::Later { trouble: Trouble::Failing, after, why: "later".to_owned() }
}
