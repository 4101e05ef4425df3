//! A world with a relay between agents and collector, so that what was acknowledged is known and can be compared with what is shown.
//!
//! Two oracles. The relay knows every batch that was acknowledged, so the collector must show exactly their sum, on each path. The
//! planet knows what it answered: of what an agent asked that was never killed every answer must be there; of what the others
//! asked, no more than was answered.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use toml::Table;

use crate::answers::compare;
use crate::json::{items, text, whole};
use crate::ledger::Faults;
use crate::relay::Relay;
use crate::{World, WorldOptions, until};

/// Agents that found the collector gone wait up to ten seconds.
pub const DEADLINE: Duration = Duration::from_mins(1);
/// What is acknowledged is durable, and folded a little later.
const FOLD: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct Witnessed {
    pub world: World,
    pub relay: Relay,
    /// The regions whose agents were.
    killed: BTreeSet<String>,
}

impl Witnessed {
    /// Starts it, and waits for a batch of every agent.
    pub fn start(options: WorldOptions) -> anyhow::Result<Self> {
        let relay = Relay::open()?;
        let world = World::start(&WorldOptions { relay: Some(relay.address), ..options })?;
        relay.lead_to(world.listen());
        let mut witnessed = Self { world, relay, killed: BTreeSet::new() };
        witnessed.all_agents("a batch of every agent", |_| true)?;
        Ok(witnessed)
    }

    /// Kills an agent and starts it again.
    pub fn kill_agent(&mut self, region: &str) -> anyhow::Result<()> {
        self.killed.insert(region.to_owned());
        self.world.kill_agent(region)?;
        self.world.start_agent(region)
    }

    /// Waits until nothing waits on any agent.
    pub fn catch_up(&mut self) -> anyhow::Result<()> {
        // Each is at peace with the collector again, and says so in what it hands over next.
        for region in self.world.planet.regions()? {
            self.relay.wait_for_batch(Some(&agent(&region)), DEADLINE)?;
        }
        self.all_agents("agents with empty spools", |shown| shown["spool"]["batches"] == 0)
    }

    /// Lets everything arrive, ends the agents, and compares.
    pub fn settle(&mut self) -> anyhow::Result<Faults> {
        self.catch_up()?;
        self.world.stop_agents()?;
        let waiting = self.relay.ledger(|ledger| format!("{:?}", ledger.waiting()));
        anyhow::ensure!(waiting == "[]", "handed over and not acknowledged: {waiting}");
        let none = until("every acknowledged batch on its paths", FOLD, || {
            self.faults().ok().filter(|faults| *faults == Faults::default())
        });
        none.or_else(|_| self.faults())
    }

    fn faults(&self) -> anyhow::Result<Faults> {
        let paths = self.world.get("/api/v1/paths?window=15m")?;
        let mut faults = self.relay.ledger(|ledger| ledger.faults(&paths))?;
        for path in compare(&self.world)? {
            let (answers, replies) = (path.answers, path.counted.replies);
            let is_whole = !self.killed.contains(&path.path[0]);
            if is_whole && !path.is_exact() || !path.is_possible() {
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

    fn all_agents(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
        let regions = self.world.planet.regions()?.len();
        self.world.wait(what, DEADLINE, |world| {
            let agents = world.get("/api/v1/agents").ok()?;
            (items(&agents).filter(|agent| is(agent)).count() == regions).then_some(())
        })
    }
}

/// As the planet calls a region's agent.
pub fn agent(region: &str) -> String {
    format!("{region}-1")
}

/// Voice alone, often, in short windows: many batches.
pub fn quick(config: &str) -> String {
    often(config, "200ms")
}

/// Voice alone, often, in windows of that width.
pub fn often(config: &str, window: &str) -> String {
    let mut config: Table = config.parse().expect("the planet writes TOML");
    config.insert("window".to_owned(), window.into());
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
