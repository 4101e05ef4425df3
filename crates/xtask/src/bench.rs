//! `cargo xtask bench`: ours and the peers, measured in the same run, one after the other, in a network of the bench's own; and what
//! is too long for a test.

mod agent;
mod arena;
mod crash;
mod history;
mod ingest;
mod net;
mod probes;
mod program;
mod restart;
mod sink;
mod table;

use std::time::Duration;

use clap::ValueEnum;

use crate::cargo;
use crate::setup;
use crate::web;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// What a probe costs and how well it measures: against fping, `blackbox_exporter` and irtt
    Probes,
    /// Whether anything acknowledged is lost, doubled or altered when agents and collector are killed again and again
    Crash,
    /// What a histogram costs that is taken: against Prometheus and `VictoriaMetrics`
    Ingest,
    /// Seeded lives of agents, a network that fails and a collector: whether anything is lost in silence or counted twice
    Sim,
    /// How soon a collector is ready again, with a hundred thousand series
    Restart,
    /// What a week of a thousand paths takes on disk, against Prometheus; how soon history is answered; whether a hundred kills alter it
    History,
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
    /// How many processes `crash` kills.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    kills: u32,
    /// Whom and when: another seed is another run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many lives `sim` lives.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    #[command(flatten)]
    ingest: ingest::Options,
    #[command(flatten)]
    history: history::Options,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let is_asked = |bench| options.name.is_none_or(|name| name == bench);
    if is_asked(Bench::Probes) {
        setup::ensure(&setup::TO_BENCH)?;
        cargo::run(&["build", "--release", "--locked", "--package=isochrone-agent", "--bins", "--examples"])?;
        probes::run(options.runs, options.watch, &options.only)?;
    }
    if is_asked(Bench::Crash) {
        crash::run(options.kills, options.seed)?;
    }
    if is_asked(Bench::Ingest) {
        setup::ensure(&setup::TO_BENCH)?;
        take_in(options)?;
    }
    if is_asked(Bench::Sim) {
        let seeds = options.seeds.to_string();
        cargo::run(&["run", "--release", "--locked", "--package=simulation", "--", "--seeds", &seeds])?;
    }
    if is_asked(Bench::Restart) {
        cargo::run(&["build", "--release", "--locked", "--package=isochrone-collector"])?;
        restart::run(options.runs)?;
    }
    if is_asked(Bench::History) {
        setup::ensure(&setup::TO_BENCH)?;
        look_back(options)?;
    }
    Ok(())
}

fn look_back(options: &Options) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        let history::Options { days, paths, cells, beside } = options.history;
        let numbers = [("--days", days), ("--paths", paths), ("--cells", cells), ("--beside", beside)];
        let numbers: Vec<_> = numbers.iter().map(|(name, number)| format!("{name}={number}")).collect();
        let run = ["run", "--release", "--locked", "--package=xtask", "--", "bench", "history"];
        let args: Vec<_> = run.into_iter().chain(numbers.iter().map(String::as_str)).collect();
        return cargo::run(&args);
    }
    web::build()?;
    cargo::run(&["build", "--release", "--locked", "--package=isochrone-collector", "--examples"])?;
    history::run(options.history)
}

fn take_in(options: &Options) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        // The load of a whole fleet is encoded here: by a program that is optimized too.
        let ingest::Options { series, windows } = options.ingest;
        let (runs, series) = (format!("--runs={}", options.runs), format!("--series={series}"));
        let (bench, windows) = (["--", "bench", "ingest"], format!("--windows={windows}"));
        let run = ["run", "--release", "--locked", "--package=xtask"];
        return cargo::run(&[&run[..], &bench, &[&runs, &series, &windows]].concat());
    }
    web::build()?;
    cargo::run(&["build", "--release", "--locked", "--package=isochrone-collector"])?;
    ingest::run(options.runs, options.ingest)
}
