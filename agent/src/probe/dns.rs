//! DNS over UDP: one question to one server, which is asked by address. A reply is an answer with records. That the name is
//! not there, or has no such record, is the failure `dns`; any other code of the server's is `status`.
//!
//! A query's id has 16 bits and a token 32, so what was asked under each id is remembered until it is used again. Ids come in
//! an order that an outsider cannot guess.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use protocols::dns::{self, Question, Said};
use runtime::Clock;
use telemetry::{FailureKind, Outcome};

use super::sockets::{Packet, Sockets, Told};
use super::{Launch, Order, Report, SendFault, Token};
use crate::endpoint::family;
use crate::plan::{Errand, Plan, ProbeIndex};

#[derive(Debug)]
pub struct Dns {
    sockets: Sockets,
    questions: HashMap<ProbeIndex, Question>,
    asked: HashMap<u16, (Token, ProbeIndex)>,
    /// Of the ids of this life.
    seed: u64,
}

impl Dns {
    pub fn open(plan: &Plan, source: Option<IpAddr>, seed: u64) -> Self {
        let families = plan.families(|errand| match errand {
            Errand::Dns(to, _) => Some(family(to.ip())),
            _ => None,
        });
        let asks = |planned: &crate::plan::Planned| match planned.toward() {
            Errand::Dns(_, probe) => Some((probe, planned.question.as_deref()?.clone())),
            _ => None,
        };
        let questions = plan.probes().iter().filter_map(asks).collect();
        Self { sockets: Sockets::udp("dns", &families, source), questions, asked: HashMap::new(), seed }
    }

    pub fn send(&mut self, order: &Order, clock: &Clock, reports: &mut Vec<Report>) -> Result<Launch, SendFault> {
        let Order { token, errand: Errand::Dns(to, probe), .. } = *order else { return Err(SendFault::NoSocket) };
        let question = self.questions.get(&probe).ok_or(SendFault::NoSocket)?;
        let id = id(token, self.seed);
        self.asked.insert(id, (token, probe));
        self.sockets.send(order, &dns::query(id, question), to, clock, reports)
    }

    /// Reads what has come.
    pub fn receive(&mut self, clock: &Clock, reports: &mut Vec<Report>) {
        let Self { sockets, questions, asked, .. } = self;
        sockets.receive(clock, reports, |packet| Some(read(packet, questions, asked).unwrap_or(Report::Malformed)));
    }

    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.sockets.fd()
    }
}

/// Which probe a packet answers, and how, or which it was. `None`: that was never asked.
fn read(
    packet: &Packet<'_>,
    questions: &HashMap<ProbeIndex, Question>,
    asked: &HashMap<u16, (Token, ProbeIndex)>,
) -> Option<Report> {
    let Packet { bytes, peer, heard, told } = *packet;
    let of = |id| asked.get(&id).and_then(|&(token, probe)| Some((token, probe, questions.get(&probe)?)));
    let (token, probe, outcome) = match told {
        Told::Answer => {
            let response = dns::parse(bytes).ok()?;
            let (token, probe, _) = of(response.id).filter(|(_, _, question)| response.is_to(question))?;
            (token, probe, outcome(response.said))
        }
        Told::Bounced(_) => {
            let id = u16::from_be_bytes(*bytes.first_chunk()?);
            let (token, probe, _) = of(id).filter(|(_, _, question)| dns::query(id, question) == bytes)?;
            (token, probe, told.outcome())
        }
    };
    Some(Report::Answer { token, errand: Errand::Dns(peer, probe), outcome, heard })
}

fn outcome(said: Said) -> Outcome {
    match said {
        Said::Records => Outcome::Reply,
        Said::NoRecords | Said::NoSuchName => Outcome::Failure(FailureKind::Dns),
        Said::Failed { .. } => Outcome::Failure(FailureKind::Status),
    }
}

