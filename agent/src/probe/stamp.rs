//! STAMP: a round trip without the time that the question lay at the reflector. The token of a probe is its sequence; the
//! session id is of this life of ours.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use protocols::stamp::{self, Ntp, Test};
use runtime::Clock;
use telemetry::Family;

use super::sockets::{Packet, Sockets, Told};
use super::{Launch, Order, Report, SendFault, Token};
use crate::plan::Errand;

#[derive(Debug)]
pub struct Stamp {
    sockets: Sockets,
    session: u16,
}

impl Stamp {
    pub fn open(families: &[Family], source: Option<IpAddr>, session: u16) -> Self {
        Self { sockets: Sockets::udp("stamp", families, source), session }
    }

    pub fn send(&self, order: &Order, clock: &Clock, reports: &mut Vec<Report>) -> Result<Launch, SendFault> {
        let Order { token, errand: Errand::Stamp(to), .. } = *order else { return Err(SendFault::NoSocket) };
        let sent = Ntp::from_unix_nanos(clock.wall().0);
        let test = Test { sequence: token.0, sent, session: self.session };
        self.sockets.send(order, &stamp::request(test), to, clock, reports)
    }

    /// Reads what has come.
    pub fn receive(&mut self, clock: &Clock, reports: &mut Vec<Report>) {
        let session = self.session;
        self.sockets.receive(clock, reports, |packet| Some(read(packet, session).unwrap_or(Report::Malformed)));
    }

    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.sockets.fd()
    }
}

fn read(packet: &Packet<'_>, session: u16) -> Option<Report> {
    let Packet { bytes, peer, heard, told } = *packet;
    let (test, heard) = match told {
        Told::Answer => {
            let reflection = stamp::parse_reflection(bytes).ok()?;
            (reflection.test, heard.earlier_by(reflection.dwell))
        }
        Told::Bounced(_) => (stamp::parse_test(bytes).ok()?, heard),
    };
    let answer =
        Report::Answer { token: Token(test.sequence), errand: Errand::Stamp(peer), outcome: told.outcome(), heard };
    (test.session == session).then_some(answer)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use runtime::timer::Poller;
    use telemetry::Outcome;

    use super::super::Heard;
    use super::*;

    #[test]
    fn the_time_that_a_question_lay_at_the_reflector_is_not_in_the_round_trip() {
        let (clock, mut reports) = (Clock::start(), Vec::new());
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = server.local_addr().unwrap();
        let mut stamp = Stamp::open(&[Family::Ipv4], None, 7);
        let order = Order {
            token: Token(9),
            errand: Errand::Stamp(to),
            timeout: Duration::from_secs(1),
            way: super::super::Way::default(),
        };
        let Ok(Launch::OnTheWire(sent)) = stamp.send(&order, &clock, &mut reports) else { panic!() };
        let mut packet = [0; 128];
        let (length, from) = server.recv_from(&mut packet).unwrap();
        let (received, dwell) = (1_000_000_000, Duration::from_micros(300));
        while clock.mono().since(sent) < dwell {}
        let [received, answered] = [received, received + dwell.as_nanos() as u64].map(Ntp::from_unix_nanos);
        server.send_to(&stamp::answer(&packet[..length], 64, received, answered).unwrap(), from).unwrap();
        while reports.is_empty() {
            Poller::new(stamp.fd()).wait(Some(Duration::from_secs(5))).map(drop).unwrap();
            stamp.receive(&clock, &mut reports);
        }
        let whole = clock.mono().since(sent);
        let [Report::Answer { token: Token(9), errand, outcome: Outcome::Reply, heard }] = reports[..] else {
            panic!("{reports:?}")
        };
        assert_eq!(errand, Errand::Stamp(to));
        let Heard::ByPacer { at, .. } = heard else { panic!("{heard:?}") };
        assert!(at.since(sent) + dwell <= whole + Duration::from_nanos(2), "{:?} of {whole:?}", at.since(sent));
    }

    #[test]
    fn a_reflection_of_another_session_is_none_of_ours() {
        let test = Test { sequence: 9, sent: Ntp(1 << 63), session: 8 };
        let bytes = stamp::answer(&stamp::request(test), 64, Ntp(1), Ntp(2)).unwrap();
        let (peer, heard) = ("192.0.2.1:862".parse().unwrap(), Heard::ByTask { rtt: Duration::ZERO });
        let packet = Packet { bytes: &bytes, peer, heard, told: Told::Answer };
        assert_eq!(read(&packet, 7), None);
        assert!(read(&packet, 8).is_some());
    }
}
