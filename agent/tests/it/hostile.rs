//! Answers that are none: cut, grown, from another port, to somebody else, again, too late. Each is counted by its reason and none
//! is ever a reply, through the real binary and its real sockets.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use protocols::stamp::{self, Ntp};
use protocols::{stun, voice};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::by_hand::{answer as name_answer, probe};
use crate::collector::{Collector, until};
use crate::own::{Receiver, exporting_about};
use crate::server::Server;

/// A kind of probe, as a hostile server knows it.
struct Wire {
    kind: &'static str,
    more: &'static [&'static str],
    /// The right answer.
    good: fn(&[u8], SocketAddr) -> Vec<u8>,
    /// The question as somebody else's would be: another number, and nothing else.
    others: fn(&mut [u8]),
    /// What the answer to that is taken for: where a number has no secret beside it, for one to a question that was not asked.
    reason: &'static str,
}

const VOICE: Wire = Wire {
    kind: "voice",
    more: &[],
    good: |question, from| voice::answer(question, from).unwrap().to_vec(),
    others: |question| question[4] ^= 0x40,
    reason: "unasked",
};
const STUN: Wire = Wire {
    kind: "stun",
    more: &[],
    good: |question, from| stun::answer(question, from).unwrap(),
    others: |question| question[19] ^= 1,
    reason: "malformed",
};
const STAMP: Wire = Wire {
    kind: "stamp",
    more: &[],
    good: |question, _| stamp::answer(question, 64, Ntp(1 << 63), Ntp(1 << 63)).unwrap().to_vec(),
    others: |question| question[0] ^= 0x40,
    reason: "unasked",
};
const DNS: Wire = Wire {
    kind: "dns",
    more: &["--name", "www.example.com"],
    good: |question, _| name_answer(question.to_vec(), 0),
    others: |question| question[0] ^= 1,
    reason: "malformed",
};

/// How many packets of [`wrongs`] are malformed for any kind.
const MALFORMED: u64 = 6;

/// What a hostile server says before the right answer: that cut short, grown, also beyond what is ever read, and the question
/// itself.
fn wrongs(question: &[u8], good: &[u8]) -> Vec<Vec<u8>> {
    let cut = [good.len() - 1, 3, 0].map(|end| good[..end].to_vec());
    let grown = [600, 5000].map(|length| {
        let mut grown = good.to_vec();
        grown.resize(length, 0);
        grown
    });
    [&cut[..], &grown, &[question.to_vec()]].concat()
}

impl Wire {
    fn probe(&self, address: &str, paces: &[&str]) -> Value {
        probe(&[&[self.kind, address], paces, self.more].concat()).0
    }

    /// All at once before each right answer, which comes again with the next.
    fn drowned(self) {
        let Self { good, others, .. } = self;
        let (elsewhere, mut before) = (UdpSocket::bind("127.0.0.1:0").unwrap(), None);
        let server = Server::start(move |socket, question, from| {
            if let Some((answer, to)) = before.take() {
                socket.send_to(Vec::as_slice(&answer), to).unwrap();
            }
            let answer = good(question, from);
            let mut anothers = question.to_vec();
            others(&mut anothers);
            elsewhere.send_to(&answer, from).unwrap();
            for wrong in wrongs(question, &answer).iter().chain([&good(&anothers, from), &answer]) {
                socket.send_to(wrong, from).unwrap();
            }
            before = Some((answer, from));
        });
        let told = self.probe(&server.address, &["--count", "20", "--every", "20ms", "--timeout", "10s"]);
        assert_eq!((&told["sent"], &told["received"], &told["errors"]), (&20.into(), &20.into(), &json!({})), "{told}");
        assert_eq!((&told["late"], &told["phases"]["rtt"]["count"]), (&0.into(), &20.into()), "{told}");
        let mut noise = json!({ "stranger": 20, "double": 19, "malformed": 20 * MALFORMED });
        noise[self.reason] = (noise[self.reason].as_u64().unwrap_or_default() + 20).into();
        assert_eq!(told["noise"], noise, "{told}");
    }

