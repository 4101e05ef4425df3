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
use planet::namespace::{self, Owner};
use planet::network::Network;
use planet::site::Site;
use planet::ways::Mischief;
use planet::{Planet, Seed, endpoints, ready};
use protocols::gateway::Kind;
use runtime::{Tasks, logs};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::block_in_place;
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
    /// Router mode needs --write-config: that is where its regions are found.
    #[arg(long, value_enum, default_value_t = Mode::Loopback, requires_if("router", "write_config"))]
    mode: Mode,
    /// In router mode: the share of packets that later ones overtake. The truth knows nothing of it.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    reorder: f64,
    /// In router mode: the share of packets that arrive twice.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    double: f64,
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
    // Before there is a second thread.
    let owner = match run.mode {
        Mode::Loopback => Ok(Owner::Root),
        Mode::Router => namespace::permit(),
    };
    runtime::run("isochrone-planet", |tasks| async move { live(run, owner?, tasks).await })
}

async fn live(run: Run, owner: Owner, tasks: Tasks) -> anyhow::Result<()> {
    let mischief = Mischief { reordered: run.reorder, doubled: run.double };
    if matches!(run.mode, Mode::Loopback) && mischief != Mischief::default() {
        bail!("--reorder and --double are for --mode router: on loopback no packet goes through the planet");
    }
    let planet = Arc::new(Planet::with(run.mode.into(), run.regions, Seed(run.seed))?);
    let listener = TcpListener::bind(run.control).await.with_context(|| format!("listen on {}", run.control))?;
    let address = listener.local_addr()?;
    info!(%address, regions = planet.regions().len(), targets = planet.targets().len(), seed = run.seed, "listening");
    let network = Network::lay(&planet, owner)?;
    let site = network.behind(|| Site::bind(&planet))?.context("bind the targets")?;
    let authority = Authority::new()?;
    if let Some(dir) = &run.write_config {
        let (addresses, ca) = (&site.addresses, authority.pem());
        let (collector, seen_by_agents) = (run.collector, network.seen_by_agents(run.collector));
        network.link(&planet, dir)?;
        Files { planet: &planet, addresses, collector, seen_by_agents, ca: &ca }.write(dir)?;
    }
    if let Some(file) = &run.address_file {
        write_whole(file, &format!("{address}\n")).with_context(|| format!("write {}", file.display()))?;
    }

    let control = Arc::new(Control::new(planet, site.addresses.clone()));
    endpoints::start(&tasks, &control, site, &authority, run.gateway_kind.into())?;
    tasks.spawn("control", control::serve(listener, Arc::clone(&control), tasks.shutdown()));

    let asked = ready::wait(&control.planet, &control.addresses, &authority);
    let tokio = Handle::current();
    block_in_place(|| network.behind(|| tokio.block_on(asked)))??;
    if let Network::Routed(routed) = network {
        endpoints::route(&tasks, &control, routed, run.collector, mischief)?;
    }
    let mut stdout = io::stdout();
    writeln!(stdout, "ready").and_then(|()| stdout.flush()).context("say ready")
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "allowed: 0 to 1".to_owned())
}

impl From<Mode> for planet::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Loopback => Self::Loopback,
            Mode::Router => Self::Router,
        }
    }
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
