//! A planet, a collector and an agent in every region.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::clock::ShiftedClock;
use crate::http;
use crate::process::{Binary, Namespace, Process};
use crate::until;

#[derive(Debug, Clone)]
pub struct WorldOptions {
    pub mode: Mode,
    pub regions: usize,
    pub seed: u64,
    /// Where the planet's control and the collector listen; port 0 takes a free one.
    pub control: String,
    pub listen: String,
    /// What the collector's configuration has beside what the planet writes: tables, in TOML.
    pub collector: String,
    /// What becomes of what the planet writes for agents, and for the collector.
    pub agents: fn(&str) -> String,
    pub judging: fn(&str) -> String,
    /// What agents take for the collector, where something stands between.
    pub relay: Option<SocketAddr>,
    /// Whether the collector and the agents go by clocks that can be set.
    pub clocks: bool,
    /// The folder with our binaries: `target/<profile>`.
    pub programs: PathBuf,
}

/// Of the planet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Loopback,
    Router,
}

#[derive(Debug)]
pub struct Planet {
    process: Process,
    control: String,
}

/// Everything that runs. What is still running when it is dropped is killed; its folder goes with it.
#[derive(Debug)]
pub struct World {
    pub planet: Planet,
    collector: Option<Process>,
    agents: BTreeMap<String, Process>,
    listen: String,
    mode: Mode,
    clocks: Option<Clocks>,
    programs: PathBuf,
    dir: TempDir,
}

/// That can be set.
#[derive(Debug)]
pub struct Clocks {
    pub collector: ShiftedClock,
    pub agents: ShiftedClock,
}

impl Default for WorldOptions {
    fn default() -> Self {
        // A test stands in `target/<profile>/deps`.
        let test = std::env::current_exe().unwrap_or_default();
        let programs = test.ancestors().nth(2).unwrap_or(&test).to_owned();
        let any = || "127.0.0.1:0".to_owned();
        Self {
            mode: Mode::Loopback,
            regions: 8,
            seed: 1,
            control: any(),
            listen: any(),
            collector: String::new(),
            agents: str::to_owned,
            judging: str::to_owned,
            relay: None,
            clocks: false,
            programs,
        }
    }
}

