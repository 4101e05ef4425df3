//! What lies between agents and servers: on loopback nothing, else a namespace for each region's agents, one for all that they
//! ask, and the planet's TUN devices, over which everything goes between them.
//!
//! Servers do not stand in the namespaces of their regions: the kernel would carry what a region asks of itself past us.

use std::fs;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tappers::Tun;

use crate::Planet;
use crate::files::{Collector, Error as FileError};
use crate::model::{AGENTS, COLLECTOR, HALF, Mode, SERVERS};
use crate::namespace::{self, Namespace, Owner};

#[derive(Debug)]
pub enum Network {
    Loopback,
    Routed(Routed),
}

#[derive(Debug)]
pub struct Routed {
    owner: Owner,
    /// Of the agents, in the order of their regions.
    regions: Vec<Namespace>,
    behind: Namespace,
    /// What is asked first, then the regions in their order.
    pub wires: Vec<Wire>,
}

/// One end of a TUN device, of which the kernel holds the other.
pub struct Wire(Tun);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Namespace(#[from] namespace::Error),
    #[error("start ip, of iproute2")]
    NoIp(#[source] io::Error),
    #[error("ip, of iproute2, said: {0}")]
    Ip(String),
    #[error("{doing}")]
    Kernel { doing: &'static str, source: io::Error },
}

/// In each namespace it is the first.
const DEVICE: &str = "tun0";
/// Packets that wait for us while we do not run.
const QUEUE: u32 = 10_000;
const PING_GROUPS: &str = "/proc/sys/net/ipv4/ping_group_range";

impl Network {
    pub fn lay(planet: &Planet, owner: Owner) -> Result<Self, Error> {
        match planet.mode() {
            Mode::Loopback => Ok(Self::Loopback),
            Mode::Router => Routed::lay(planet, owner).map(Self::Routed),
        }
    }

    /// Does it where the servers stand.
    pub fn behind<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        match self {
            Self::Loopback => Ok(work()),
            Self::Routed(routed) => Ok(routed.behind.inside(work)?),
        }
    }

    /// Where agents find what listens there.
    pub fn seen_by_agents(&self, collector: Collector) -> Collector {
        match self {
            Self::Loopback => collector,
            Self::Routed(_) => Collector(SocketAddr::from((COLLECTOR, collector.0.port()))),
        }
    }

    /// Links to each region's namespace, as `DIR/net/<region>`, for who is to start agents there.
    pub fn link(&self, planet: &Planet, dir: &Path) -> Result<(), FileError> {
        let Self::Routed(routed) = self else { return Ok(()) };
        let net = dir.join("net");
        let write = |path: &Path, source| FileError::Write { path: path.to_owned(), source };
        // Those of a planet that is gone lead nowhere.
        match fs::remove_dir_all(&net) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(write(&net, error)),
            _ => fs::create_dir_all(&net).map_err(|source| write(&net, source))?,
        }
        let user = matches!(routed.owner, Owner::Ourselves).then(|| format!("/proc/{}/ns/user", std::process::id()));
        let regions = planet.regions().iter().zip(&routed.regions);
        let regions = regions.map(|(region, namespace)| (region.name.as_str(), namespace.path()));
        for (name, to) in regions.chain(user.map(|user| ("user", PathBuf::from(user)))) {
            let link = net.join(name);
            symlink(to, &link).map_err(|source| write(&link, source))?;
        }
        Ok(())
    }
}

impl Routed {
    fn lay(planet: &Planet, owner: Owner) -> Result<Self, Error> {
        let behind = Namespace::new()?;
        // What is local there without being any device's: the kernel answers pings to all of it.
        let wire = wire(
            &behind,
            &format!("route add local {SERVERS}/{HALF} dev lo\nroute add {AGENTS}/{HALF} dev {DEVICE}\n"),
        )?;
        let mut routed = Self { owner, regions: Vec::new(), behind, wires: vec![wire] };
        for region in planet.regions() {
            let namespace = Namespace::new()?;
            let own = region.address;
            routed.wires.push(wire_of_agents(
                &namespace,
                &format!("address add {own}/32 dev {DEVICE}\nroute add {SERVERS}/{HALF} dev {DEVICE}\n"),
            )?);
            routed.regions.push(namespace);
        }
        Ok(routed)
    }

    /// Where agents find the collector.
    pub fn listen(&self, port: u16) -> Result<TcpListener, Error> {
        let listener = self.behind.inside(|| TcpListener::bind((COLLECTOR, port)))?;
        listener.map_err(|source| Error::Kernel { doing: "listen for the collector", source })
    }
}

impl Wire {
    /// The next packet's length; none, if there is none now.
    pub fn receive(&self, packet: &mut [u8]) -> io::Result<Option<usize>> {
        match self.0.recv(packet) {
            Ok(length) => Ok(Some(length)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        self.0.send(packet).map(drop)
    }
}

impl std::os::fd::AsFd for Wire {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wire")
    }
}

fn wire_of_agents(namespace: &Namespace, settings: &str) -> Result<Wire, Error> {
    let wire = wire(namespace, settings)?;
    // Agents ping without privileges. A user namespace knows one group alone.
    let allowed =
        namespace.inside(|| fs::write(PING_GROUPS, "0 2147483647").or_else(|_| fs::write(PING_GROUPS, "0 0")))?;
    allowed.map_err(|source| Error::Kernel { doing: "let agents ping", source })?;
    Ok(wire)
}

fn wire(namespace: &Namespace, settings: &str) -> Result<Wire, Error> {
    namespace.inside(|| {
        let mut tun = Tun::new().map_err(namespace::Error::NoTun)?;
        tun.set_nonblocking(true).map_err(|source| Error::Kernel { doing: "set up a TUN device", source })?;
        ip(&format!("link set lo up\nlink set {DEVICE} up txqueuelen {QUEUE}\n{settings}"))?;
        Ok(Wire(tun))
    })?
}

/// Runs commands of `ip` in the namespace of this thread.
fn ip(commands: &str) -> Result<(), Error> {
    let mut ip = Command::new("ip");
    ip.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut ip = ip.spawn().map_err(Error::NoIp)?;
    if let Some(mut stdin) = ip.stdin.take() {
        stdin.write_all(commands.as_bytes()).map_err(Error::NoIp)?;
    }
    let output = ip.wait_with_output().map_err(Error::NoIp)?;
    if output.status.success() {
        Ok(())
    } else {
        Err(Error::Ip(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}
