//! The sockets of the targets: for each a TCP port at an address of its region's, and for a voice server UDP at the same port.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use runtime::datagram::{self, Datagram, Inbox};
use runtime::{Clock, Mono, Wall};
use socket2::{Domain, Socket, Type};

use crate::model::{Planet, Service, TargetNo};
use crate::world::Packet;

#[derive(Debug)]
pub struct Site {
    /// Of the voice servers.
    pub reflectors: Vec<Reflector>,
    /// Of all targets, in their order, as their addresses are.
    pub doors: Vec<Door>,
    pub addresses: Vec<SocketAddr>,
}

/// A UDP socket that knows when its packets came.
#[derive(Debug)]
pub struct Reflector {
    pub target: TargetNo,
    socket: UdpSocket,
}

/// A TCP port that is held all the time and listens, or refuses.
#[derive(Debug)]
pub struct Door {
    pub target: TargetNo,
    pub service: Service,
    socket: Socket,
    open: bool,
}

/// Some thousand packets; the kernel may grant less.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Older than this, a stamp of the kernel's is a clock that jumped.
const OLDEST_STAMP: Duration = Duration::from_secs(1);
const BACKLOG: i32 = 128;
/// The port that the kernel gives for UDP may be taken for TCP.
const TRIES: usize = 16;

impl Site {
    pub fn bind(planet: &Planet) -> io::Result<Self> {
        let mut site = Self { reflectors: Vec::new(), doors: Vec::new(), addresses: Vec::new() };
        for (place, target) in planet.targets().iter().enumerate() {
            let (udp, tcp) = pair(target.address)?;
            let no = TargetNo(place);
            site.addresses.push(udp.local_addr()?);
            site.doors.push(Door { target: no, service: target.service, socket: tcp, open: false });
            if target.service == Service::Voice {
                site.reflectors.push(Reflector { target: no, socket: udp });
            }
        }
        Ok(site)
    }
}

impl Reflector {
    /// The next packet, if there is one.
    pub fn receive<'a>(&self, inbox: &'a mut Inbox, clock: &Clock) -> io::Result<Option<Packet<'a>>> {
        match inbox.receive(&self.socket) {
            Ok(Datagram { bytes, from, stamped, .. }) => Ok(Some(Packet { bytes, from, at: received(stamped, clock) })),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn send(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        self.socket.send_to(bytes, to).map(drop)
    }
}

impl Door {
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// A closed door keeps its port and refuses who comes.
    pub fn set_open(&mut self, open: bool) -> io::Result<()> {
        match (self.open, open) {
            (false, true) => self.socket.listen(BACKLOG)?,
            (true, false) => self.socket.shutdown(std::net::Shutdown::Read)?,
            _ => {}
        }
        self.open = open;
        Ok(())
    }

    /// The next connection, if there is one, and who made it.
    pub fn accept(&self) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        match self.socket.accept() {
            Ok((stream, from)) => Ok(from.as_socket().map(|from| (stream.into(), from))),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Reflector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// UDP and TCP at the same port. The number is named when TCP binds to it: one that the kernel chose for TCP would not be kept
/// while the door is closed.
fn pair(address: Ipv4Addr) -> io::Result<(UdpSocket, Socket)> {
    let mut tries = 0;
    loop {
        let udp = stamped(address)?;
        match hold(udp.local_addr()?) {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < TRIES => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

fn stamped(address: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((address, 0))?;
    socket.set_nonblocking(true)?;
    socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER)?;
    datagram::stamp(&socket)?;
    Ok(socket)
}

/// Holds a TCP port without listening there.
fn hold(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // To listen again is to claim the port again, against the connections that still wait for their end there.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// The kernel's stamp on our monotonic clock, so that a delay counts from the packet's arrival and not from our waking up.
/// The wall clock is read first: a pause between the two readings then makes an answer late, never early.
fn received(stamp: Option<Wall>, clock: &Clock) -> Mono {
    let wall = clock.wall();
    let now = clock.mono();
    match stamp {
        Some(stamp) if stamp <= wall && wall.since(stamp) < OLDEST_STAMP => now - wall.since(stamp),
        _ => now,
    }
}
