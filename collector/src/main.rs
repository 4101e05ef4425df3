//! `isochrone-collector`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use collector::admission::Gate;
use collector::api::{self, Leaving};
use collector::command;
use collector::config::Config;
use collector::core::{Core, Keep};
use collector::deliver::{Courier, Post};
use collector::entry::{Entry, Record};
use collector::export::{Export, Otlp, Place};
use collector::history;
use collector::ingest::Ingest;
use collector::log::{Appender, Log};
use collector::meters;
use collector::policy::Policy;
use collector::settle::Settle;
use collector::snapshot::Snapshots;
use collector::stopped;
use collector::unpack::Unpack;
use collector::{jobs, marks, server};
use runtime::meters::Meters;
use runtime::own::{Identity, Own};
use runtime::{Clock, Tasks, logs};
use tracing::{error, info};

/// Takes what agents measure; serves the dashboard, routing hints and the API.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run until told to stop.
    Run(Run),
    /// Read a configuration and say everything that is wrong with it.
    Check {
        #[arg(long)]
        config: PathBuf,
    },
    /// Write what was measured in a range to stdout, for other tools.
    Export(command::export::Args),
    /// Copy all that a collector has into a directory of its own, and say which.
    Backup(command::backup::BackUp),
    /// Make a data directory of a backup.
    Restore(command::backup::Restore),
    /// Conclude again what was measured in a range, and what would be otherwise under another configuration.
    Replay(command::replay::Args),
}

#[derive(clap::Args)]
struct Run {
    #[arg(long)]
    config: PathBuf,
    /// Instead of the configuration's `listen`. Port 0 takes a free one.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Instead of the configuration's `data_dir`.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Write the bound address there.
    #[arg(long)]
    address_file: Option<PathBuf>,
    #[arg(long, default_value = "text")]
    log_format: logs::Format,
}

/// What sysexits(3) has for a command line that cannot be used, as for a configuration.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(said) => return unusable(&said),
    };
    match args.command {
        Command::Run(run) => start(run),
        Command::Check { config } => check(&config),
        Command::Export(args) => by_hand(|| args.run()),
        Command::Backup(args) => by_hand(|| args.run()),
        Command::Restore(args) => by_hand(|| args.run()),
        Command::Replay(args) => replay(&args),
    }
}

/// Help that was asked for is no fault.
fn unusable(said: &clap::Error) -> ExitCode {
    match (said.print(), said.use_stderr()) {
        (Ok(()), false) => ExitCode::SUCCESS,
        _ => ExitCode::from(USAGE),
    }
}

/// The error and what it came from, each told once: some of them tell their cause themselves.
fn causes(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !said.contains(&cause) {
            said += if said.is_empty() { "" } else { ": " };
            said += &cause;
        }
    }
    said
}

fn replay(args: &command::replay::Args) -> ExitCode {
    let other = args.config().map(|file| Config::load(file)).transpose();
    match other {
        Ok(other) => by_hand(|| args.run(other)),
        Err(faults) => faults.report(),
    }
}

/// What was asked for goes to stdout, and what went wrong to stderr.
fn by_hand(command: impl FnOnce() -> anyhow::Result<()>) -> ExitCode {
    logs::warnings();
    match command() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{}", causes(&error));
            ExitCode::FAILURE
        }
    }
}

fn check(path: &std::path::Path) -> ExitCode {
    logs::init(logs::Format::Text);
    match Config::load(path) {
        Ok(config) => {
            let policy = &config.policy;
            let (regions, services, targets) = (policy.regions.len(), policy.services.len(), policy.targets.len());
            info!(regions, services, targets, "configuration is good");
            ExitCode::SUCCESS
        }
        Err(faults) => faults.report(),
    }
}