/// 65,536 tokens in a row have an id each: every step can be undone. The seed decides their order.
fn id(token: Token, seed: u64) -> u16 {
    let [a, b, c, d] = [0, 16, 32, 48].map(|shift| (seed >> shift) as u16);
    let mut id = (token.0 as u16).wrapping_add(a).wrapping_mul(b | 1);
    id ^= id >> 7;
    id = id.wrapping_mul(c | 1) ^ d;
    id ^ id >> 9
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::UdpSocket;
    use std::time::Duration;

    use proptest::prelude::*;
    use runtime::timer::Poller;

    use super::super::Heard;
    use super::super::bench::plan;
    use super::*;

    /// Asks a server of the test's, which answers with what `answers` makes of the query; gives what is told of them.
    fn told(answers: impl Fn(Vec<u8>) -> Vec<Vec<u8>>) -> (Errand, Vec<Report>) {
        let clock = Clock::start();
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let plan = plan(&server.local_addr().unwrap().to_string(), "dns", "name = \"www.example.com\"");
        let errand = plan.probes()[0].errand();
        let (mut dns, mut reports) = (Dns::open(&plan, None, 7), Vec::new());
        let order =
            Order { token: Token(1), errand, timeout: Duration::from_secs(1), way: super::super::Way::default() };
        assert!(matches!(dns.send(&order, &clock, &mut reports), Ok(Launch::OnTheWire(_))));
        let mut packet = [0; dns::MAX_BYTES];
        let (length, from) = server.recv_from(&mut packet).unwrap();
        let answers = answers(packet[..length].to_vec());
        for answer in &answers {
            server.send_to(answer, from).unwrap();
        }
        while reports.len() < answers.len() {
            Poller::new(dns.fd()).wait(Some(Duration::from_secs(5))).map(drop).unwrap();
            dns.receive(&clock, &mut reports);
        }
        (errand, reports)
    }

    /// The query as an answer with that code and so many records.
    fn answer(mut query: Vec<u8>, code: u8, records: u8) -> Vec<u8> {
        (query[2], query[3], query[7]) = (0x81, 0x80 | code, records);
        let record = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x07";
        query.extend((0..records).flat_map(|_| record));
        query
    }

    fn answered(code: u8, records: u8) -> Outcome {
        let (asked, reports) = told(|query| vec![answer(query, code, records)]);
        let [Report::Answer { token: Token(1), errand, outcome, .. }] = reports[..] else { panic!("{reports:?}") };
        assert_eq!(errand, asked);
        outcome
    }

    #[test]
    fn an_answer_with_records_is_a_reply_and_what_the_server_says_instead_is_told_apart() {
        assert_eq!(answered(0, 1), Outcome::Reply);
        assert_eq!(answered(0, 0), Outcome::Failure(FailureKind::Dns), "no such record");
        assert_eq!(answered(3, 0), Outcome::Failure(FailureKind::Dns), "no such name");
        assert_eq!(answered(2, 0), Outcome::Failure(FailureKind::Status), "SERVFAIL");
        assert_eq!(answered(5, 0), Outcome::Failure(FailureKind::Status), "REFUSED");
    }

    #[test]
    fn another_id_another_question_and_a_packet_cut_short_answer_nothing() {
        let (_, reports) = told(|query| {
            let good = answer(query, 0, 1);
            let (mut other_id, mut other_name) = (good.clone(), good.clone());
            other_id[1] ^= 1;
            other_name[13] ^= 1;
            let cut = [good.len() - 1, 20, 5, 0].map(|end| good[..end].to_vec());
            [&[other_id, other_name], &cut[..]].concat()
        });
        assert_eq!(reports, [(); 6].map(|()| Report::Malformed));
    }

    #[test]
    fn an_answer_from_another_server_is_to_another_errand() {
        let asked = HashMap::from([(7, (Token(1), ProbeIndex(0)))]);
        let question = Question::new(&"www.example.com".parse().unwrap(), dns::RecordType::A);
        let packet = answer(dns::query(7, &question), 0, 1);
        let heard = Heard::ByTask { rtt: Duration::ZERO };
        let from = "192.0.2.66:53".parse().unwrap();
        let packet = Packet { bytes: &packet, peer: from, heard, told: Told::Answer };
        let read = read(&packet, &HashMap::from([(ProbeIndex(0), question)]), &asked);
        let Some(Report::Answer { errand, .. }) = read else { panic!("{read:?}") };
        assert_eq!(errand, Errand::Dns(from, ProbeIndex(0)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn tokens_in_a_row_never_share_an_id(seed: u64, first: u32) {
            let ids: HashSet<_> = (0..65_536).map(|step| id(Token(first.wrapping_add(step)), seed)).collect();
            prop_assert_eq!(ids.len(), 65_536);
        }
    }
}
