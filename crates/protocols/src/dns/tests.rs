use proptest::prelude::*;

use super::*;

fn question(name: &str) -> Question {
    Question::new(&name.parse().unwrap(), RecordType::A)
}

/// An A record whose name points to the question's.
const RECORD: &[u8] = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x07";

/// A response with that many answers.
fn response(id: u16, flags: u16, answers: u16, question: Option<&Question>) -> Vec<u8> {
    let header = [id, RESPONSE | flags, u16::from(question.is_some()), answers, 0, 0];
    let mut packet: Vec<_> = header.into_iter().flat_map(u16::to_be_bytes).collect();
    packet.extend_from_slice(question.map_or(&[], |question| &question.0));
    packet.extend((0..answers).flat_map(|_| RECORD));
    packet
}

fn said(flags: u16, answers: u16) -> Said {
    parse(&response(7, flags, answers, Some(&question("example.com")))).unwrap().said
}

fn names() -> impl Strategy<Value = String> {
    prop::collection::vec("[A-Za-z0-9_-]{1,20}", 1..8).prop_map(|labels| labels.join("."))
}

proptest! {
    #[test]
    fn no_packet_breaks_the_parser(packet in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(parse(&packet).is_err() || (HEADER..=MAX_BYTES).contains(&packet.len()));
    }

    #[test]
    fn a_header_of_ours_before_anything_breaks_nothing(
        answers: u16, code in 0..16_u16, tail in prop::collection::vec(prop_oneof![Just(0), Just(0xc0), any::<u8>()], 0..600),
    ) {
        let mut packet = response(7, code, 0, Some(&question("a.example")));
        packet[6..8].copy_from_slice(&answers.to_be_bytes());
        packet.extend(tail);
        prop_assert!(parse(&packet).is_err() || packet.len() <= MAX_BYTES);
    }

    #[test]
    fn what_is_cut_or_grown_is_no_response(
        name in names(), answers in 1..4_u16, end: prop::sample::Index, more in MAX_BYTES..2048,
    ) {
        let packet = response(7, 0, answers, Some(&question(&name)));
        prop_assert_eq!(parse(&packet).map(|response| response.said), Ok(Said::Records));
        let cut = &packet[..end.index(packet.len())];
        prop_assert!(parse(cut).is_err(), "{cut:?}");
        let mut grown = packet.clone();
        grown.resize(more + 1, 0);
        prop_assert_eq!(parse(&grown), Err(Malformed::Size { found: more + 1 }));
    }

    #[test]
    fn a_response_with_a_bit_turned_over_is_malformed_or_to_another_question_or_says_so_in_its_header(
        name in names(), answers in 1..4_u16, bit: prop::sample::Index,
    ) {
        let (asked, good) = (question(&name), response(7, 0, answers, Some(&question(&name))));
        let mut packet = good.clone();
        let bit = bit.index((HEADER + asked.0.len()) * 8);
        packet[bit / 8] ^= 1 << (bit % 8);
        let Ok(response) = parse(&packet) else { return Ok(()) };
        // Of what is left, the id, flags without a say, counts and the case of letters are those that may differ.
        prop_assert!(response.id != 7 || bit / 8 < HEADER || !response.is_to(&asked) || good.eq_ignore_ascii_case(&packet));
    }

    #[test]
    fn a_response_is_to_its_own_question_in_any_case_and_to_no_other(name in names(), other in names(), id: u16) {
        let packet = response(id, 0, 1, Some(&question(&name.to_ascii_uppercase())));
        let response = parse(&packet).unwrap();
        prop_assert_eq!(response.id, id);
        prop_assert!(response.is_to(&question(&name)));
        prop_assert_eq!(response.is_to(&question(&other)), name.eq_ignore_ascii_case(&other));
        prop_assert!(!response.is_to(&Question::new(&name.parse().unwrap(), RecordType::Aaaa)));
    }

    #[test]
    fn a_query_is_no_response_and_asks_what_it_was_made_of(name in names(), id: u16) {
        let packet = query(id, &question(&name));
        prop_assert_eq!(parse(&packet), Err(Malformed::Kind));
        prop_assert!(packet.len() <= MAX_BYTES);
        let mut response = packet;
        response[2] |= 0x80;
        let response = parse(&response).unwrap();
        prop_assert_eq!((response.id, response.said), (id, Said::NoRecords));
        prop_assert!(response.is_to(&question(&name)));
    }
}

#[test]
fn the_bytes_are_those_of_the_format() {
    let packet = query(0x1234, &Question::new(&"www.example.com.".parse().unwrap(), RecordType::Aaaa));
    let expected = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x03com\x00\x00\x1c\x00\x01";
    assert_eq!(packet, expected);
    assert_eq!(parse(&packet), Err(Malformed::Kind), "a query is no response");
}

#[test]
fn the_code_and_the_count_of_answers_say_what_there_is() {
    assert_eq!(said(0, 1), Said::Records);
    assert_eq!(said(TRUNCATED, 0), Said::Records);
    assert_eq!(said(0, 0), Said::NoRecords);
    assert_eq!(said(3, 0), Said::NoSuchName);
    assert_eq!(said(3, 1), Said::NoSuchName, "an alias to a name that is not there");
    assert_eq!(said(2, 0), Said::Failed { code: 2 });
    assert_eq!(said(5, 0), Said::Failed { code: 5 });
}

#[test]
fn only_a_server_that_fails_may_leave_the_question_out() {
    let refused = response(7, 5, 0, None);
    assert!(parse(&refused).unwrap().is_to(&question("example.com")));
    assert_eq!(parse(&response(7, 0, 1, None)), Err(Malformed::Questions { found: 0 }));
    assert_eq!(parse(&response(7, 3, 0, None)), Err(Malformed::Questions { found: 0 }));
}

#[test]
fn a_malformed_packet_says_what_is_wrong_with_it() {
    let good = response(7, 0, 1, Some(&question("example.com")));
    assert_eq!(parse(&good[..11]), Err(Malformed::Size { found: 11 }));
    assert_eq!(parse(&good[..20]), Err(Malformed::Question));
    assert_eq!(parse(&good[..good.len() - 1]), Err(Malformed::Records { stated: 1 }));
    assert_eq!(parse(&[0; 513]), Err(Malformed::Size { found: 513 }));
    let pointer = [&good[..HEADER], &[0xc0, 12, 0, 1, 0, 1]].concat();
    assert_eq!(parse(&pointer), Err(Malformed::Question));
    let opcode = response(7, 2 << 11, 1, Some(&question("example.com")));
    assert_eq!(parse(&opcode), Err(Malformed::Kind));
}

#[test]
fn a_name_is_one_that_a_packet_can_hold() {
    for refused in ["", ".", "a..b", "a b", "ä.com", &"a".repeat(64), &vec!["a".repeat(60); 5].join(".")] {
        assert_eq!(refused.parse::<Name>(), Err(InvalidName), "{refused:?}");
    }
    assert!("_sip._udp.example.com.".parse::<Name>().is_ok());
}
