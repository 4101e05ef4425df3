//! Puts the stations together and starts them. The caller brings the tasks and, with them, the shutdown.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::sync::mpsc;

use runtime::meters::Meters;
use runtime::{Clock, Tasks};
use telemetry::Boot;
use telemetry::otlp::build::Sender;
use uuid::Uuid;

use crate::batch::{self, Assembler};
use crate::config::Config;
use crate::meters::Instruments;
use crate::names::{self, Bounds, Resolver};
use crate::pacer::Pacer;
use crate::plan::Plan;
use crate::probe::floor::Floor;
use crate::probe::wire::Wire;
use crate::push::{self, ClientError, Http};
use crate::spool;

/// Ticks with something to tell that the batch thread may be behind.
const HANDOVERS: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("use source_address {address}: {error}")]
    Source { address: IpAddr, error: io::Error },
    #[error("open the wire: {0}")]
    Wire(io::Error),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("start the thread {name}: {error}")]
    Thread { name: &'static str, error: io::Error },
}

/// Starts the agent; it runs as tasks and threads until their shutdown.
pub async fn start(config: &Config, meters: &Meters, tasks: &Tasks) -> Result<(), StartError> {
    check_source(config.source_address)?;
    let clock = Clock::start();
    let tally = Instruments::new(meters);
    let plan = Plan::new(config, &names::resolve(config).await);
    let mut wire = Wire::open(&plan, config.source_address, clock, tasks).map_err(StartError::Wire)?;
    wire.measure_floor(Floor::open(tasks));
    let collectors = config.collectors.iter().map(|it| Http::new(it.metrics(), config.agent.clone()));
    let collectors = collectors.collect::<Result<Vec<_>, _>>()?;
    let boot = Boot(Uuid::new_v4().as_u128());
    let spool = spool::open(config.data_dir.as_deref().map(Path::new), boot, config.spool);
    let (outbox, handovers) = mpsc::sync_channel(HANDOVERS);
    let now = wire.now();

    let bell = wire.bell();
    let stopping = tasks.shutdown();
    tasks.spawn("bell", async move {
        stopping.cancelled().await;
        bell.ring();
        Ok::<_, Infallible>(())
    });

    let keeping = (plan.spots(), Resolver::new(config.resolver), Bounds::default(), tally.clone(), tasks.shutdown());
    tasks.spawn("names", async move {
        let (spots, resolver, bounds, tally, shutdown) = keeping;
        names::keep(spots, resolver, bounds, tally, shutdown).await;
        Ok::<_, Infallible>(())
    });

    let confirms = config.confirms_per_second;
    let pacer = Pacer::new(plan.clone(), config.window, confirms, outbox, tally.clone(), now);
    let stopping = tasks.shutdown();
    thread(tasks, "pacer", move || pacer.run(wire, &stopping))?;

    let assembler = Assembler::new(plan, sender(config), now.wall);
    let (full, count) = (spool.clone(), tally.clone());
    thread(tasks, "batch", move || batch::run(&handovers, assembler, &full, clock, &count))?;

    let stopping = tasks.shutdown();
    tasks.spawn("push", async move { push::run(&spool, &collectors, &tally, stopping).await });
    Ok(())
}

/// A source that is not this machine's would make every probe a miss: better to say so at once.
fn check_source(source: Option<IpAddr>) -> Result<(), StartError> {
    let Some(address) = source else { return Ok(()) };
    UdpSocket::bind((address, 0)).map(drop).map_err(|error| StartError::Source { address, error })
}

fn sender(config: &Config) -> Sender {
    Sender {
        agent: config.agent.clone(),
        source: config.region.clone(),
        zone: config.zone.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn thread<E: std::fmt::Display + Send + 'static>(
    tasks: &Tasks,
    name: &'static str,
    body: impl FnOnce() -> Result<(), E> + Send + 'static,
) -> Result<(), StartError> {
    tasks.thread(name, body).map_err(|error| StartError::Thread { name, error })
}
