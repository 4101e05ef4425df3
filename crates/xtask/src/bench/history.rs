//! A week of a thousand paths, folded by our collector's own fold, at the pace at which it can: what a window takes on disk in each tier,
//! beside Prometheus' native histograms of the same windows, and how soon questions are answered over HTTP. What is ours is done by an example
//! program of the collector, since a server takes nothing that is a week old.
//!
//! Prometheus is sent the first hours of the first thousand paths, which is the same to the last sample. Its bytes are those of the chunks
//! that its own snapshot of all it has makes, and of its write-ahead log: without its index, which ours has no part of either, and with ours in the
//! tables after a compaction, keys and all.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use serde::Deserialize;
use telemetry::Wall;

use super::arena::Arena;
use super::ingest::fleet::{Fleet, WIDTH};
use super::ingest::load;
use super::ingest::server::{Kind, Server};
use super::table::{Goal, Line, Table};
use crate::cargo;

/// Of Prometheus.
const SERIES: usize = 1000;
const KILLS: &str = "100";
const SETTLE: Duration = Duration::from_secs(1);
const HOURS_A_YEAR: f64 = 365.0 * 24.0;
const YEAR_PATHS: f64 = 10_000.0;
/// What the README promises of that year, in GiB.
const YEAR_GIB: f64 = 10.0;

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Options {
    /// Days that `history` folds.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=30))]
    pub(super) days: u32,
    /// Paths of these days.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) paths: u32,
    /// Paths of which the matrix is asked.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) cells: u32,
    /// Hours that Prometheus is sent.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=24))]
    pub(super) beside: u32,
}

/// What the example program tells.
#[derive(Debug, Deserialize)]
struct Told {
    folded_s: f64,
    bytes_a_window: Bytes,
    asked: Vec<Asked>,
}

#[derive(Debug, Deserialize)]
struct Bytes {
    raw: f64,
    minute: f64,
    hour: f64,
}

#[derive(Debug, Deserialize)]
struct Asked {
    what: String,
    p50_ms: f64,
    p99_ms: f64,
}

/// Bytes of a window.
struct Beside {
    logged: f64,
    kept: f64,
}

pub(super) fn run(options: Options) -> anyhow::Result<()> {
    // On all cores: it is before this process keeps to one.
    let programs = cargo::programs_of("release")?;
    let Told { folded_s, bytes_a_window, asked } = ours(&programs, options)?;
    let killed = killed(&programs)?;
    let theirs = beside(&Arena::enter(SETTLE)?, options.beside)?;
    let mut table = Table::default();
    let weigh = |what, ours, goal| Line::new(what, ours, ("prometheus blocks", theirs.kept), goal);
    table.add(weigh("bytes a window of 10 s", bytes_a_window.raw, Goal::Times(0.5)));
    table.add(Line::new("bytes a window of 10 s", bytes_a_window.raw, ("prometheus wal", theirs.logged), Goal::Told));
    table.add(Line::alone("bytes a window of 10 s, at most", bytes_a_window.raw, Goal::Below(10.0)));
    table.add(Line::alone("bytes a window of 1 min", bytes_a_window.minute, Goal::Told));
    table.add(Line::alone("bytes a window of 1 h", bytes_a_window.hour, Goal::Told));
    let year = bytes_a_window.hour * HOURS_A_YEAR * YEAR_PATHS / f64::from(1 << 30);
    table.add(Line::alone("a year of 10,000 paths at 1 h, GiB", year, Goal::Below(YEAR_GIB)));
    for Asked { what, p50_ms, p99_ms } in asked {
        table.add(Line::alone(format!("{what}, p50 ms"), p50_ms, goal_of(&what)));
        table.add(Line::alone(format!("{what}, p99 ms"), p99_ms, Goal::Told));
    }
    let Options { days, paths, cells, beside } = options;
    println!(
        "\n{table}\n{days} days of {paths} paths, folded in {folded_s:.0} s; the matrix of {cells} paths; Prometheus had {beside} hours of \
         {SERIES} of the same\n{killed}"
    );
    Ok(())
}

/// What it is worth when it is killed again and again while it stores, rolls up and drops.
fn killed(programs: &Path) -> anyhow::Result<String> {
    let program = programs.join("examples/killed_history");
    let output = Command::new(&program).args(["kill", "--kills", KILLS]).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("run {}", program.display()))?;
    anyhow::ensure!(output.status.success(), "{}: {}", program.display(), output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

fn goal_of(what: &str) -> Goal {
    let goals = [("the matrix", 100.0), ("30 days", 50.0), ("a day of a path", 20.0)];
    let goal = goals.into_iter().find(|(begins, _)| what.starts_with(begins));
    goal.map_or(Goal::Told, |(_, ms)| Goal::Below(ms))
}

fn ours(programs: &Path, options: Options) -> anyhow::Result<Told> {
    let numbers = [("--days", options.days), ("--paths", options.paths), ("--cells", options.cells)];
    let program = programs.join("examples/history");
    let mut command = Command::new(&program);
    command.args(numbers.map(|(name, value)| format!("{name}={value}"))).stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("run {}", program.display()))?;
    anyhow::ensure!(output.status.success(), "{}: {}", program.display(), output.status);
    serde_json::from_slice(&output.stdout).context("read what it told")
}

/// The same windows at Prometheus.
fn beside(arena: &Arena, hours: u32) -> anyhow::Result<Beside> {
    let windows = hours * 3600 / WIDTH.as_secs() as u32;
    let fleet = Fleet::new(SERIES, windows as usize);
    let first = Wall::from(SystemTime::now()).slot(WIDTH) - WIDTH * windows;
    let load = Kind::Prometheus.encode(&fleet, first)?;
    let server = Server::start(Kind::Prometheus, arena)?;
    load::send(&server.takes(), &load, None)?;
    std::thread::sleep(SETTLE);
    let all = fleet.series() * windows as usize;
    server.has_stored(all)?;
    let kept = server.kept()?.context("Prometheus keeps no blocks")?;
    let beside = Beside { logged: server.logged()? as f64 / all as f64, kept: kept as f64 / all as f64 };
    server.program.stop()?;
    Ok(beside)
}
