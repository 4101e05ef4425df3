//! Datagram sockets of the pacer's own, UDP and ICMP: they never block, tell of each packet when the kernel took it in, and
//! tell what came back as an error.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use protocols::icmp;
use runtime::datagram::{self, Inbox};
use runtime::{Clock, Wall};
use socket2::{Domain, Protocol, Type};
use telemetry::{FailureKind, Family, Outcome};
use tracing::warn;

use super::{Heard, Launch, Order, Report, SendFault, WAYS, Way, errno, unreachable};
use crate::endpoint::family;
use crate::now::Now;

/// What one look takes from a socket at most, so that a flood delays no send for long.
const READ_AT_ONCE: usize = 256;
/// What the kernel keeps while we are away; it may grant less.
const RECEIVE_BUFFER: usize = 4 << 20;

/// How many sockets one look finds ready; the next look finds the rest.
const READY_AT_ONCE: usize = 32;

/// Those that the plan needs and the machine gave.
#[derive(Debug)]
pub struct Sockets {
    all: Vec<Socket>,
    /// Which of them have something to read.
    ready: Option<Epoll>,
    inbox: Inbox,
}

#[derive(Debug)]
struct Socket {
    family: Family,
    inner: socket2::Socket,
    /// A raw IPv4 socket gives IP headers too.
    headers: Headers,
}

#[derive(Debug, Clone, Copy)]
enum Headers {
    Off,
    Ip,
}

/// What was heard on a socket.
#[derive(Debug)]
pub struct Packet<'a> {
    pub bytes: &'a [u8],
    /// Who sent it; of what bounced, to whom we had sent it.
    pub peer: SocketAddr,
    pub heard: Heard,
    pub told: Told,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Answer,
    /// What we sent came back with an error, in whole or its first bytes.
    Bounced(FailureKind),
}

impl Told {
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Answer => Outcome::Reply,
            Self::Bounced(kind) => Outcome::Failure(kind),
        }
    }
}

impl Sockets {
    /// One of UDP for each way and family.
    pub fn udp(probe: &'static str, families: &[Family], source: Option<IpAddr>) -> Self {
        Self::so_many(usize::from(WAYS), probe, families, source)
    }

    /// One of UDP, on the loopback.
    pub fn inside(probe: &'static str) -> Self {
        Self::so_many(1, probe, &[Family::Ipv4], Some(Ipv4Addr::LOCALHOST.into()))
    }

    fn so_many(ways: usize, probe: &'static str, families: &[Family], source: Option<IpAddr>) -> Self {
        let wanted = families.iter().flat_map(|family| std::iter::repeat_n(*family, ways));
        let open = |family| {
            Socket::open(family, source, Type::DGRAM, Protocol::UDP).inspect_err(
                |error| warn!(probe, family = family.as_str(), %error, "no UDP socket; its probes are missed"),
            )
        };
        Self::watched(wanted.filter_map(|family| open(family).ok()).collect())
    }

    /// One ICMP socket of each family: the kernel's ping kind where it lets us, else a raw one.
    pub fn icmp(families: &[Family], source: Option<IpAddr>) -> Self {
        let open = |family| {
            let protocol = match family {
                Family::Ipv4 => Protocol::ICMPV4,
                Family::Ipv6 => Protocol::ICMPV6,
            };
            Socket::open(family, source, Type::DGRAM, protocol)
                .or_else(|_| Socket::open(family, source, Type::RAW, protocol))
                .inspect_err(|error| {
                    warn!(
                        family = family.as_str(),
                        %error,
                        allow = "sysctl net.ipv4.ping_group_range, or the capability CAP_NET_RAW",
                        "no ICMP socket; icmp probes are missed"
                    );
                })
        };
        Self::watched(families.iter().filter_map(|family| open(*family).ok()).collect())
    }

    fn watched(all: Vec<Socket>) -> Self {
        let watch = || {
            let ready = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
            for (place, socket) in all.iter().enumerate() {
                ready.add(&socket.inner, EpollEvent::new(EpollFlags::EPOLLIN, place as u64))?;
            }
            Ok::<_, Errno>(ready)
        };
        let ready = if all.is_empty() { Ok(None) } else { watch().map(Some) };
        match ready {
            Ok(ready) => Self { all, ready, inbox: Inbox::default() },
            Err(error) => {
                warn!(%error, "no way to wait for datagrams; their probes are missed");
                Self { all: Vec::new(), ready: None, inbox: Inbox::default() }
            }
        }
    }

    pub fn send(
        &self,
        order: &Order,
        packet: &[u8],
        to: SocketAddr,
        clock: &Clock,
        reports: &mut Vec<Report>,
    ) -> Result<Launch, SendFault> {
        let socket = self.on(order.way, family(to.ip())).ok_or(SendFault::NoSocket)?;
        // Before the call: on a loopback the answer can be back before it returns.
        let mut sent = clock.mono();
        let mut result = socket.inner.send_to(packet, &to.into());
        // An error of an earlier packet, to anyone, is told at the next send, and then gone.
        if result.as_ref().is_err_and(|error| bounced(errno(error)).is_some()) {
            sent = clock.mono();
            result = socket.inner.send_to(packet, &to.into());
        }
        match result {
            Ok(_) => {}
            Err(error) if unreachable(errno(&error)) => {
                let after = clock.mono().since(sent);
                reports.push(Report::Failed { token: order.token, kind: FailureKind::Unreachable, after });
            }
            Err(error) => return Err(SendFault::Kernel(errno(&error))),
        }
        Ok(Launch::OnTheWire(sent))
    }

