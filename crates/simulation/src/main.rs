//! Lives through seeds, and says which of them did not hold.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for people at a terminal")]

use std::process::ExitCode;
use std::time::Duration;

use agent::spool::Limits;
use clap::Parser;
use simulation::outage::{Outage, live};

/// At the pace of an agent, with as much room as one has.
const AWAY: Outage = Outage {
    lasts: Duration::from_hours(72),
    every: Duration::from_secs(10),
    series: 100,
    limits: Limits { bytes: 64 << 20, age: Duration::from_hours(24) },
    restarts: 20,
};

/// Seeded lives of agents, a network that fails and a collector; every one must lose nothing in silence and count nothing twice.
#[derive(Parser)]
struct Args {
    /// That one alone.
    #[arg(long)]
    seed: Option<u64>,
    /// How many, from 0 on.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
}

fn main() -> ExitCode {
    let Args { seed, seeds } = Args::parse();
    let all = seed.map_or(0..seeds, |seed| seed..seed + 1);
    let (mut made, mut counted, mut lost, mut failed) = (0, 0, 0, 0);
    for seed in all.clone() {
        match simulation::run(seed) {
            Ok(life) => {
                (made, counted, lost) = (made + life.made, counted + life.counted, lost + life.lost);
                if all.end - all.start == 1 {
                    println!("{life:?}");
                }
            }
            Err(fault) => {
                eprintln!("{fault:?}\nalone: cargo run --release -p simulation -- --seed {seed}\n");
                failed += 1;
            }
        }
    }
    if seed.is_none() {
        match live(1, AWAY) {
            Ok(left) => println!("72 h away: {left:?}"),
            Err(fault) => {
                eprintln!("72 h away: {fault:?}\n");
                failed += 1;
            }
        }
    }
    println!(
        "{} lives, {failed} failed; {made} batches made, {counted} counted once, {lost} given up",
        all.end - all.start
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
