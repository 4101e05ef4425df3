//! `cargo xtask demo | test | bench`: each does all its own set-up.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for people at a terminal")]

mod bench;
mod cargo;
mod demo;
mod setup;
mod test;
mod web;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build everything and run a planet, a collector and one agent a region.
    Demo(demo::Options),
    /// Everything that CI checks.
    Test,
    /// What we cost and how well we measure, beside the programs that do the same.
    Bench(bench::Options),
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    setup::ensure(&setup::TO_BUILD)?;
    match command {
        Command::Demo(options) => demo::run(&options),
        Command::Test => test::run(),
        Command::Bench(options) => bench::run(&options),
    }
}
