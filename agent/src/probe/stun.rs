//! STUN bindings. The token of a probe begins its transaction id, which nobody else can guess; nothing is sent twice under one.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use protocols::stun::{self, TransactionId};
use runtime::Clock;
use telemetry::Family;

use super::sockets::{Packet, Sockets, Told};
use super::{Launch, Order, Report, SendFault, Token};
use crate::plan::Errand;

#[derive(Debug)]
pub struct Stun {
    sockets: Sockets,
    /// What follows the token in every id of this life.
    salt: u64,
}

impl Stun {
    pub fn open(families: &[Family], source: Option<IpAddr>, salt: u64) -> Self {
        Self { sockets: Sockets::udp("stun", families, source), salt }
    }

    pub fn send(&self, order: &Order, clock: &Clock, reports: &mut Vec<Report>) -> Result<Launch, SendFault> {
        let Order { token, errand: Errand::Stun(to), .. } = *order else { return Err(SendFault::NoSocket) };
        self.sockets.send(order, &stun::request(transaction(token, self.salt)), to, clock, reports)
    }

    /// Reads what has come.
    pub fn receive(&mut self, clock: &Clock, reports: &mut Vec<Report>) {
        let salt = self.salt;
        self.sockets.receive(clock, reports, |packet| Some(read(packet, salt).unwrap_or(Report::Malformed)));
    }

    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.sockets.fd()
    }
}

fn transaction(token: Token, salt: u64) -> TransactionId {
    let mut id = [0; 12];
    id[..4].copy_from_slice(&token.0.to_be_bytes());
    id[4..].copy_from_slice(&salt.to_be_bytes());
    TransactionId(id)
}

fn read(packet: &Packet<'_>, salt: u64) -> Option<Report> {
    let Packet { bytes, peer, heard, told } = *packet;
    let id = match told {
        Told::Answer => stun::parse_success(bytes).ok()?.transaction,
        Told::Bounced(_) => stun::parse_request(bytes).ok()?,
    };
    let token = Token(u32::from_be_bytes(*id.0.first_chunk()?));
    let ours = transaction(token, salt) == id;
    ours.then_some(Report::Answer { token, errand: Errand::Stun(peer), outcome: told.outcome(), heard })
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, UdpSocket};
    use std::time::Duration;

    use runtime::timer::Poller;
    use telemetry::{FailureKind, Outcome};

    use super::*;

    fn told(answers: impl FnOnce(Vec<u8>, SocketAddr) -> Vec<Vec<u8>>) -> (SocketAddr, Vec<Report>) {
        let (clock, mut reports) = (Clock::start(), Vec::new());
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = server.local_addr().unwrap();
        let mut stun = Stun::open(&[Family::Ipv4], None, 7);
        let order = Order {
            token: Token(9),
            errand: Errand::Stun(to),
            timeout: Duration::from_secs(1),
            way: super::super::Way::default(),
        };
        stun.send(&order, &clock, &mut reports).unwrap();
        let mut packet = [0; 128];
        let (length, from) = server.recv_from(&mut packet).unwrap();
        let answers = answers(packet[..length].to_vec(), from);
        for answer in &answers {
            server.send_to(answer, from).unwrap();
        }
        while reports.len() < answers.len() {
            Poller::new(stun.fd()).wait(Some(Duration::from_secs(5))).map(drop).unwrap();
            stun.receive(&clock, &mut reports);
        }
        (to, reports)
    }

    #[test]
    fn a_success_ends_the_probe_whose_transaction_it_names() {
        let (to, reports) = told(|question, from| vec![stun::answer(&question, from).unwrap()]);
        let [Report::Answer { token: Token(9), errand, outcome: Outcome::Reply, .. }] = reports[..] else {
            panic!("{reports:?}")
        };
        assert_eq!(errand, Errand::Stun(to));
    }

    #[test]
    fn a_success_with_another_salt_is_none_of_ours() {
        let strange = stun::request(transaction(Token(9), 8));
        let (_, reports) = told(|question, from| vec![stun::answer(&strange, from).unwrap(), question]);
        assert_eq!(reports, [Report::Malformed, Report::Malformed]);
    }

    #[test]
    fn a_closed_port_refuses_at_once() {
        let (clock, mut reports) = (Clock::start(), Vec::new());
        let to = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut stun = Stun::open(&[Family::Ipv4], None, 7);
        let errand = Errand::Stun(to);
        for token in 0..3 {
            let order = Order {
                token: Token(token),
                errand,
                timeout: Duration::from_secs(1),
                way: super::super::Way::default(),
            };
            stun.send(&order, &clock, &mut reports).unwrap();
        }
        while reports.len() < 3 {
            Poller::new(stun.fd()).wait(Some(Duration::from_secs(5))).map(drop).unwrap();
            stun.receive(&clock, &mut reports);
        }
        let refused = Outcome::Failure(FailureKind::Refused);
        let tokens = reports.iter().map(|report| match report {
            Report::Answer { token, errand: about, outcome, .. } if *outcome == refused && *about == errand => token.0,
            other => panic!("{other:?}"),
        });
        assert_eq!(tokens.collect::<Vec<_>>(), [0, 1, 2]);
    }
}
