//! `cargo xtask bench`: ours and the peers, measured in the same run, one after the other, in a network of the bench's own.

mod agent;
mod arena;
mod net;
mod probes;
mod program;
mod sink;
mod table;

use std::time::Duration;

use clap::ValueEnum;

use crate::cargo;
use crate::setup;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// What a probe costs and how well it measures: against fping, `blackbox_exporter` and irtt
    Probes,
}

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Which one; left out, all of them.
    name: Option<Bench>,
    /// How often each comparison is made; the table shows the median.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// How long a program is watched each time. Ten seconds are one window of the agent's.
    #[arg(long = "watch", value_parser = humantime::parse_duration, default_value = "10s")]
    watch: Duration,
    /// These comparisons alone, such as `icmp,udp`.
    #[arg(long, value_delimiter = ',')]
    only: Vec<probes::Comparison>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let Options { name: None | Some(Bench::Probes), runs, watch, only } = options;
    setup::ensure(&setup::TO_BENCH)?;
    cargo::run(&["build", "--release", "--locked", "--package=isochrone-agent", "--bins", "--examples"])?;
    probes::run(*runs, *watch, only)
}
