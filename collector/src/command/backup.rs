//! `isochrone-collector backup` and `restore`: a copy of all that a collector has, and a data directory made of it.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use runtime::Clock;
use serde_json::{Value, json};

use super::Whose;
use crate::backup::{Source, restore};
use crate::stopped::Stopped;

#[derive(Debug, clap::Args)]
pub struct BackUp {
    #[command(flatten)]
    whose: Whose,
    /// The directory for backups; one that runs has it in its configuration, as [backup] dir
    #[arg(long, value_name = "DIR", required_unless_present = "collector", conflicts_with = "collector")]
    to: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub struct Restore {
    /// A backup: a directory with a manifest.json
    backup: PathBuf,
    /// The data directory to make of it: empty, or not there
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

impl BackUp {
    /// Says where it is.
    pub fn run(&self) -> anyhow::Result<()> {
        let dir = match (&self.whose.collector, &self.whose.data, &self.to) {
            (Some(collector), ..) => {
                let taken: Value = collector.post("/api/v1/backups", &json!({}))?.json().context("read the answer")?;
                taken["dir"].as_str().context("the answer names no directory")?.to_owned()
            }
            (_, Some(data), Some(to)) => {
                let Stopped { log, history, .. } = Stopped::open(data)?;
                let source = Source { data_dir: data.clone(), history, log: log.reading() };
                source.back_up(to, Clock::start().wall())?.dir.display().to_string()
            }
            _ => unreachable!("the command line has what it takes"),
        };
        Ok(writeln!(io::stdout(), "{dir}")?)
    }
}

impl Restore {
    /// Says where it is.
    pub fn run(&self) -> anyhow::Result<()> {
        let manifest = restore(&self.backup, &self.data, Clock::start().wall())?;
        Ok(writeln!(io::stdout(), "{}: as of {}", self.data.display(), manifest.taken)?)
    }
}
