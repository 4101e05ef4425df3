//! Agents and the collector are killed at random moments, again and again, and lines are cut; what was acknowledged is there
//! afterwards, once.
//!
//! Two oracles. The relay between them knows every batch that was acknowledged, so the collector must show exactly their sum, on each
//! path. The planet knows what it answered: one agent is never killed, and of what it asked every answer must be there; of what the
//! others asked, no more than was answered.

use std::fmt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use toml::Table;

use crate::answers::compare;
use crate::json::{items, text, whole};
use crate::ledger::Faults;
use crate::relay::Relay;
use crate::{World, WorldOptions, until};

const REGIONS: usize = 3;
/// Between two kills, or between a batch and a kill.
const MOMENT: Duration = Duration::from_millis(60);
/// The share of kills that wait for a batch first.
const ON_THE_WAY: f64 = 0.75;
/// Agents that found the collector gone wait up to ten seconds.
const DEADLINE: Duration = Duration::from_mins(1);
/// A run with no more batches than that, or without a replay, has shown nothing.
const SHOWS_NOTHING: usize = 100;

/// A world in which everything but the planet and one agent is killed.
#[derive(Debug)]
pub struct Crash {
    pub world: World,
    pub relay: Relay,
    random: Pcg64Mcg,
    /// The region whose agent is never killed.
    spared: String,
    others: Vec<String>,
    kills: u32,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub kills: u32,
    pub batches: usize,
    pub replays: u64,
    pub cuts: u64,
    pub faults: Faults,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Collector,
    Agent,
    Both,
}

impl Report {
    pub fn add(&mut self, more: Self) {
        let Self { kills, batches, replays, cuts, faults: Faults { lost, doubled, altered, said } } = more;
        self.kills += kills;
        self.batches += batches;
        self.replays += replays;
        self.cuts += cuts;
        self.faults.lost += lost;
        self.faults.doubled += doubled;
        self.faults.altered += altered;
        self.faults.said.extend(said);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, batches, replays, cuts, faults: Faults { lost, doubled, altered, .. } } = self;
        write!(f, "{kills} kills, {cuts} lines cut, {batches} batches acknowledged, {replays} replayed; ")?;
        write!(f, "lost {lost}, doubled {doubled}, altered {altered}")
    }
}

impl Crash {
    pub fn start(seed: u64, programs: PathBuf) -> anyhow::Result<Self> {
        let relay = Relay::open()?;
        let options = WorldOptions {
            regions: REGIONS,
            seed,
            agents: quick,
            relay: Some(relay.address),
            programs,
            ..WorldOptions::default()
        };
        let mut world = World::start(&options)?;
        relay.lead_to(world.listen());
        world.wait("a batch of every agent", DEADLINE, |world| {
            let agents = world.get("/api/v1/agents").ok()?;
            (items(&agents).count() == REGIONS).then_some(())
        })?;
        let mut others = world.planet.regions()?;
        let spared = others.pop().context("a planet has regions")?;
        relay.begin_mischief(seed);
        Ok(Self { world, relay, random: Pcg64Mcg::seed_from_u64(seed), spared, others, kills: 0 })
    }

    /// Kills at least so many processes, each started again at once.
    pub fn kill(&mut self, kills: u32) -> anyhow::Result<()> {
        let until = self.kills + kills;
        while self.kills < until {
            let victim =
                [Victim::Collector, Victim::Agent, Victim::Agent, Victim::Both][self.random.random_range(0..4)];
            let agent = self.others[self.random.random_range(0..self.others.len())].clone();
            // Most of them while a batch is on its way, some while the last victim is hardly up again.
            if self.random.random_bool(ON_THE_WAY) {
                let of = (victim == Victim::Agent).then(|| format!("{agent}-1"));
                self.relay.wait_for_batch(of.as_deref(), DEADLINE)?;
            }
            thread::sleep(MOMENT.mul_f64(self.random.random()));
            anyhow::ensure!(self.world.fallen().is_none(), "{:?}", self.world.fallen());
            if victim != Victim::Agent {
                self.world.kill_collector()?;
                self.kills += 1;
            }
            if victim != Victim::Collector {
                self.world.kill_agent(&agent)?;
                self.world.start_agent(&agent)?;
                self.kills += 1;
            }
            if victim != Victim::Agent {
                self.world.start_collector()?;
            }
        }
        Ok(())
    }

    /// Lets everything arrive, ends the agents, and compares.
    pub fn settle(&mut self) -> anyhow::Result<Report> {
        self.relay.end_mischief();
        // Each agent has handed over what an earlier life of it left behind, and is at peace with the collector again.
        for region in self.others.iter().chain([&self.spared]) {
            self.relay.wait_for_batch(Some(&format!("{region}-1")), DEADLINE)?;
        }
        let world = &mut self.world;
        world.wait("agents with empty spools", DEADLINE, |world| {
            let agents = world.get("/api/v1/agents").ok()?;
            items(&agents).all(|agent| agent["spool"]["batches"] == 0 && agent["gaps"] == 0).then_some(())
        })?;
        world.stop_agents()?;
        let waiting = self.relay.ledger(|ledger| format!("{:?}", ledger.waiting()));
        anyhow::ensure!(waiting == "[]", "handed over and not acknowledged: {waiting}");
        // What is acknowledged is durable, and folded a little later.
        let settled = until("every acknowledged batch on its paths", Duration::from_secs(20), || {
            self.faults().ok().filter(|faults| *faults == Faults::default())
        });
        let faults = settled.or_else(|_| self.faults())?;
        let report = self.relay.ledger(|ledger| Report {
            kills: self.kills,
            batches: ledger.taken().len(),
            replays: ledger.replays,
            cuts: ledger.cuts,
            faults,
        });
        let Report { batches, replays, .. } = report;
        anyhow::ensure!(batches > SHOWS_NOTHING && replays > 0, "shows nothing: {batches} batches, {replays} replays");
        Ok(report)
    }

    fn faults(&self) -> anyhow::Result<Faults> {
        let paths = self.world.get("/api/v1/paths?window=15m")?;
        let mut faults = self.relay.ledger(|ledger| ledger.faults(&paths))?;
        for path in compare(&self.world)? {
            let whole = path.path[0] == self.spared;
            let (answers, replies) = (path.answers, path.counted.replies);
            if whole && !path.is_exact() || !path.is_possible() {
                faults.doubled += replies.saturating_sub(answers);
                faults.lost += answers.saturating_sub(replies);
                faults.said.push(path.to_string());
            }
        }
        let agents = self.world.get("/api/v1/agents")?;
        for agent in items(&agents).filter(|agent| agent["gaps"] != 0) {
            faults.lost += whole(&agent["gaps"]);
            faults.said.push(format!("batches of {} are missing", text(&agent["agent"])));
        }
        Ok(faults)
    }
}

/// Voice alone, often, in short windows: many batches.
pub fn quick(config: &str) -> String {
    let mut config: Table = config.parse().expect("the planet writes TOML");
    config.insert("window".to_owned(), "200ms".into());
    let targets = config["target"].as_array_mut().expect("the planet writes targets");
    targets.retain(|target| target["service"].as_str() == Some("voice"));
    for target in targets {
        let probes = target["probe"].as_array_mut().expect("the planet writes probes");
        probes.retain(|probe| probe["kind"].as_str() == Some("voice"));
        for probe in probes.iter_mut().filter_map(toml::Value::as_table_mut) {
            probe.insert("every".to_owned(), "50ms".into());
        }
    }
    config.to_string()
}
