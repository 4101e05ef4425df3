use proptest::prelude::*;
use protocols::stamp::Test;
use protocols::stun::{Binding, TransactionId};
use protocols::voice::{Ssrc, discovery_request, parse_ping, ping_request};

use super::*;

/// Asks a reflector on loopback one after the other; `None` where a question was not answered before the next one was.
async fn asked(per_second: u32, questions: &[&[u8]]) -> (SocketAddr, Vec<Vec<u8>>) {
    let reflector = Reflector::bind("127.0.0.1:0".parse().unwrap(), per_second).await.unwrap();
    let (address, shutdown) = (reflector.address().unwrap(), Shutdown::new());
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let from = client.local_addr().unwrap();
    let asking = async {
        for question in questions {
            client.send_to(question, address).await.unwrap();
        }
        // Another neighbourhood's question is answered after all before it.
        let last = UdpSocket::bind("127.0.1.1:0").await.unwrap();
        last.send_to(&ping_request(0), address).await.unwrap();
        last.recv(&mut [0; 8]).await.unwrap();
        shutdown.cancel();
    };
    let (stopped, ()) = tokio::join!(reflector.run(shutdown.clone()), asking);
    stopped.unwrap();
    let mut answers = Vec::new();
    let mut bytes = [0; 4096];
    while let Ok(length) = client.try_recv(&mut bytes) {
        answers.push(bytes[..length].to_vec());
    }
    (from, answers)
}

#[tokio::test]
async fn a_reflector_answers_what_it_knows_ignores_the_rest_and_stops() {
    let (id, test) = (TransactionId([7; 12]), Test { sequence: 9, sent: Ntp(1 << 63), session: 3 });
    let questions: [&[u8]; 4] = [b"not a question", &ping_request(7), &stun::request(id), &stamp::request(test)];
    let (from, answers) = asked(1000, &questions).await;
    let [ping, binding, reflection] = answers.try_into().unwrap();
    assert_eq!(parse_ping(&ping), Ok(7));
    assert_eq!(stun::parse_success(&binding), Ok(Binding { transaction: id, seen: from }));
    let reflection = stamp::parse_reflection(&reflection).unwrap();
    assert_eq!((reflection.test, reflection.sequence), (test, 9));
    assert!(reflection.dwell < Duration::from_secs(5), "{:?}", reflection.dwell);
}

#[tokio::test]
async fn a_neighbourhood_over_its_limit_is_not_answered() {
    let ping = ping_request(7);
    let (_, answers) = asked(2, &[&ping, &ping, &ping, &ping]).await;
    assert_eq!(answers.len(), 2);
}

#[test]
fn the_address_file_holds_the_address_and_leaves_no_draft() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("reflector.address");
    tell_address(&file, "127.0.0.1:4711".parse().unwrap()).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "127.0.0.1:4711\n");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// Questions of every kind that is answered.
fn questions() -> impl Strategy<Value = Vec<u8>> {
    let test = |(sequence, sent, session)| stamp::request(Test { sequence, sent: Ntp(sent), session }).to_vec();
    prop_oneof![
        any::<u32>().prop_map(|sequence| ping_request(sequence).to_vec()),
        any::<u32>().prop_map(|ssrc| discovery_request(Ssrc(ssrc)).to_vec()),
        any::<[u8; 12]>().prop_map(|id| stun::request(TransactionId(id)).to_vec()),
        any::<(u32, u64, u16)>().prop_map(test),
    ]
}

/// Questions, ones with a bit turned over, cut or grown, and any bytes at all.
fn packets() -> impl Strategy<Value = Vec<u8>> {
    let turned = (questions(), any::<prop::sample::Index>()).prop_map(|(mut packet, bit)| {
        let bit = bit.index(packet.len() * 8);
        packet[bit / 8] ^= 1 << (bit % 8);
        packet
    });
    let resized = (questions(), 0..2048_usize, any::<u8>()).prop_map(|(mut packet, length, with)| {
        packet.resize(length, with);
        packet
    });
    prop_oneof![questions(), turned, resized, prop::collection::vec(any::<u8>(), 0..2048)]
}

fn said(bytes: &[u8], from: SocketAddr, ttl: Option<u8>, [stamped, now]: [u64; 2]) -> Option<Vec<u8>> {
    answer(&Datagram { bytes, from, stamped: Some(Wall(stamped)), ttl }, Wall(now))
}

#[test]
fn what_another_reflector_says_of_a_short_address_is_no_test() {
    let from = "10.0.0.1:9".parse().unwrap();
    let discovery = said(&discovery_request(Ssrc(7)), from, Some(64), [1, 1]).unwrap();
    assert!(stamp::parse_test(&discovery).is_ok(), "by its bytes it could be one");
    assert_eq!(said(&discovery, from, Some(64), [1, 1]), None);
}

proptest! {
    #[test]
    fn nothing_is_answered_with_more_than_it_has_nor_is_an_answer_answered(
        packet in packets(), from: SocketAddr, ttl: Option<u8>, clocks: [u64; 2],
    ) {
        if let Some(answer) = said(&packet, from, ttl, clocks) {
            prop_assert!(answer.len() <= packet.len(), "{} bytes for {}", answer.len(), packet.len());
            prop_assert_eq!(said(&answer, from, ttl, clocks), None, "two reflectors would talk for ever");
        }
    }

    #[test]
    fn every_question_is_answered_to_whomever_and_whatever_the_clock_says(
        packet in questions(), from: SocketAddr, ttl: Option<u8>, clocks: [u64; 2],
    ) {
        prop_assert!(said(&packet, from, ttl, clocks).is_some());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// On the real socket: one answer for each question and none for the rest, each no longer than the packet that it is for.
    #[test]
    fn a_socket_full_of_rubbish_says_no_more_than_the_pure_answer_does(packets in prop::collection::vec(packets(), 1..40)) {
        let packets: Vec<_> = packets.iter().map(Vec::as_slice).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (from, answers) = runtime.block_on(asked(100_000, &packets));
        let expected: Vec<_> = packets.iter().filter_map(|packet| said(packet, from, Some(64), [1, 1])).collect();
        prop_assert_eq!(answers.len(), expected.len());
        for (answer, expected) in answers.iter().zip(expected) {
            // STAMP tells the time; all else is the same.
            prop_assert!(*answer == expected || answer.len() == stamp::PACKET_BYTES && answer[24..] == expected[24..]);
        }
        prop_assert!(answers.iter().map(Vec::len).sum::<usize>() <= packets.iter().map(|packet| packet.len()).sum());
    }
}
