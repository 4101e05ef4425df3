//! `isochrone-planet`: a planet to test on.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand, ValueEnum};
use planet::authority::Authority;
use planet::control::{self, Control};
use planet::files::{Collector, Files, write_whole};
use planet::site::Site;
use planet::{Planet, Seed, endpoints, ready};
use protocols::gateway::Kind;
use runtime::{Tasks, logs};
use tokio::net::TcpListener;
use tracing::info;

/// Regions with real endpoints, delays and losses by a seed, faults on request.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Run),
}

/// Runs a planet until it is told to stop; prints `ready` when every endpoint answers.
#[derive(Debug, clap::Args)]
struct Run {
    #[arg(long, default_value_t = 20)]
    regions: usize,
    /// The same seed makes the same planet.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where faults, truth and counts are served.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8470")]
    control: SocketAddr,
    /// Where to write collector.toml, agent-<region>.toml and ca.pem.
    #[arg(long, value_name = "DIR")]
    write_config: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = Mode::Loopback)]
    mode: Mode,
    /// What gateways do with a heartbeat before a login.
    #[arg(long, value_enum, default_value_t = GatewayKind::Answering)]
    gateway_kind: GatewayKind,
    /// The collector that the written files are for.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8460")]
    collector: Collector,
    /// Where to write the address that the control port was bound to.
    #[arg(long, value_name = "FILE")]
    address_file: Option<PathBuf>,
    /// text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: logs::Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mode {
    /// Endpoints delay their answers by who asks.
    Loopback,
    /// The planet routes every packet between network namespaces.
    Router,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum GatewayKind {
    /// They answer it.
    Answering,
    /// They answer it, and hang up after 30 s without a login.
    Timed,
    /// They hang up at once.
    Strict,
}

fn main() -> ExitCode {
    let Args { command: Command::Run(run) } = Args::parse();
    logs::init(run.log_format);
    runtime::run("isochrone-planet", |tasks| live(run, tasks))
}

async fn live(run: Run, tasks: Tasks) -> anyhow::Result<()> {
    if matches!(run.mode, Mode::Router) {
        bail!("router mode is not there yet; allowed: --mode loopback");
    }
    let planet = Arc::new(Planet::new(run.regions, Seed(run.seed))?);
    let listener = TcpListener::bind(run.control).await.with_context(|| format!("listen on {}", run.control))?;
    let address = listener.local_addr()?;
    info!(%address, regions = planet.regions().len(), targets = planet.targets().len(), seed = run.seed, "listening");
    let site = Site::bind(&planet).context("bind the targets")?;
    let authority = Authority::new()?;
    if let Some(dir) = &run.write_config {
        let (addresses, ca) = (&site.addresses, authority.pem());
        Files { planet: &planet, addresses, collector: run.collector, ca: &ca }.write(dir)?;
    }
    if let Some(file) = &run.address_file {
        write_whole(file, &format!("{address}\n")).with_context(|| format!("write {}", file.display()))?;
    }

    let control = Arc::new(Control::new(planet, site.addresses.clone()));
    endpoints::start(&tasks, &control, site, &authority, run.gateway_kind.into())?;
    tasks.spawn("control", control::serve(listener, Arc::clone(&control), tasks.shutdown()));

    ready::wait(&control.planet, &control.addresses, &authority).await?;
    let mut stdout = io::stdout();
    writeln!(stdout, "ready").and_then(|()| stdout.flush()).context("say ready")
}

impl From<GatewayKind> for Kind {
    fn from(kind: GatewayKind) -> Self {
        match kind {
            GatewayKind::Answering => Self::Answering,
            GatewayKind::Timed => Self::Timed,
            GatewayKind::Strict => Self::Strict,
        }
    }
}
