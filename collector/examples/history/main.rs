//! Days of many paths, folded by the real fold into real history in minutes, weighed, and asked over HTTP: for `cargo xtask bench`, which
//! sends what the first paths saw to a peer as well. Prints one JSON object. Not shipped.

mod ask;
mod weigh;
mod world;

use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use collector::history::Tier;
use serde_json::json;

use ask::Asked;
use world::{DAY, HOUR, Shape, World};

/// Of the matrix: two hours that are rolled up, one that is not, and minutes that are not stored.
const MATRIX: Duration = Duration::from_mins(158);
const STORED: Duration = Duration::from_mins(155);
const MONTH_PATHS: usize = 20;

#[derive(Parser)]
struct Args {
    #[arg(long)]
    days: u32,
    /// Of those days.
    #[arg(long)]
    paths: usize,
    /// Of the matrix.
    #[arg(long)]
    cells: usize,
}

fn main() -> anyhow::Result<()> {
    let Args { days, paths, cells } = Args::parse();
    let dir = tempfile::Builder::new().prefix("isochrone-bench-").tempdir().context("make a folder")?;
    let home = |name: &str| dir.path().join(name);

    let length = DAY * days;
    let world = World::fold(&home("days"), Shape::of(paths), length)?;
    let folded_s = world.took.as_secs_f64();
    let mut asked = Vec::new();
    let day = DAY.min(length);
    for (tier, step) in [(Tier::Raw, "10s"), (Tier::Minute, "1m"), (Tier::Hour, "1h")] {
        asked.push(world.ask(&format!("a day of a path in steps of {step}"), "history", (day, step), tier)?);
    }
    asked.push(world.ask("the heatmap of a day of a path", "heatmap", (day, "1m"), Tier::Minute)?);
    world.end()?;
    let bytes = weigh::by_tier(&home("days"), paths, days)?;

    let world = World::fold(&home("month"), Shape::of_hours(MONTH_PATHS), DAY * 30)?;
    asked.push(world.ask("30 days of a path", "history", (DAY * 30, "1h"), Tier::Hour)?);
    world.end()?;

    let world = World::fold(&home("matrix"), Shape::of(cells), MATRIX)?;
    let minutes = |from: Duration, to: Duration| (world.begin + from, world.begin + to);
    asked.push(world.matrix("the matrix of a minute that is rolled up", minutes(Duration::ZERO, HOUR * 2))?);
    asked.push(world.matrix("the matrix of a minute of this hour", minutes(HOUR * 2, STORED))?);
    asked.push(world.matrix("the matrix of a minute ago", minutes(STORED, MATRIX))?);
    world.end()?;

    let asked: Vec<_> = asked.iter().map(Asked::told).collect();
    #[expect(clippy::print_stdout, reason = "it is what this program is for")]
    {
        println!("{}", json!({ "folded_s": folded_s, "bytes_a_window": bytes, "asked": asked }));
    }
    Ok(())
}
