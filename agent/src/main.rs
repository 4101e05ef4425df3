//! `isochrone-agent`: measures from where it stands and tells the collector.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use agent::reflect::{self, Reflector};
use agent::trial::{self, Live, Summary, USUAL_COLUMNS};
use agent::{Config, pipeline};
use anyhow::Context as _;
use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use runtime::Tasks;
use runtime::logs::{self, Format};
use runtime::own::{Identity, Own};
use tracing::info;

#[derive(Parser)]
#[command(version, about)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures until it is told to stop
    Run {
        #[arg(long)]
        config: PathBuf,
        /// text or json
        #[arg(long, default_value = "text")]
        log_format: Format,
    },
    /// Reads a configuration and lists every fault in it
    Check {
        #[arg(long)]
        config: PathBuf,
    },
    /// Probes one address by hand, and says what became of it; exits 1 where nothing came back
    Probe(trial::Args),
    /// Answers probes on a host of your own: IP discovery, the voice ping, STUN, STAMP
    Reflect {
        /// Port 0 takes any free one
        #[arg(long)]
        listen: SocketAddr,
        /// Questions a second that each IPv4 /24 or IPv6 /48 may ask
        #[arg(long, default_value_t = 2000)]
        limit: u32,
        /// Where to write the address that was taken
        #[arg(long)]
        address_file: Option<PathBuf>,
        /// text or json
        #[arg(long, default_value = "text")]
        log_format: Format,
    },
}

/// What sysexits(3) has for a command line that cannot be used, as for a configuration.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(said) => return unusable(&said),
    };
    match args.command {
        Command::Run { config, log_format } => run(&config, log_format),
        Command::Check { config } => check(&config),
        Command::Probe(args) => probe(&args),
        Command::Reflect { listen, limit, address_file, log_format } => answer(listen, limit, address_file, log_format),
    }
}

fn run(path: &Path, log_format: Format) -> ExitCode {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(faults) => return faults.report(),
    };
    let instance = config.agent.to_string();
    let identity = Identity { service: "isochrone-agent", instance, version: env!("CARGO_PKG_VERSION") };
    let own = Own::start(&identity, config.telemetry.as_ref(), log_format);
    let meters = own.meters.clone();
    let code = runtime::run("isochrone-agent", |tasks| async move {
        let Config { agent, region, collectors, .. } = &config;
        info!(%agent, %region, collector = %collectors, series = config.series(), "isochrone-agent");
        Ok(pipeline::start(&config, &meters, &tasks).await?)
    });
    own.farewell();
    code
}

fn check(path: &Path) -> ExitCode {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(faults) => return faults.report(),
    };
    let Config { agent, region, collectors, targets, .. } = &config;
    let (targets, series) = (targets.len(), config.series());
    let summary =
        format!("{}: good. {agent} in {region}, {targets} targets, {series} series, to {collectors}", path.display());
    let doubts = config.doubts().into_iter().map(|doubt| format!("warning: {doubt}"));
    let said: Vec<_> = doubts.chain([summary]).collect();
    match writeln!(io::stdout(), "{}", said.join("\n")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn probe(args: &trial::Args) -> ExitCode {
    logs::warnings();
    let trial = match args.trial() {
        Ok(trial) => trial,
        Err(refused) => return unusable(&clap::Error::raw(ErrorKind::ValueValidation, format!("{refused}\n"))),
    };
    let (json, succeeded) = (args.json(), Arc::new(AtomicBool::new(false)));
    let success = succeeded.clone();
    let tell = move |summary: &Summary| {
        success.store(summary.is_success(), Ordering::Relaxed);
        if json {
            writeln!(io::stdout(), "{}", serde_json::to_string(summary)?)
        } else {
            write!(io::stdout(), "{}", summary.text(columns(&io::stdout()).unwrap_or(USUAL_COLUMNS)))
        }
    };
    let code = runtime::run("isochrone-agent", |tasks| async move {
        let live = live(&tasks)?;
        Ok(trial::start(&trial, &tasks, live, tell).await?)
    });
    if succeeded.load(Ordering::Relaxed) { code } else { ExitCode::FAILURE }
}

/// On stderr, so that what is told at the end goes wherever stdout goes.
fn live(tasks: &Tasks) -> io::Result<Live> {
    if !io::stderr().is_terminal() {
        return Ok(Live::Off);
    }
    Live::on(io::stderr(), columns(&io::stderr()).unwrap_or(USUAL_COLUMNS), tasks)
}

/// How wide a terminal is. `None`: it is none, or does not know.
fn columns(terminal: &impl AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Help that was asked for is no fault.
fn unusable(said: &clap::Error) -> ExitCode {
    match (said.print(), said.use_stderr()) {
        (Ok(()), false) => ExitCode::SUCCESS,
        _ => ExitCode::from(USAGE),
    }
}

fn answer(listen: SocketAddr, limit: u32, address_file: Option<PathBuf>, log_format: Format) -> ExitCode {
    logs::init(log_format);
    runtime::run("isochrone-agent", |tasks| async move {
        let reflector = Reflector::bind(listen, limit).await.with_context(|| format!("listen on {listen}"))?;
        let address = reflector.address().context("read the address that was taken")?;
        info!(%address, limit, "reflecting probes");
        if let Some(file) = address_file {
            reflect::tell_address(&file, address).with_context(|| format!("write {}", file.display()))?;
        }
        let shutdown = tasks.shutdown();
        tasks.spawn("reflect", reflector.run(shutdown));
        Ok(())
    })
}
