//! Voice over UDP: the ping and IP discovery, from one socket of each family. The token of a probe is the ping's sequence or
//! the discovery's SSRC; an answer counts only if it comes from where the question went.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use protocols::voice::{self, PING_BYTES, Ssrc};
use runtime::{Clock, Wall};
use telemetry::{FailureKind, Family};
use tracing::warn;

use super::{Heard, Launch, Order, Report, SendFault, Token, errno, unreachable};
use crate::now::Now;
use crate::plan::Errand;

/// What one look takes from a socket at most, so that a flood delays no send for long.
const READ_AT_ONCE: usize = 256;
/// What the kernel keeps while we are away; it may grant less.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Longer than any answer: what fills it is none.
const PACKET: usize = 128;

/// The sockets that the plan needs and the machine gave.
#[derive(Debug)]
pub struct Voice {
    sockets: Vec<Socket>,
}

#[derive(Debug)]
struct Socket {
    family: Family,
    udp: UdpSocket,
    control: Vec<u8>,
}

impl Voice {
    pub fn open(families: &[Family], source: Option<IpAddr>) -> Self {
        let open = |&family| match Socket::open(family, source) {
            Ok(socket) => Some(socket),
            Err(error) => {
                let family = family.as_str();
                warn!(family, %error, "no UDP socket for voice; its probes are missed");
                None
            }
        };
        Self { sockets: families.iter().filter_map(open).collect() }
    }

    pub fn send(&self, order: &Order, clock: &Clock, reports: &mut Vec<Report>) -> Result<Launch, SendFault> {
        let Order { token, errand, .. } = *order;
        match errand {
            Errand::VoicePing(to) => self.send_packet(token, &voice::ping_request(token.0), to, clock, reports),
            Errand::VoiceDiscovery(to) => {
                self.send_packet(token, &voice::discovery_request(Ssrc(token.0)), to, clock, reports)
            }
            Errand::Icmp(_) | Errand::Tcp(_) | Errand::Dial(_) | Errand::Nowhere => Err(SendFault::NoSocket),
        }
    }

    /// Reads what has come on every socket.
    pub fn receive(&mut self, clock: &Clock, reports: &mut Vec<Report>) {
        for socket in &mut self.sockets {
            reports.extend((0..READ_AT_ONCE).map_while(|_| socket.receive(clock)));
        }
    }

    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(|socket| socket.udp.as_fd())
    }

    fn send_packet(
        &self,
        token: Token,
        packet: &[u8],
        to: SocketAddr,
        clock: &Clock,
        reports: &mut Vec<Report>,
    ) -> Result<Launch, SendFault> {
        let socket = self.sockets.iter().find(|socket| socket.family == family(to.ip())).ok_or(SendFault::NoSocket)?;
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
    fn receive(&mut self, clock: &Clock) -> Option<Report> {
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
        let answer = from.and_then(|from| read(&bytes[..length], from));
        Some(answer.map_or(Report::Malformed, |(token, errand)| Report::Answer { token, errand, heard }))
    }
}

/// Which probe a packet answers, and to which errand that must have been.
fn read(packet: &[u8], from: SocketAddr) -> Option<(Token, Errand)> {
    if packet.len() == PING_BYTES {
        let sequence = voice::parse_ping(packet).ok()?;
        return Some((Token(sequence), Errand::VoicePing(from)));
    }
    let discovery = voice::parse_discovery(packet).ok()?;
    Some((Token(discovery.ssrc.0), Errand::VoiceDiscovery(from)))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use runtime::timer::Poller;

    use super::*;

    fn order(token: u32, errand: Errand) -> Order {
        Order { token: Token(token), errand, timeout: Duration::from_secs(1) }
    }

    /// Sends both questions to a reflector on that address; answers what comes back.
    fn asked(listen: &str, family: Family) -> (Vec<Report>, Vec<Report>) {
        let clock = Clock::start();
        let reflector = UdpSocket::bind(listen).unwrap();
        let to = reflector.local_addr().unwrap();
        let mut voice = Voice::open(&[family], None);
        let mut reports = Vec::new();
        let errands = [Errand::VoicePing(to), Errand::VoiceDiscovery(to)];
        for (token, errand) in errands.into_iter().enumerate() {
            let launch = voice.send(&order(token as u32, errand), &clock, &mut reports).unwrap();
            assert!(matches!(launch, Launch::OnTheWire(_)));
            let mut bytes = [0; 128];
            let (length, from) = reflector.recv_from(&mut bytes).unwrap();
            reflector.send_to(&voice::answer(&bytes[..length], from).unwrap(), from).unwrap();
        }
        while reports.len() < 2 {
            Poller::new(voice.fds()).wait(Some(Duration::from_secs(5))).map(drop).unwrap();
            voice.receive(&clock, &mut reports);
        }
        let expected = errands.into_iter().zip(0..).map(|(errand, token)| {
            let heard = reports.iter().find_map(|report| match report {
                Report::Answer { token: Token(number), heard, .. } if *number == token => Some(*heard),
                _ => None,
            });
            Report::Answer { token: Token(token), errand, heard: heard.unwrap() }
        });
        (expected.collect(), reports)
    }

    #[test]
    fn ping_and_discovery_come_back_to_their_token_over_ipv4() {
        let (expected, reports) = asked("127.0.0.1:0", Family::Ipv4);
        assert_eq!(reports, expected);
    }

    #[test]
    fn ping_and_discovery_come_back_to_their_token_over_ipv6() {
        if UdpSocket::bind("[::1]:0").is_ok() {
            let (expected, reports) = asked("[::1]:0", Family::Ipv6);
            assert_eq!(reports, expected);
        }
    }

    #[test]
    fn an_answer_carries_the_kernels_stamp_between_send_and_read() {
        let (_, reports) = asked("127.0.0.1:0", Family::Ipv4);
        let stamped = reports.iter().filter(|report| {
            matches!(report, Report::Answer { heard: Heard::ByPacer { at, kernel: Some(kernel) }, .. } if kernel <= at)
        });
        assert!(stamped.count() >= 1, "{reports:?}");
    }

    #[test]
    fn a_family_without_a_socket_is_our_fault_not_the_targets() {
        let (clock, mut reports) = (Clock::start(), Vec::new());
        let errand = Errand::VoicePing("[::1]:9".parse().unwrap());
        let voice = Voice::open(&[Family::Ipv4], None);
        assert_eq!(voice.send(&order(1, errand), &clock, &mut reports), Err(SendFault::NoSocket));
    }

    #[test]
    fn a_packet_that_is_no_answer_has_no_token() {
        let from = "192.0.2.1:9".parse().unwrap();
        assert_eq!(read(&voice::ping_request(1), from), None);
        assert_eq!(read(&[0; PACKET], from), None);
        assert_eq!(read(&[], from), None);
    }
}