    /// Reads what has come on every socket; `read` says what it means. `None`: it is not for us.
    pub fn receive(
        &mut self,
        clock: &Clock,
        reports: &mut Vec<Report>,
        mut read: impl FnMut(&Packet<'_>) -> Option<Report>,
    ) {
        let Self { all, ready, inbox } = self;
        let Some(ready) = ready else { return };
        let mut events = [EpollEvent::empty(); READY_AT_ONCE];
        let count = ready.wait(&mut events, EpollTimeout::ZERO).unwrap_or_default();
        for (event, socket) in events[..count].iter().filter_map(|event| Some((event, all.get(event.data() as usize)?)))
        {
            for _ in 0..READ_AT_ONCE {
                match socket.receive(inbox, clock, &mut read) {
                    Ok(report) => reports.extend(report),
                    // A bounce is also told as an error of the next call, once.
                    Err(error) if bounced(errno(&error)).is_some() => {}
                    Err(_) => break,
                }
            }
            if !event.events().contains(EpollFlags::EPOLLERR) {
                continue;
            }
            while let Ok(bounce) = inbox.bounce(&socket.inner) {
                let Some(kind) = bounced(bounce.errno) else { continue };
                let heard = heard(clock, bounce.stamped);
                let told = Told::Bounced(kind);
                reports.extend(read(&Packet { bytes: bounce.quoted, peer: bounce.to, heard, told }));
            }
        }
    }

    /// What to wait on: it is readable while one of them is.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.ready.as_ref().map(|ready| ready.0.as_fd())
    }

    fn on(&self, way: Way, family: Family) -> Option<&Socket> {
        let ours = || self.all.iter().filter(|socket| socket.family == family);
        ours().nth(usize::from(way.0) % ours().count().max(1))
    }
}

impl Socket {
    fn open(family: Family, source: Option<IpAddr>, kind: Type, protocol: Protocol) -> io::Result<Self> {
        let address = source_of(family, source);
        let inner = socket2::Socket::new(Domain::for_address(address), kind, Some(protocol))?;
        inner.bind(&address.into())?;
        inner.set_nonblocking(true)?;
        inner.set_recv_buffer_size(RECEIVE_BUFFER)?;
        datagram::stamp(&inner)?;
        datagram::keep_bounces(&inner, address)?;
        let headers = if kind == Type::RAW && family == Family::Ipv4 { Headers::Ip } else { Headers::Off };
        Ok(Self { family, inner, headers })
    }

    /// One packet, and what it means.
    fn receive(
        &self,
        inbox: &mut Inbox,
        clock: &Clock,
        read: &mut impl FnMut(&Packet<'_>) -> Option<Report>,
    ) -> io::Result<Option<Report>> {
        let packet = inbox.receive(&self.inner)?;
        let bytes = match self.headers {
            Headers::Off => packet.bytes,
            Headers::Ip => icmp::after_ip_header(packet.bytes).unwrap_or_default(),
        };
        let heard = heard(clock, packet.stamped);
        Ok(read(&Packet { bytes, peer: packet.from, heard, told: Told::Answer }))
    }
}

fn heard(clock: &Clock, stamped: Option<Wall>) -> Heard {
    let now = Now::read(clock);
    Heard::ByPacer { at: now.mono, kernel: stamped.map(|stamped| now.mono_of(stamped)) }
}

/// What the target, or the way to it, did with a packet. `None`: the error is not about one.
fn bounced(errno: Errno) -> Option<FailureKind> {
    match errno {
        Errno::ECONNREFUSED => Some(FailureKind::Refused),
        errno if unreachable(errno) => Some(FailureKind::Unreachable),
        _ => None,
    }
}

/// Where a socket of that family is bound: the configured source, if it is of the family.
pub(super) fn source_of(family: Family, source: Option<IpAddr>) -> SocketAddr {
    let any = match family {
        Family::Ipv4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::Ipv6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(source.filter(|source| source.is_ipv4() == any.is_ipv4()).unwrap_or(any), 0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::UdpSocket;

    use super::super::Token;
    use super::*;

    #[test]
    fn each_way_has_a_port_of_its_own_and_keeps_it() {
        let (clock, mut reports) = (Clock::start(), Vec::new());
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = server.local_addr().unwrap();
        let sockets = Sockets::udp("test", &[Family::Ipv4], None);
        let (errand, timeout) = (crate::plan::Errand::VoicePing(to), std::time::Duration::from_secs(1));
        let mut port = |way| {
            let order = Order { token: Token(1), errand, timeout, way: Way(way) };
            sockets.send(&order, b"?", to, &clock, &mut reports).unwrap();
            server.recv_from(&mut [0; 8]).unwrap().1.port()
        };
        let first: Vec<_> = (0..WAYS).map(&mut port).collect();
        let again: Vec<_> = (0..WAYS).map(&mut port).collect();
        assert_eq!(first, again);
        assert_eq!(first.into_iter().collect::<HashSet<_>>().len(), usize::from(WAYS));
        assert!(reports.is_empty());
    }
}