fn start(args: Run) -> ExitCode {
    let mut config = match Config::load(&args.config) {
        Ok(config) => config,
        Err(faults) => return faults.report(),
    };
    config.listen = args.listen.unwrap_or(config.listen);
    config.data_dir = args.data.unwrap_or(config.data_dir);
    let identity = Identity::of_host("isochrone-collector", env!("CARGO_PKG_VERSION"));
    let own = Own::start(&identity, config.telemetry.as_ref(), args.log_format);
    let meters = own.meters.clone();
    let run = |tasks| async move { run(&tasks, config, meters, args.address_file).await };
    let code = runtime::run("isochrone-collector", run);
    own.farewell();
    code
}

async fn run(tasks: &Tasks, config: Config, meters: Meters, address_file: Option<PathBuf>) -> anyhow::Result<()> {
    let (listener, address) = server::bind(config.listen, address_file.as_deref()).await?;
    info!(%address, data_dir = %config.data_dir.display(), "listening");

    let clock = Clock::start();
    stopped::refuse_backup(&config.data_dir)?;
    let log = Log::open(&config.data_dir)?;
    let due = jobs::SnapshotDue::default();
    let (history, intake, keeper) = history::open(&config.data_dir, config.retention)?;
    tasks.thread("history", move || {
        keeper.run();
        Ok::<_, String>(())
    })?;
    let snapshots = Snapshots::open(&config.data_dir)?;
    let core = Core::recover(&log, Keep { snapshots, history: intake, due: Arc::clone(&due) })?;
    let end = log.next();
    let (appender, feed) = log.start(core.folded());

    let (alarm, shutdown) = (marks::Alarm::default(), tasks.shutdown());
    let (known, snapshots) = (core.state().policy.clone(), core.snapshots());
    meters::observe(&meters, &snapshots, &appender);
    meters::observe_outbox(&meters, &snapshots);
    meters::observe_history(&meters, &history, &appender);
    let gate = Gate::new(config.limits.waiting, clock);
    meters::observe_gate(&meters, &gate);
    let (unpack, unpacker) = Unpack::new(appender.clone(), snapshots.clone(), clock, config.limits);
    let ingest = Ingest::new(gate, unpack, Arc::clone(&alarm), config.limits, &meters);
    tasks.thread("unpack", move || {
        unpacker.run();
        Ok::<_, String>(())
    })?;
    tasks.thread("fold", {
        let (appender, shutdown) = (appender.clone(), shutdown.clone());
        move || core.run(&feed, &appender, &shutdown)
    })?;
    adopt(&appender, known.as_deref(), config.policy, clock).await?;
    for (receiver, reached) in config.receivers {
        let courier = Courier::new(receiver, Post::new(reached)?, snapshots.clone(), appender.clone(), clock);
        tasks.spawn("deliver", courier.run(shutdown.clone()));
    }
    if let Some(url) = config.export {
        let place = Place::open(config.data_dir.join("export.position"), end)?;
        let export = Export::new(Otlp::new(url)?, place, &appender, snapshots.news(), &meters);
        tasks.spawn("export", export.run(shutdown.clone()));
    }
    tasks.spawn("jobs", jobs::run(Arc::clone(&due), shutdown.clone()));
    let settle = Settle { due, log: appender.clone(), history };
    let leaving = Leaving { settle, data_dir: config.data_dir, backup: config.backup, clock };
    let marks = marks::run(appender, clock, alarm, shutdown.clone());
    tasks.spawn("clock", async move { marks.await.map_err(anyhow::Error::from) });
    tasks.spawn("serve", server::serve(listener, api::router(ingest, snapshots, leaving, meters), shutdown));
    Ok(())
}

/// What is judged by goes into the log, once for each change.
async fn adopt(log: &Appender, known: Option<&Policy>, policy: Policy, clock: Clock) -> anyhow::Result<()> {
    if known == Some(&policy) {
        return Ok(());
    }
    let at = clock.wall();
    let record = Record::Config(at, policy.clone());
    log.append(&record, Entry::Config { at, policy: Arc::new(policy) }).await.context("log the configuration")?;
    Ok(())
}
