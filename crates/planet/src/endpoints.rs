//! Everything that answers, started.

use std::sync::Arc;

use protocols::gateway::Kind;
use runtime::Tasks;
use tokio::sync::mpsc;

use crate::authority::{self, Authority};
use crate::control::Control;
use crate::files::Collector;
use crate::network::Routed;
use crate::site::Site;
use crate::streams::Servers;
use crate::ways::Mischief;
use crate::{crossing, driver, handshakes, network, relay, router, streams};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("make the bell of the crossings")]
    Bell(#[source] std::io::Error),
    #[error("start a thread")]
    Thread(#[source] std::io::Error),
    #[error(transparent)]
    Network(#[from] network::Error),
    #[error(transparent)]
    Authority(#[from] authority::Error),
}

/// `control` is made of the same site.
pub fn start(
    tasks: &Tasks,
    control: &Arc<Control>,
    site: Site,
    authority: &Authority,
    kind: Kind,
) -> Result<(), Error> {
    let Site { reflectors, mut doors, .. } = site;
    let servers = Servers::new(&control.planet, authority, kind)?;
    let (crossings, asked) = crossing::channel().map_err(Error::Bell)?;
    let (arrive, arrivals) = mpsc::unbounded_channel();
    let shared = || (Arc::clone(control), tasks.shutdown());

    let (control, shutdown) = shared();
    let reflect = move || driver::run(&control, &reflectors, &asked, &shutdown);
    tasks.thread("reflectors", reflect).map_err(Error::Thread)?;
    let (control, shutdown) = shared();
    let shake_hands = move || handshakes::run(&control, &mut doors, &arrive, &shutdown);
    tasks.thread("handshakes", shake_hands).map_err(Error::Thread)?;
    let (control, shutdown) = shared();
    tasks.spawn("streams", streams::run(control, servers, crossings, arrivals, shutdown));
    Ok(())
}

/// Starts what stands between agents and endpoints, and takes agents' reports on to the collector.
pub fn route(
    tasks: &Tasks,
    control: &Arc<Control>,
    routed: Routed,
    collector: Collector,
    mischief: Mischief,
) -> Result<(), Error> {
    let door = routed.listen(collector.0.port())?;
    tasks.spawn("relay", relay::run(door, collector.0, tasks.shutdown()));
    let (control, shutdown) = (Arc::clone(control), tasks.shutdown());
    tasks.thread("router", move || router::run(&control, &routed, mischief, &shutdown)).map_err(Error::Thread)
}
