//! Everything killed at random moments, a thousand times: what was acknowledged is there, once. The test in `crates/e2e` is the
//! same with fewer kills.

use std::time::Instant;

use anyhow::Context as _;
use e2e::crash::{Crash, Report};
use e2e::ledger::Faults;

use crate::cargo;

/// Of one world: what the API shows looks back for 15 minutes.
const KILLS_OF_A_WORLD: u32 = 250;

pub(super) fn run(kills: u32, seed: u64) -> anyhow::Result<()> {
    let packages = ["--package=planet", "--package=isochrone-collector", "--package=isochrone-agent"];
    cargo::run(&[&["build", "--release", "--locked", "--bins"], &packages[..]].concat())?;
    let begin = Instant::now();
    let mut total = Report::default();
    let worlds = kills.div_ceil(KILLS_OF_A_WORLD);
    for world in 0..worlds {
        let seed = seed + u64::from(world);
        let left = kills.saturating_sub(total.kills);
        let report = survive(seed, left.div_ceil(worlds - world)).with_context(|| format!("seed {seed}"))?;
        println!("seed {seed}: {report}");
        total.add(report);
    }
    println!("\nin {} s: {total}", begin.elapsed().as_secs());
    anyhow::ensure!(total.faults == Faults::default(), "{:#?}", total.faults.said);
    Ok(())
}

fn survive(seed: u64, kills: u32) -> anyhow::Result<Report> {
    let mut crash = Crash::start(seed, cargo::programs_of("release")?)?;
    crash.kill(kills)?;
    crash.settle()
}
