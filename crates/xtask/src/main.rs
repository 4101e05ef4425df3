//! `cargo xtask demo | test`: each does all its own set-up.

#![expect(clippy::print_stdout, reason = "a tool for people at a terminal")]

mod cargo;
mod demo;
mod setup;
mod test;

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
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    setup::ensure_tools()?;
    match args.command {
        Command::Demo(options) => demo::run(&options),
        Command::Test => test::run(),
    }
}
