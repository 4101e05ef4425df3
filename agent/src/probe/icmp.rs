//! ICMP echo, from one socket of each family. The token of a probe is in the payload, beside a cookie of this life of ours, since
//! raw sockets hear everybody's echoes and the kernel's own ping sockets number theirs as they like.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;

use protocols::icmp::{self, Mark, Version};
use runtime::Clock;
use telemetry::Family;

use super::sockets::{Packet, Sockets, Told};
use super::{Launch, Order, Report, SendFault, Token};
use crate::plan::Errand;

#[derive(Debug)]
pub struct Icmp {
    sockets: Sockets,
    cookie: u64,
}

impl Icmp {
    pub fn open(families: &[Family], source: Option<IpAddr>, cookie: u64) -> Self {
        Self { sockets: Sockets::icmp(families, source), cookie }
    }

    pub fn send(&self, order: &Order, clock: &Clock, reports: &mut Vec<Report>) -> Result<Launch, SendFault> {
        let Order { token, errand: Errand::Icmp(to), .. } = *order else { return Err(SendFault::NoSocket) };
        let mark = Mark { cookie: self.cookie, number: token.0 };
        let echo = icmp::request(Version::of(to), self.cookie as u16, mark);
        self.sockets.send(order, &echo, SocketAddr::new(to, 0), clock, reports)
    }

    /// Reads what has come.
    pub fn receive(&mut self, clock: &Clock, reports: &mut Vec<Report>) {
        let cookie = self.cookie;
        self.sockets.receive(clock, reports, |packet| read(packet, cookie));
    }

    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.sockets.fd()
    }
}

/// Which probe a packet answers or was, or that it is a spoilt one of ours. `None`: it is somebody else's.
fn read(packet: &Packet<'_>, cookie: u64) -> Option<Report> {
    let Packet { bytes, peer, heard, told } = *packet;
    let version = Version::of(peer.ip());
    let mark = match told {
        Told::Answer => icmp::parse_claimed(version, bytes),
        Told::Bounced(_) => icmp::parse_quoted(version, bytes),
    };
    let mark = mark.ok().filter(|mark| mark.cookie == cookie)?;
    if told == Told::Answer && icmp::parse_reply(version, bytes).is_err() {
        return Some(Report::Malformed);
    }
    Some(Report::Answer { token: Token(mark.number), errand: Errand::Icmp(peer.ip()), outcome: told.outcome(), heard })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use runtime::timer::Poller;
    use telemetry::{FailureKind, Outcome};

    use super::super::Heard;
    use super::*;

    /// What is told of one echo to that address. `None`: this machine lets us send none.
    fn echoed(to: &str) -> Option<Report> {
        let (clock, mut reports) = (Clock::start(), Vec::new());
        let to: IpAddr = to.parse().unwrap();
        let mut icmp = Icmp::open(&[crate::endpoint::family(to)], None, 0x0102_0304_0506_0708);
        let order = Order {
            token: Token(0x0a0b_0c0d),
            errand: Errand::Icmp(to),
            timeout: Duration::from_secs(5),
            way: super::super::Way::default(),
        };
        match icmp.send(&order, &clock, &mut reports) {
            Ok(launch) => assert!(matches!(launch, Launch::OnTheWire(_))),
            Err(_) => return None,
        }
        let deadline = clock.mono() + Duration::from_secs(5);
        while reports.is_empty() && clock.mono() < deadline {
            Poller::new(icmp.fd()).wait(Some(Duration::from_secs(1))).map(drop).unwrap();
            icmp.receive(&clock, &mut reports);
        }
        reports.pop()
    }

    #[test]
    fn an_echo_comes_back_to_its_token_with_the_kernels_stamp_over_either_family() {
        for to in ["127.0.0.1", "::1"] {
            let Some(report) = echoed(to) else { continue };
            let Report::Answer { token, errand, outcome, heard } = report else { panic!("{report:?}") };
            assert_eq!((token, errand), (Token(0x0a0b_0c0d), Errand::Icmp(to.parse().unwrap())));
            assert_eq!(outcome, Outcome::Reply);
            assert!(matches!(heard, Heard::ByPacer { at, kernel: Some(kernel) } if kernel <= at), "{heard:?}");
        }
    }

    #[test]
    fn other_peoples_echoes_and_what_is_none_are_not_for_us() {
        let heard = Heard::ByTask { rtt: Duration::ZERO };
        let peer = "127.0.0.1:0".parse().unwrap();
        let mine = icmp::request(Version::V4, 1, Mark { cookie: 1, number: 7 });
        let quoted = Packet { bytes: &mine, peer, heard, told: Told::Bounced(FailureKind::Unreachable) };
        let outcome = Outcome::Failure(FailureKind::Unreachable);
        let ours = Report::Answer { token: Token(7), errand: Errand::Icmp(peer.ip()), outcome, heard };
        assert_eq!(read(&quoted, 1), Some(ours));
        assert_eq!(read(&quoted, 2), None, "another process'");
        assert_eq!(read(&Packet { told: Told::Answer, ..quoted }, 1), None, "a request that the loopback brings back");
    }

    #[test]
    fn an_echo_of_ours_that_came_back_spoilt_is_told_as_such_and_anothers_is_not() {
        let (heard, peer) = (Heard::ByTask { rtt: Duration::ZERO }, "[::1]:0".parse().unwrap());
        let mut bytes = icmp::request(Version::V6, 1, Mark { cookie: 1, number: 7 }).to_vec();
        bytes[0] = 129;
        let read = |bytes: &[u8], cookie| read(&Packet { bytes, peer, heard, told: Told::Answer }, cookie);
        assert!(matches!(read(&bytes, 1), Some(Report::Answer { token: Token(7), .. })));
        for spoilt in [&bytes[..63], &[&bytes[..], b"?"].concat()] {
            assert_eq!(read(spoilt, 1), Some(Report::Malformed));
            assert_eq!(read(spoilt, 2), None);
        }
    }
}
