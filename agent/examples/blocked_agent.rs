//! The agent beside something that blocks its async runtime now and then, as a careless dependency would: for `cargo xtask
//! bench`, which shows that what the pacer measures does not pass through the runtime. Not shipped.

use std::convert::Infallible;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use agent::{Config, pipeline};
use clap::Parser;
use runtime::logs::Format;
use runtime::own::{Identity, Own};
use runtime::{Shutdown, Tasks};
use tokio::runtime::Handle;
use tokio::time::MissedTickBehavior;

#[derive(Parser)]
struct Args {
    #[arg(long)]
    config: PathBuf,
    /// How long every worker of the runtime does nothing else
    #[arg(long, value_parser = humantime::parse_duration)]
    block: Duration,
    /// How often
    #[arg(long, value_parser = humantime::parse_duration)]
    every: Duration,
}

fn main() -> ExitCode {
    let Args { config, block, every } = Args::parse();
    let config = match Config::load(&config) {
        Ok(config) => config,
        Err(faults) => return faults.report(),
    };
    let identity = Identity::of_host("blocked-agent", env!("CARGO_PKG_VERSION"));
    let own = Own::start(&identity, None, Format::Text);
    let meters = own.meters.clone();
    let code = runtime::run("blocked-agent", |tasks: Tasks| async move {
        if !block.is_zero() {
            // One for each worker: they wake at the same moment, and none is left to take what waits.
            for _ in 0..Handle::current().metrics().num_workers() {
                let shutdown = tasks.shutdown();
                tasks.spawn("blocker", async move {
                    now_and_then(block, every, shutdown).await;
                    Ok::<_, Infallible>(())
                });
            }
        }
        Ok(pipeline::start(&config, &meters, &tasks).await?)
    });
    own.farewell();
    code
}

async fn now_and_then(block: Duration, every: Duration, shutdown: Shutdown) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while !shutdown.is_cancelled() {
        ticks.tick().await;
        #[expect(clippy::disallowed_methods, reason = "to block is the point")]
        std::thread::sleep(block);
    }
}
