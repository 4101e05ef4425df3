//! An agent without its probes: what it measured is drawn; the spool, the batches, their names and the turns are its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use agent::Config;
use agent::batch::Assembler;
use agent::names::Addresses;
use agent::plan::{Aspect, Plan, ProbeIndex};
use agent::push::Turns;
use agent::record::{Handover, Part};
use agent::spool::{Batch, Limits, Name, Shared, Stored};
use journal::sim::{Dice, Keep, SimDisk};
use telemetry::otlp::build::Sender;
use telemetry::{AgentId, Boot, FailureKind, Gap, Labels, Outcome, Sequence, Standing, TargetId, Wall};

/// As in `config/collector.toml`.
const TARGETS: [(&str, &str); 2] = [("fra-voice-1", "fra"), ("iad-voice-1", "iad")];
const WINDOW: Duration = Duration::from_secs(10);
/// To fold it costs little: a dense histogram is walked up to the longest.
const QUICK: Duration = Duration::from_micros(1);

pub(crate) struct Agent {
    pub(crate) id: AgentId,
    plan: Plan,
    sender: Sender,
    limits: Limits,
    pub(crate) disk: SimDisk,
    pub(crate) health: Health,
    number: usize,
    /// How often it was started.
    pub(crate) life: u32,
    pub(crate) alive: Option<Alive>,
}

pub(crate) struct Alive {
    boot: Boot,
    pub(crate) spool: Shared,
    assembler: Assembler,
    pub(crate) turns: Turns,
    pub(crate) pushing: Pushing,
    /// Batches that were made.
    made: u64,
    /// Those of which nothing says that the disk has them.
    in_memory: BTreeSet<Name>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushing {
    Idle,
    /// That try has no answer yet.
    Trying(u64),
    Waiting,
}

/// Of a disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    Well,
    /// Something was told to fail.
    Troubled,
    /// Well again, and the spool does not know yet.
    Healed,
}

/// What became of a handover.
pub(crate) struct Made {
    pub(crate) name: Name,
    /// By target.
    pub(crate) samples: BTreeMap<TargetId, u64>,
    /// Of all that waited, how many batches had to go.
    pub(crate) dropped: u64,
}

impl Agent {
    pub(crate) fn new(number: usize, targets: &[(&str, &str)], limits: Limits) -> Self {
        let region = ["fra", "iad"][number % 2];
        let mut text =
            format!("region = \"{region}\"\nagent = \"{region}-{number}\"\ncollector = \"http://127.0.0.1:1\"\n");
        for (id, region) in targets {
            text.push_str(
                "[[target]]
service = \"voice\"
address = \"192.0.2.1:50000\"
",
            );
            text.extend([
                "id = \"",
                id,
                "\"
region = \"",
                region,
                "\"
",
            ]);
            text.push_str(
                "[[target.probe]]
kind = \"voice\"
",
            );
        }
        let config = Config::parse("agent.toml", text).unwrap_or_else(|_| unreachable!("it is ours"));
        let (id, source) = (config.agent.clone(), config.region.clone());
        let sender = Sender { agent: id.clone(), source, zone: None, version: "0".to_owned() };
        let plan = Plan::new(&config, &Addresses::new());
        Self { id, plan, sender, limits, disk: SimDisk::default(), health: Health::Well, number, life: 0, alive: None }
    }

    pub(crate) fn of_few_targets(number: usize, limits: Limits) -> Self {
        Self::new(number, &TARGETS, limits)
    }

    pub(crate) fn start(&mut self, now: Wall) {
        self.life += 1;
        let boot = Boot(self.number as u128 * 1000 + u128::from(self.life));
        self.alive = Some(Alive {
            boot,
            spool: Shared::new(Stored::open(self.disk.clone(), boot, self.limits)),
            assembler: Assembler::new(self.plan.clone(), self.sender.clone(), now),
            turns: Turns::new(1),
            pushing: Pushing::Idle,
            made: 0,
            in_memory: BTreeSet::new(),
        });
    }

    pub(crate) fn heal(&mut self) {
        self.disk.heal();
        self.health = Health::Healed;
    }

    /// The process ends. Answers what may have been nowhere else.
    pub(crate) fn kill(&mut self) -> BTreeSet<Name> {
        let Some(alive) = self.alive.take() else { return BTreeSet::new() };
        let mut lost = alive.in_memory;
        if self.health != Health::Well {
            // The disk may have refused to say what had to go.
            let names =
                |Gap { boot, from, to }| (from.0..=to.0).map(move |number| Name { boot, sequence: Sequence(number) });
            lost.extend(alive.spool.gaps().into_iter().flat_map(names));
        }
        lost
    }

    /// The machine loses power.
    pub(crate) fn cut_power(&mut self, dice: &mut Dice) -> BTreeSet<Name> {
        let lost = self.kill();
        self.health = Health::Well;
        self.disk.crash(Keep::Seeded(dice.draw()), Keep::Seeded(dice.draw()));
        lost
    }

    /// Windows of every target, of the slot that it is in now.
    pub(crate) fn measure(&mut self, now: Wall, dice: &mut Dice) -> Option<Made> {
        let alive = self.alive.as_mut()?;
        let mut samples = BTreeMap::<TargetId, u64>::new();
        let mut parts = Vec::new();
        for (index, probe) in self.plan.probes().iter().enumerate() {
            // A batch of bad news holds some of them.
            if probe.phase != "rtt" || (!parts.is_empty() && dice.roll(2) == 0) {
                continue;
            }
            let (replies, lost) = (1 + dice.roll(6), usize::from(dice.roll(20) == 0));
            *samples.entry(probe.subject.series.target.clone()).or_default() += (replies + lost) as u64;
            let reply = |_| (Outcome::Reply, QUICK + Duration::from_nanos(dice.roll(500) as u64));
            let mut seen: Vec<_> = (0..replies).map(reply).collect();
            seen.extend(vec![(Outcome::Failure(FailureKind::Timeout), QUICK); lost]);
            let aspect = Arc::new(Aspect { phase: probe.phase, labels: Labels::new() });
            let (probe, standing) = (ProbeIndex(index as u32), Standing::Regular);
            let (begin, end, samples) = (now.slot(WINDOW), now, seen.into_iter().collect());
            parts.push(Part { probe, aspect, standing, begin, end, samples });
        }
        let handover = Handover { parts, at: now, ..Handover::default() };
        let offered = alive.assembler.store(handover, &alive.spool, || now);
        alive.made += 1;
        let name = Name { boot: alive.boot, sequence: Sequence(alive.made) };
        alive.in_memory.insert(name);
        if offered.unwritten == 0 && self.health != Health::Troubled {
            self.health = Health::Well;
            // What waits goes to the disk in order, so all that came before is there, too.
            alive.in_memory.clear();
        }
        Some(Made { name, samples, dropped: offered.dropped })
    }
}

impl Alive {
    pub(crate) fn next(&self) -> Option<Batch> {
        let lane = self.turns.lane();
        self.spool.at_once(|spool| spool.next(lane))
    }

    pub(crate) fn forget(&mut self, name: Name) {
        self.in_memory.remove(&name);
        self.spool.at_once(|spool| spool.forget(name));
    }
}
