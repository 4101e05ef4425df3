//! Voice over UDP: the ping and IP discovery. The token of a probe is the ping's sequence or the discovery's SSRC; an answer
//! counts only if it comes from where the question went.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use protocols::voice::{self, PING_BYTES, Question, Ssrc};
use runtime::Clock;
use telemetry::Family;

use super::sockets::{Packet, Sockets, Told};
use super::{Launch, Order, Report, SendFault, Token};
use crate::plan::Errand;

#[derive(Debug)]
pub struct Voice {
    sockets: Sockets,
}

impl Voice {
    pub fn open(families: &[Family], source: Option<IpAddr>) -> Self {
        Self { sockets: Sockets::udp("voice", families, source) }
    }

    pub fn send(&self, order: &Order, clock: &Clock, reports: &mut Vec<Report>) -> Result<Launch, SendFault> {
        let Order { token, errand, .. } = *order;
        match errand {
            Errand::VoicePing(to) => self.sockets.send(order, &voice::ping_request(token.0), to, clock, reports),
            Errand::VoiceDiscovery(to) => {
                self.sockets.send(order, &voice::discovery_request(Ssrc(token.0)), to, clock, reports)
            }
            _ => Err(SendFault::NoSocket),
        }
    }

    /// Reads what has come.
    pub fn receive(&mut self, clock: &Clock, reports: &mut Vec<Report>) {
        self.sockets.receive(clock, reports, |packet| Some(read(packet).unwrap_or(Report::Malformed)));
    }

    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.sockets.fd()
    }
}

/// Which probe a packet answers or was, and to which errand that must have been.
fn read(packet: &Packet<'_>) -> Option<Report> {
    let Packet { bytes, peer, heard, told } = *packet;
    let (question, number) = match told {
        Told::Answer if bytes.len() == PING_BYTES => (Question::Ping, voice::parse_ping(bytes).ok()?),
        Told::Answer => (Question::Discovery, voice::parse_discovery(bytes).ok()?.ssrc.0),
        Told::Bounced(_) => voice::parse_question(bytes).ok()?,
    };
    let errand = match question {
        Question::Ping => Errand::VoicePing(peer),
        Question::Discovery => Errand::VoiceDiscovery(peer),
    };
    Some(Report::Answer { token: Token(number), errand, outcome: told.outcome(), heard })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use runtime::timer::Poller;
    use telemetry::Outcome;

    use super::super::Heard;
    use super::*;

    fn order(token: u32, errand: Errand) -> Order {
        Order { token: Token(token), errand, timeout: Duration::from_secs(1), way: super::super::Way::default() }
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
            Poller::new(voice.fd()).wait(Some(Duration::from_secs(5))).map(drop).unwrap();
            voice.receive(&clock, &mut reports);
        }
        let expected = errands.into_iter().zip(0..).map(|(errand, token)| {
            let heard = reports.iter().find_map(|report| match report {
                Report::Answer { token: Token(number), heard, .. } if *number == token => Some(*heard),
                _ => None,
            });
            Report::Answer { token: Token(token), errand, outcome: Outcome::Reply, heard: heard.unwrap() }
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
        let peer = "192.0.2.1:9".parse().unwrap();
        let heard = Heard::ByTask { rtt: Duration::ZERO };
        let read = |bytes: &[u8]| read(&Packet { bytes, peer, heard, told: Told::Answer });
        assert_eq!(read(&voice::ping_request(1)), None);
        assert_eq!(read(&[0; 128]), None);
        assert_eq!(read(&[]), None);
    }
}
