//! The demo: a planet on loopback, a collector, one agent a region, and a table of what routers are told.

mod script;
mod table;

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use e2e::{Mode, World, WorldOptions};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::cargo::{self, PROFILE};
use crate::web;
use script::Script;
use table::Table;

const TICK: Duration = Duration::from_millis(250);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many regions the planet has.
    #[arg(long, default_value_t = 20)]
    regions: usize,
    /// Another seed is another planet.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The planet routes every packet between network namespaces: as root, or where user namespaces are allowed.
    #[arg(long)]
    router: bool,
    /// Faults to play; see config/demo-faults.toml.
    #[arg(long)]
    fault_script: Option<PathBuf>,
    /// Stop by itself after so long.
    #[arg(long = "for", value_parser = humantime::parse_duration)]
    for_how_long: Option<Duration>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let begin = Instant::now();
    let script = options.fault_script.as_deref().map(Script::load).transpose()?;
    web::build()?;
    cargo::run(&[
        "build",
        "--profile",
        PROFILE,
        "--package=planet",
        "--package=isochrone-collector",
        "--package=isochrone-agent",
    ])?;
    let built = begin.elapsed();
    let told_to_stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&told_to_stop)).context("listen for signals")?;
    }

    let world = World::start(&WorldOptions {
        mode: if options.router { Mode::Router } else { Mode::Loopback },
        regions: options.regions,
        seed: options.seed,
        control: "127.0.0.1:8470".to_owned(),
        listen: "127.0.0.1:8460".to_owned(),
        collector: String::new(),
        programs: cargo::programs()?,
        ..WorldOptions::default()
    })?;
    println!("built in {} s; {} regions run", built.as_secs(), options.regions);
    let watched = watch(world, options, script, &told_to_stop);
    if told_to_stop.load(Ordering::Relaxed) {
        println!();
    }
    watched
}

fn watch(
    mut world: World,
    options: &Options,
    mut script: Option<Script>,
    told_to_stop: &AtomicBool,
) -> anyhow::Result<()> {
    let begin = Instant::now();
    let mut table = Table::new(io::stdout().is_terminal(), &world);
    let over = |elapsed: Duration| options.for_how_long.is_some_and(|length| elapsed >= length);
    while !told_to_stop.load(Ordering::Relaxed) && !over(begin.elapsed()) {
        if let Some(fallen) = world.fallen() {
            anyhow::bail!("{fallen}");
        }
        if let Some(script) = &mut script {
            for event in script.play(begin.elapsed(), &world.planet)? {
                table.note(begin.elapsed(), event);
            }
        }
        table.show(begin.elapsed(), &world);
        thread::sleep(TICK);
    }
    println!("stopping");
    // Ctrl-C reaches the whole group: who has already stopped has done as told.
    let interrupted = told_to_stop.load(Ordering::Relaxed);
    world.stop().or_else(|error| if interrupted { Ok(()) } else { Err(error) })
}
