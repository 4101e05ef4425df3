//! UDP sockets of the pacer's own: they never block, and tell of each packet when the kernel took it in.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use runtime::{Clock, Wall};
use telemetry::{FailureKind, Family};
use tracing::warn;

use super::{Heard, Launch, Report, SendFault, Token, errno, unreachable};
use crate::now::Now;

/// What one look takes from a socket at most, so that a flood delays no send for long.
const READ_AT_ONCE: usize = 256;
/// What the kernel keeps while we are away; it may grant less.
const RECEIVE_BUFFER: usize = 4 << 20;
/// What is read of a packet. Nothing that we wait for is longer.
const PACKET: usize = protocols::dns::MAX_BYTES;

/// Those that the plan needs and the machine gave.
#[derive(Debug)]
pub struct Sockets {
    all: Vec<Socket>,
}

#[derive(Debug)]
struct Socket {
    family: Family,
    udp: UdpSocket,
    control: Vec<u8>,
}

impl Sockets {
    /// So many ports of each family, which probes take in turn.
    pub fn open(probe: &'static str, families: &[Family], ports: usize, source: Option<IpAddr>) -> Self {
        let open = |&family| match Socket::open(family, source) {
            Ok(socket) => Some(socket),
            Err(error) => {
                let family = family.as_str();
                warn!(probe, family, %error, "no UDP socket; its probes are missed");
                None
            }
        };
        let wanted = families.iter().flat_map(|family| std::iter::repeat_n(family, ports));
        Self { all: wanted.filter_map(open).collect() }
    }

    pub fn send(
        &self,
        token: Token,
        packet: &[u8],
        to: SocketAddr,
        clock: &Clock,
        reports: &mut Vec<Report>,
    ) -> Result<Launch, SendFault> {
        let socket = self.in_turn(token, family(to.ip())).ok_or(SendFault::NoSocket)?;
        // Before the call: on a loopback the answer can be back before it returns.
        let sent = clock.mono();
        match socket.udp.send_to(packet, to) {
            Ok(_) => {}
            Err(error) if unreachable(errno(&error)) => {
                let after = clock.mono().since(sent);
                reports.push(Report::Failed { token, kind: FailureKind::Unreachable, after });
            }
            Err(error) => return Err(SendFault::Kernel(errno(&error))),
        }
        Ok(Launch::OnTheWire(sent))
    }

    /// Reads what has come on every socket; `read` says what a packet is, and from where it came.
    pub fn receive(
        &mut self,
        clock: &Clock,
        reports: &mut Vec<Report>,
        read: impl Fn(&[u8], SocketAddr, Heard) -> Report,
    ) {
        for socket in &mut self.all {
            reports.extend((0..READ_AT_ONCE).map_while(|_| socket.receive(clock, &read)));
        }
    }

    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.all.iter().map(|socket| socket.udp.as_fd())
    }

    fn in_turn(&self, token: Token, family: Family) -> Option<&Socket> {
        let ours = || self.all.iter().filter(|socket| socket.family == family);
        ours().nth(token.0 as usize % ours().count().max(1))
    }
}

impl Socket {
    fn open(family: Family, source: Option<IpAddr>) -> io::Result<Self> {
        let udp = UdpSocket::bind(source_of(family, source))?;
        udp.set_nonblocking(true)?;
        socket2::SockRef::from(&udp).set_recv_buffer_size(RECEIVE_BUFFER)?;
        setsockopt(&udp, sockopt::ReceiveTimestampns, &true)?;
        Ok(Self { family, udp, control: nix::cmsg_space!(TimeSpec) })
    }

    /// One packet. `None`: there is none.
    fn receive(&mut self, clock: &Clock, read: impl Fn(&[u8], SocketAddr, Heard) -> Report) -> Option<Report> {
        let mut bytes = [0; PACKET];
        let (length, from, stamp) = loop {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            let control = Some(&mut self.control[..]);
            let flags = MsgFlags::MSG_DONTWAIT;
            match recvmsg::<SockaddrStorage>(self.udp.as_raw_fd(), &mut parts, control, flags) {
                Ok(message) => {
                    let stamp = message
                        .cmsgs()
                        .ok()
                        .and_then(|mut controls| controls.find_map(|control| kernel_stamp(&control)));
                    break (message.bytes, message.address.and_then(socket_address), stamp);
                }
                Err(Errno::EINTR) => {}
                Err(_) => return None,
            }
        };
        let now = Now::read(clock);
        let heard = Heard::ByPacer { at: now.mono, kernel: stamp.and_then(|stamp| now.mono_before(stamp)) };
        Some(from.map_or(Report::Malformed, |from| read(&bytes[..length], from, heard)))
    }
}

fn kernel_stamp(control: &ControlMessageOwned) -> Option<Wall> {
    let ControlMessageOwned::ScmTimestampns(stamp) = control else { return None };
    Some(Wall(telemetry::time::nanos(Duration::from(*stamp))))
}

fn socket_address(address: SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|&address| SocketAddrV4::from(address).into());
    v4.or_else(|| address.as_sockaddr_in6().map(|&address| SocketAddrV6::from(address).into()))
}

pub(super) fn family(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
}

/// Where a socket of that family is bound: the configured source, if it is of the family.
pub(super) fn source_of(family: Family, source: Option<IpAddr>) -> SocketAddr {
    let any = match family {
        Family::Ipv4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::Ipv6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(source.filter(|source| source.is_ipv4() == any.is_ipv4()).unwrap_or(any), 0)
}
