//! History killed again and again while it stores, rolls up and drops, and what it then tells held against the log: for a test, and for
//! `cargo xtask bench`. The log is a function, so that no time goes by but history's own: a day takes a fraction of a second. Not shipped.

mod log;
mod victim;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

use victim::Victim;

/// From the start of a process to its end: some are killed as they open what the one before left.
const LIFE_MS: std::ops::Range<u64> = 5..700;

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Act,
}

#[derive(Subcommand)]
enum Act {
    /// Kill it so often, then look.
    Kill {
        #[arg(long)]
        kills: u32,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Go on until killed.
    Live {
        #[arg(long)]
        data: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    match Args::parse().command {
        Act::Live { data } => Victim::start(&data)?.live(),
        Act::Kill { kills, seed } => {
            let dir = tempfile::Builder::new().prefix("isochrone-").tempdir().context("make a folder")?;
            let mut random = Pcg64Mcg::seed_from_u64(seed);
            for kill in 1..=kills {
                die(dir.path(), random.random_range(LIFE_MS)).with_context(|| format!("kill {kill}, seed {seed}"))?;
            }
            let told = Victim::start(dir.path())?.check().with_context(|| format!("seed {seed}"))?;
            #[expect(clippy::print_stdout, reason = "it is what this program is for")]
            {
                println!("history killed {kills} times: {told}");
            }
            Ok(())
        }
    }
}

fn die(data: &Path, life_ms: u64) -> anyhow::Result<()> {
    let this = std::env::current_exe().context("find this program")?;
    let mut child = Command::new(this).args(["live", "--data"]).arg(data).stderr(Stdio::piped()).spawn()?;
    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    std::thread::sleep(Duration::from_millis(life_ms));
    let ended = child.try_wait()?;
    child.kill().context("kill it")?;
    let said = child.wait_with_output()?;
    anyhow::ensure!(ended.is_none(), "it ended by itself: {}", String::from_utf8_lossy(&said.stderr));
    Ok(())
}