    /// Each answer comes with the next question, when its own has timed out: twice, and from another port too.
    fn held_back(self) {
        let good = self.good;
        let (elsewhere, mut held) = (UdpSocket::bind("127.0.0.1:0").unwrap(), None);
        let server = Server::start(move |socket, question, from| {
            if let Some((answer, to)) = held.replace((good(question, from), from)) {
                for _ in 0..2 {
                    socket.send_to(Vec::as_slice(&answer), to).unwrap();
                }
                elsewhere.send_to(&answer, to).unwrap();
            }
        });
        let told = self.probe(&server.address, &["--count", "3", "--every", "1100ms", "--timeout", "1s"]);
        assert_eq!((&told["received"], &told["errors"]), (&0.into(), &json!({ "timeout": 3 })), "{told}");
        assert_eq!((&told["late"], &told["phases"]), (&2.into(), &json!({})), "{told}");
        assert_eq!(told["noise"], json!({ "double": 2, "stranger": 2 }), "{told}");
    }
}

#[test]
fn voice_takes_no_wrong_answer_for_a_reply() {
    VOICE.drowned();
}

#[test]
fn stun_takes_no_wrong_answer_for_a_reply() {
    STUN.drowned();
}

#[test]
fn stamp_takes_no_wrong_answer_for_a_reply() {
    STAMP.drowned();
}

#[test]
fn dns_takes_no_wrong_answer_for_a_reply() {
    DNS.drowned();
}

#[test]
fn an_answer_that_is_held_back_is_late_once_and_then_a_double() {
    let kinds = [VOICE, STUN, STAMP, DNS].map(|wire| std::thread::spawn(|| wire.held_back()));
    for kind in kinds {
        kind.join().unwrap();
    }
}

/// The agent that runs, pings and discoveries from the same sockets: what an answer to the one says of the other counts for neither.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_agent_tells_in_its_own_metrics_of_each_wrong_answer_and_counts_the_right_ones_alone() {
    const QUESTIONS: u64 = 40;
    let (folder, mut outside) = (TempDir::new().unwrap(), JoinSet::new());
    let (collector, receiver) = (Collector::default(), Receiver::default());
    let (url, otlp) = (collector.listen(&mut outside).await, receiver.listen(&mut outside).await);
    let (elsewhere, asked) = (UdpSocket::bind("127.0.0.1:0").unwrap(), Arc::new(AtomicU64::new(0)));
    let count = asked.clone();
    let server = Server::start(move |socket, question, from| {
        // Then it says nothing any more, so that all it ever said is counted in the end.
        if count.fetch_add(1, Ordering::Relaxed) >= QUESTIONS {
            return;
        }
        let good = (VOICE.good)(question, from);
        let mut anothers = question.to_vec();
        (VOICE.others)(&mut anothers);
        let number = u32::from_be_bytes(question[4..8].try_into().unwrap());
        let to_the_other = match voice::parse_question(question).unwrap().0 {
            voice::Question::Ping => voice::answer(&voice::discovery_request(voice::Ssrc(number)), from),
            voice::Question::Discovery => voice::answer(&voice::ping_request(number), from),
        };
        elsewhere.send_to(&good, from).unwrap();
        socket.send_to(&to_the_other.unwrap(), from).unwrap();
        for said in wrongs(question, &good).iter().chain([&(VOICE.good)(&anothers, from), &good, &good]) {
            socket.send_to(said, from).unwrap();
        }
    });
    let agent = exporting_about(&folder, &server.address, &url, &otlp);
    let expected = [("double", 1), ("malformed", MALFORMED), ("stranger", 2), ("unasked", 1)];
    let expected = BTreeMap::from(expected.map(|(reason, each)| (reason.to_owned(), each * QUESTIONS)));
    until("all that was said, and more questions", || {
        receiver.counted("isochrone.agent.noise") == expected && asked.load(Ordering::Relaxed) > QUESTIONS
    })
    .await;
    let (code, log) = agent.stop();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(receiver.counted("isochrone.agent.noise"), expected);
    assert_eq!(receiver.counted("isochrone.agent.probe.ended").get("reply"), Some(&QUESTIONS));
}
