//! Our agent at work on a plan of many alike targets, as an operator would run it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;

use super::arena::Arena;
use super::program::{Core, Program};
use super::sink::{Sink, Told};

/// What begins is not measured: connections are opened, memory is touched for the first time.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long a start takes at most, and a first probe of an interval of a second.
const START: Duration = Duration::from_millis(1500);

/// Targets, each with the same probes.
#[derive(Debug, Default)]
pub(super) struct Plan {
    targets: String,
    count: usize,
    per_second: f64,
}

/// What was seen of an agent.
#[derive(Debug)]
pub(super) struct Measured {
    /// CPU microseconds for each probe that it sent.
    pub(super) cpu_us: f64,
    /// Resident, in bytes.
    pub(super) memory: u64,
    pub(super) told: Told,
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

    /// Looks on for so long without counting.
    pub(super) fn settle(&mut self, length: Duration) -> anyhow::Result<()> {
        self.program.watch(length).map(drop)
    }

    /// Watches it for so long, then stops it. An agent of whose probes more than that share failed is not measured but broken.
    pub(super) fn measure(mut self, length: Duration, may_fail: f64) -> anyhow::Result<Measured> {
        let spent = self.program.watch(length)?;
        let memory = self.program.memory()?;
        let Self { program, sink, per_second } = self;
        // The first of each series waits for its phase, on average half an interval.
        let due = (program.age().as_secs_f64() - START.as_secs_f64()) * per_second;
        let log = program.log();
        program.stop()?;
        let told = sink.told()?;
        let (sent, failed) = (told.sent() as f64, told.failed() as f64);
        anyhow::ensure!(sent > due / 2.0, "the agent sent {sent} probes of {due:.0}:\n{log}");
        anyhow::ensure!(failed <= may_fail * sent, "of {sent} probes failed {:?}\n{log}", told.failures());
        let share = (sent / due).min(1.0);
        if share < 0.95 {
            println!("this machine is busy: the agent sent {:.0} % of what was due", share * 100.0);
        }
        Ok(Measured { cpu_us: spent.per_probe(per_second * share), memory, told })
    }
}
