//! Agents and the collector are killed at random moments, again and again, and lines are cut; what was acknowledged is there
//! afterwards, once. One agent is never killed: of what it asked, every answer is there.

use std::fmt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

use crate::WorldOptions;
use crate::ledger::Faults;
use crate::witnessed::{DEADLINE, Witnessed, agent, quick};

const REGIONS: usize = 3;
/// Between two kills, or between a batch and a kill.
const MOMENT: Duration = Duration::from_millis(60);
/// The share of kills that wait for a batch first.
const ON_THE_WAY: f64 = 0.75;
/// A run with no more batches than that, or without a replay, has shown nothing.
const SHOWS_NOTHING: usize = 100;

/// A world in which everything but the planet and one agent is killed.
#[derive(Debug)]
pub struct Crash {
    pub witnessed: Witnessed,
    random: Pcg64Mcg,
    /// The regions whose agents are killed.
    mortal: Vec<String>,
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
        let options = WorldOptions { regions: REGIONS, seed, agents: quick, programs, ..WorldOptions::default() };
        let witnessed = Witnessed::start(options)?;
        let mut mortal = witnessed.world.planet.regions()?;
        mortal.pop().context("a planet has regions")?;
        witnessed.relay.begin_mischief(seed);
        Ok(Self { witnessed, random: Pcg64Mcg::seed_from_u64(seed), mortal, kills: 0 })
    }

    /// Kills at least so many processes, each started again at once.
    pub fn kill(&mut self, kills: u32) -> anyhow::Result<()> {
        let enough = self.kills + kills;
        while self.kills < enough {
            let victims = [Victim::Collector, Victim::Agent, Victim::Agent, Victim::Both];
            let victim = victims[self.random.random_range(0..victims.len())];
            let region = self.mortal[self.random.random_range(0..self.mortal.len())].clone();
            // Most of them while a batch is on its way, some while the last victim is hardly up again.
            if self.random.random_bool(ON_THE_WAY) {
                let of = (victim == Victim::Agent).then(|| agent(&region));
                self.witnessed.relay.wait_for_batch(of.as_deref(), DEADLINE)?;
            }
            thread::sleep(MOMENT.mul_f64(self.random.random()));
            if let Some(fallen) = self.witnessed.world.fallen() {
                anyhow::bail!("after {} kills: {fallen}", self.kills);
            }
            if victim != Victim::Agent {
                self.witnessed.world.kill_collector()?;
                self.kills += 1;
            }
            if victim != Victim::Collector {
                self.witnessed.kill_agent(&region)?;
                self.kills += 1;
            }
            if victim != Victim::Agent {
                self.witnessed.world.start_collector()?;
            }
        }
        Ok(())
    }

    /// Lets everything arrive, ends the agents, and compares.
    pub fn settle(&mut self) -> anyhow::Result<Report> {
        self.witnessed.relay.end_mischief();
        let faults = self.witnessed.settle()?;
        let report = self.witnessed.relay.ledger(|ledger| Report {
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
}
