//! Our agent at work on a plan of many alike targets, as an operator would run it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;

use super::arena::Arena;
use super::program::{Core, Program, Spent};
use super::sink::{Sink, Told};

/// What begins is not measured: connections are opened, memory is touched for the first time.
const WARM_UP: Duration = Duration::from_secs(2);

/// Targets, each with the same probes.
#[derive(Debug, Default)]
pub(super) struct Plan {
    targets: String,
    count: usize,
    per_second: f64,
}

#[derive(Debug)]
pub(super) struct Agent {
    program: Program,
    sink: Sink,
    per_second: f64,
}

impl Plan {
    /// `probe` is a TOML table, without its header and without `every`.
    pub(super) fn add(mut self, addresses: impl IntoIterator<Item = String>, probe: &str, every: Duration) -> Self {
        for address in addresses {
            self.count += 1;
            self.per_second += every.as_secs_f64().recip();
            write!(
                self.targets,
                "[[target]]\nid = \"t{}\"\nservice = \"bench\"\nregion = \"far\"\naddress = \"{address}\"\n\
                 [[target.probe]]\nevery = \"{}\"\n{probe}\n",
                self.count,
                humantime::format_duration(every),
            )
            .expect("a string takes everything");
        }
        self
    }
}

impl Agent {
    /// The binary that is shipped.
    pub(super) fn start(arena: &Arena, plan: &Plan) -> anyhow::Result<Self> {
        Self::start_as(arena, &arena.programs.join("isochrone-agent"), &["run"], plan)
    }

    pub(super) fn start_as(arena: &Arena, program: &Path, args: &[&str], plan: &Plan) -> anyhow::Result<Self> {
        let sink = Sink::open()?;
        let config = arena.dir.path().join("agent.toml");
        let head = format!("region = \"near\"\nagent = \"near-1\"\ncollector = \"http://{}\"\n", sink.address);
        fs::write(&config, head + &plan.targets).context("write the agent's configuration")?;
        let args = args.iter().map(AsRef::as_ref).chain(["--config".as_ref(), config.as_os_str()]);
        let program = Program::start(Core::Measured, ("agent", program), args, arena.dir.path())?;
        thread::sleep(WARM_UP);
        Ok(Self { program, sink, per_second: plan.per_second })
    }

    pub(super) fn watch(&mut self, length: Duration) -> anyhow::Result<Spent> {
        self.program.watch(length)
    }

    pub(super) fn memory(&self) -> anyhow::Result<u64> {
        self.program.memory()
    }

    /// CPU microseconds for each probe that was due while it was watched.
    pub(super) fn cpu_us(&self, spent: Spent) -> f64 {
        spent.cpu.as_secs_f64() * 1e6 / (spent.watched.as_secs_f64() * self.per_second)
    }

    /// Stops it; what it told in its whole life. An agent that sent less than its plan says is not measured but broken, and so
    /// is one of whose probes more than so many failed.
    pub(super) fn finish(self, may_fail: f64) -> anyhow::Result<Told> {
        let Self { program, sink, per_second } = self;
        // The first of each series waits for its phase, on average half an interval.
        let due = (program.age().as_secs_f64() - 1.5) * per_second;
        let log = program.log();
        program.stop()?;
        let told = sink.told()?;
        let (sent, failed) = (told.sent() as f64, told.failed() as f64);
        anyhow::ensure!(sent > 0.95 * due, "the agent sent {sent} probes of {due:.0}:\n{log}");
        anyhow::ensure!(failed <= may_fail * sent, "{failed} of {sent} probes failed: {told:?}\n{log}");
        Ok(told)
    }
}
