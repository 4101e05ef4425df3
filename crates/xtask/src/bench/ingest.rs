//! What it costs to take histograms: our collector, Prometheus with native histograms, and `VictoriaMetrics`, one after the
//! other on the same core, each sent what the same series saw, over as many connections. Each gets it in its own form: OTLP
//! with zstd, as our agents send it; remote write with snappy; and, since Debian's `VictoriaMetrics` knows neither OTLP nor
//! native histograms, remote write of classic buckets, which are coarser.
//!
//! All of it is encoded before the clock starts. CPU is user and system time of the server from the first batch to a moment
//! after the last is acknowledged; what a server puts off for later than that is not counted for it. By its own count it has
//! stored what was sent, or the bench fails. The first windows, in which it makes the series, are not counted. An ack of ours is
//! durable; the others' are not.

mod classic;
pub(super) mod fleet;
pub(super) mod load;
mod native;
mod otlp;
mod remote;
pub(super) mod server;

use std::time::{Duration, Instant, SystemTime};

use telemetry::Wall;

use super::arena::Arena;
use super::table::{Goal, Line, Table};
use fleet::Fleet;
use load::{Acks, Latencies};
use server::{Kind, Server};

/// Windows in which series are made.
const WARM_UP: usize = 2;
/// So many end less than five minutes from now.
const AHEAD: usize = 27;
/// After the last ack, until what was acknowledged is where it belongs.
const SETTLE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Options {
    /// Series that each server is sent, in whole thousands.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1000..=1_000_000))]
    pub(super) series: u32,
    /// Windows of each series, after those in which it is made. A quarter of an hour has 90.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=88))]
    pub(super) windows: u32,
}

struct Measured {
    /// Histograms taken for each second of CPU.
    per_core: f64,
    acks: Latencies,
    hints: Option<Latencies>,
    /// Resident bytes for each series.
    memory: f64,
    /// Bytes for each histogram: in what is written first, and in what is kept where that is something else.
    logged: f64,
    kept: Option<f64>,
}

pub(super) fn run(runs: u32, options: Options) -> anyhow::Result<()> {
    let arena = Arena::enter(SETTLE)?;
    let begin = Instant::now();
    let fleet = Fleet::new(options.series as usize, WARM_UP + options.windows as usize);
    let mut table = Table::default();
    for run in 1..=runs {
        for line in compare(&arena, &fleet)? {
            println!("{run}/{runs} {line}");
            table.add(line);
        }
    }
    println!(
        "\n{table}\n{} series, {} windows of {} samples each; ours and the others were measured in turns, {runs} times each, \
         in {} s",
        fleet.series(),
        options.windows,
        fleet::SAMPLES,
        begin.elapsed().as_secs()
    );
    Ok(())
}

fn compare(arena: &Arena, fleet: &Fleet) -> anyhow::Result<Vec<Line>> {
    let ours = measure(Kind::Collector, arena, fleet)?;
    let mut lines = Vec::new();
    for (kind, goal) in [(Kind::Prometheus, Goal::AtLeast(5.0)), (Kind::VictoriaMetrics, Goal::Told)] {
        let theirs = measure(kind, arena, fleet)?;
        let mut beside =
            |what, ours: f64, theirs: f64, goal| lines.push(Line::new(what, ours, (kind.name(), theirs), goal));
        beside("1,000 histograms for each CPU second", ours.per_core / 1e3, theirs.per_core / 1e3, goal);
        beside("ack p50 ms", ours.acks.quantile_ms(0.5)?, theirs.acks.quantile_ms(0.5)?, Goal::Told);
        beside("ack p99 ms", ours.acks.quantile_ms(0.99)?, theirs.acks.quantile_ms(0.99)?, Goal::Told);
        beside("resident bytes for each series", ours.memory, theirs.memory, Goal::Told);
        beside("bytes written for each histogram", ours.logged, theirs.logged, Goal::Told);
        if let Some(kept) = theirs.kept {
            beside("bytes kept for each histogram", ours.logged, kept, Goal::Times(0.5));
        }
    }
    if let Some(hints) = ours.hints {
        lines.push(Line::alone("a hint while batches come, p50 ms", hints.quantile_ms(0.5)?, Goal::Told));
        lines.push(Line::alone("a hint while batches come, p99 ms", hints.quantile_ms(0.99)?, Goal::Below(5.0)));
    }
    Ok(lines)
}

fn measure(kind: Kind, arena: &Arena, fleet: &Fleet) -> anyhow::Result<Measured> {
    // The last windows are those of the next minutes: each is news when it comes, and none is so far ahead that it is refused.
    let first =
        Wall::from(SystemTime::now()).slot(fleet::WIDTH) - fleet::WIDTH * fleet.windows.saturating_sub(AHEAD) as u32;
    let load = kind.encode(fleet, first)?;
    let (warm_up, counted) = load.split_at(WARM_UP);
    let mut server = Server::start(kind, arena)?;
    load::send(&server.takes(), warm_up, None)?;
    std::thread::sleep(SETTLE);
    server.has_stored(fleet.series() * WARM_UP)?;
    let (before, takes, asked) = (server.logged()?, server.takes(), server.asked());
    let (spent, Acks { acks, asked }) = server.program.during(|| {
        let acks = load::send(&takes, counted, asked.as_deref())?;
        std::thread::sleep(SETTLE);
        Ok(acks)
    })?;
    server.has_stored(fleet.series() * load.len())?;
    let points = (fleet.series() * counted.len()) as f64;
    let measured = Measured {
        per_core: points / spent.cpu.as_secs_f64(),
        acks,
        hints: asked,
        memory: server.program.memory()? as f64 / fleet.series() as f64,
        logged: server.logged()?.saturating_sub(before) as f64 / points,
        kept: server.kept()?.map(|bytes| bytes as f64 / (fleet.series() * load.len()) as f64),
    };
    server.program.stop()?;
    Ok(measured)
}
