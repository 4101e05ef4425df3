//! Everything that answers, started.

use std::sync::Arc;

use protocols::gateway::Kind;
use runtime::Tasks;
use tokio::sync::mpsc;

use crate::authority::{self, Authority};
use crate::control::Control;
use crate::site::Site;
use crate::streams::Servers;
use crate::{crossing, driver, handshakes, streams};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("make the bell of the crossings")]
    Bell(#[source] std::io::Error),
    #[error("start a thread")]
    Thread(#[source] std::io::Error),
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