impl World {
    /// Starts the planet, the collector, then the agents.
    pub fn start(options: &WorldOptions) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("isochrone-").tempdir().context("make a folder")?;
        // The agents' configuration names the collector before it runs, so its port is chosen here.
        let listen = free_port(&options.listen)?;
        let seen_by_agents = options.relay.map_or(listen.clone(), |relay| relay.to_string());
        let planet = Planet::start(options, &seen_by_agents, dir.path())?;
        let file = dir.path().join("collector.toml");
        let config = fs::read_to_string(&file).context("read the collector's configuration")?;
        fs::write(&file, (options.judging)(&config) + &options.collector)
            .context("add to the collector's configuration")?;
        let programs = options.programs.clone();
        let mode = options.mode;
        let shifted = |name| ShiftedClock::new(dir.path().join(name));
        let clocks = options.clocks.then(|| {
            Ok::<_, anyhow::Error>(Clocks { collector: shifted("collector.clock")?, agents: shifted("agents.clock")? })
        });
        let clocks = clocks.transpose()?;
        let mut world = Self { planet, collector: None, agents: BTreeMap::new(), listen, mode, clocks, programs, dir };
        world.start_collector()?;
        for region in world.planet.regions()? {
            let file = world.file(&format!("agent-{region}.toml"));
            let config = fs::read_to_string(&file).context("read an agent's configuration")?;
            fs::write(&file, (options.agents)(&config)).context("change an agent's configuration")?;
            world.start_agent(&region)?;
        }
        Ok(world)
    }

    /// Starts it, and waits until it listens.
    pub fn start_collector(&mut self) -> anyhow::Result<()> {
        let (config, address) = (self.file("collector.toml"), self.file("collector.address"));
        drop(fs::remove_file(&address));
        let listen = self.listen.as_ref();
        let [run, config_is, listen_is, address_is] = ["run", "--config", "--listen", "--address-file"].map(OsStr::new);
        let args = [run, config_is, config.as_os_str(), listen_is, listen, address_is, address.as_os_str()];
        let (name, program, dir) = ("collector", (Binary::Collector, &*self.programs), self.dir.path());
        let mut collector = match &self.clocks {
            None => Process::start(program, name, dir, args)?,
            Some(clocks) => Process::start_by_clock(&clocks.collector, program, name, dir, args)?,
        };
        collector.address(&address)?;
        self.collector = Some(collector);
        Ok(())
    }

    pub fn start_agent(&mut self, region: &str) -> anyhow::Result<()> {
        let config = self.file(&format!("agent-{region}.toml"));
        let args = ["run".as_ref(), "--config".as_ref(), config.as_os_str()];
        let (name, program, dir) = (format!("agent-{region}"), (Binary::Agent, &*self.programs), self.dir.path());
        let agent = match (self.mode, &self.clocks) {
            (Mode::Loopback, None) => Process::start(program, &name, dir, args)?,
            (Mode::Loopback, Some(clocks)) => Process::start_by_clock(&clocks.agents, program, &name, dir, args)?,
            (Mode::Router, _) => {
                let net = dir.join("net");
                let namespace = Namespace { net: net.join(region), user: net.join("user") };
                Process::start_in(&namespace, program, &name, dir, args)?
            }
        };
        self.agents.insert(region.to_owned(), agent);
        Ok(())
    }

    pub fn clocks(&self) -> anyhow::Result<&Clocks> {
        self.clocks.as_ref().context("the clocks of this world cannot be set")
    }

    pub fn collector(&self) -> anyhow::Result<&Process> {
        self.collector.as_ref().context("no collector runs")
    }

    pub fn agent(&self, region: &str) -> anyhow::Result<&Process> {
        self.agents.get(region).with_context(|| format!("no agent runs in {region}"))
    }

    /// To see it end.
    pub fn release_collector(&mut self) -> anyhow::Result<Process> {
        self.collector.take().context("no collector runs")
    }

    pub fn kill_collector(&mut self) -> anyhow::Result<()> {
        self.release_collector()?.kill()
    }

    pub fn kill_agent(&mut self, region: &str) -> anyhow::Result<()> {
        self.agents.remove(region).with_context(|| format!("no agent runs in {region}"))?.kill()
    }

    pub fn stop_collector(&mut self) -> anyhow::Result<()> {
        let status = self.collector.take().context("no collector runs")?.stop()?;
        anyhow::ensure!(status.success(), "the collector ended with {status}");
        Ok(())
    }

    /// Agents first, so that they can hand over what they hold.
    pub fn stop_agents(&mut self) -> anyhow::Result<()> {
        for agent in self.agents.values() {
            agent.signal(Signal::SIGTERM)?;
        }
        for agent in std::mem::take(&mut self.agents).into_values() {
            let name = agent.name().to_owned();
            let status = agent.stop()?;
            anyhow::ensure!(status.success(), "{name} ended with {status}");
        }
        Ok(())
    }

    pub fn stop(mut self) -> anyhow::Result<()> {
        self.stop_agents()?;
        if self.collector.is_some() {
            self.stop_collector()?;
        }
        let status = self.planet.process.stop()?;
        anyhow::ensure!(status.success(), "the planet ended with {status}");
        Ok(())
    }

    /// The first process that ended although nobody told it to, with what it logged.
    pub fn fallen(&mut self) -> Option<String> {
        let all = self.agents.values_mut().chain(&mut self.collector).chain([&mut self.planet.process]);
        let mut fallen = all.filter_map(|process| process.ended().map(|status| (process, status)));
        fallen.next().map(|(process, status)| format!("{} ended with {status}:\n{}", process.name(), process.log()))
    }

    /// As [`until`], and fails as soon as anything that should run has ended.
    pub fn wait<T>(
        &mut self,
        what: &str,
        deadline: Duration,
        mut look: impl FnMut(&Self) -> Option<T>,
    ) -> anyhow::Result<T> {
        until(what, deadline, || match self.fallen() {
            Some(fallen) => Some(Err(anyhow::anyhow!("{what}: {fallen}"))),
            None => look(self).map(Ok),
        })?
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.listen)
    }

    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        http::get(&self.url(path))
    }

    pub fn hint(&self, source: &str) -> anyhow::Result<Value> {
        self.get(&format!("/api/v1/hints/{source}/voice"))
    }

    pub fn listen(&self) -> &str {
        &self.listen
    }

    pub fn data_dir(&self) -> PathBuf {
        self.file("data/collector")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Planet {
    fn start(options: &WorldOptions, listen: &str, dir: &Path) -> anyhow::Result<Self> {
        let address = dir.join("planet.address");
        let args = [
            "run".to_owned(),
            format!(
                "--mode={}",
                match options.mode {
                    Mode::Loopback => "loopback",
                    Mode::Router => "router",
                }
            ),
            format!("--regions={}", options.regions),
            format!("--seed={}", options.seed),
            format!("--control={}", options.control),
            format!("--collector=http://{listen}"),
            format!("--write-config={}", dir.display()),
            format!("--address-file={}", address.display()),
        ];
        let mut process = Process::start((Binary::Planet, &options.programs), "planet", dir, args)?;
        let control = process.address(&address)?;
        until("ready from the planet", Duration::from_secs(20), || {
            process.log().lines().any(|line| line == "ready").then_some(())
        })?;
        Ok(Self { process, control })
    }

    pub fn control(&self) -> &str {
        &self.control
    }

    pub fn truth(&self) -> anyhow::Result<Value> {
        self.get("/truth")
    }

    pub fn counts(&self) -> anyhow::Result<Value> {
        self.get("/counts")
    }

    pub fn regions(&self) -> anyhow::Result<Vec<String>> {
        let truth = self.truth()?;
        let regions = truth["regions"].as_array().context("the truth has no regions")?;
        Ok(regions.iter().filter_map(|region| region["name"].as_str()).map(str::to_owned).collect())
    }

    /// The fault's number.
    pub fn inject(&self, fault: &Value) -> anyhow::Result<Value> {
        Ok(http::post(&format!("http://{}/faults", self.control), fault)?["id"].take())
    }

    pub fn heal(&self, fault: &Value) -> anyhow::Result<()> {
        http::delete(&format!(
            "http://{}/faults/{}",
            self.control,
            fault.as_str().map_or(fault.to_string(), str::to_owned)
        ))
    }

    pub fn service_down(&self, region: &str) -> anyhow::Result<Value> {
        self.inject(&json!({ "kind": "service_down", "region": region, "service": "voice" }))
    }

    fn get(&self, path: &str) -> anyhow::Result<Value> {
        http::get(&format!("http://{}{path}", self.control))
    }
}

/// The same address, or with a free port where it asks for any or is taken.
fn free_port(listen: &str) -> anyhow::Result<String> {
    let listener =
        TcpListener::bind(listen).or_else(|_| TcpListener::bind("127.0.0.1:0")).context("find a free port")?;
    Ok(listener.local_addr().context("read the port")?.to_string())
}
