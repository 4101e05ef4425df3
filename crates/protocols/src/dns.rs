//! DNS over UDP, as far as a probe needs it (RFC 1035, 4.1): one question goes out; of what comes back, the header and the
//! question that it repeats are read. Records are not: a probe measures that a server has them, and how long that takes.

use std::str::FromStr;

/// Without EDNS, which we do not speak, no answer is longer (RFC 1035, 4.2.1).
pub const MAX_BYTES: usize = 512;

/// A name as people write it: labels of letters, digits, `-` and `_`, with or without the last dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name has labels of 1 to 63 letters, digits, - and _, and at most 253 characters")]
pub struct InvalidName;

/// What is asked of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordType {
    A,
    Aaaa,
}

/// One question, as it stands in a packet: the name, the type, the class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question(Box<[u8]>);

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response<'a> {
    pub id: u16,
    pub said: Said,
    /// What it says that it answers. Servers that fail may leave it out.
    question: Option<&'a [u8]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Some, or more than a packet holds.
    Records,
    /// The name is known and has none of that type; or another server would have to be asked.
    NoRecords,
    /// NXDOMAIN.
    NoSuchName,
    /// Any other code: 2 is SERVFAIL, 5 is REFUSED.
    Failed { code: u8 },
}

/// Why a packet is no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("{found} bytes, and a header alone has {HEADER}")]
    Size { found: usize },
    #[error("it is no response to a query")]
    Kind,
    #[error("it repeats {found} questions, not one")]
    Questions { found: u16 },
    #[error("the question does not end within the packet")]
    Question,
}

const HEADER: usize = 12;
const RESPONSE: u16 = 1 << 15;
const OPCODE: u16 = 0xf << 11;
const TRUNCATED: u16 = 1 << 9;
const RECURSION_DESIRED: u16 = 1 << 8;
const CODE: u16 = 0xf;
const NO_SUCH_NAME: u16 = 3;
const INTERNET: u16 = 1;
const MAX_LABEL: u8 = 63;

/// A query for a resolver, which does the asking; a server with the records answers it as well.
pub fn query(id: u16, question: &Question) -> Vec<u8> {
    let header = [id, RECURSION_DESIRED, 1, 0, 0, 0];
    let mut packet: Vec<_> = header.into_iter().flat_map(u16::to_be_bytes).collect();
    packet.extend_from_slice(&question.0);
    packet
}

/// Nothing that a packet states of its own lengths is believed.
pub fn parse(packet: &[u8]) -> Result<Response<'_>, Malformed> {
    let (header, rest) = packet.split_first_chunk::<HEADER>().ok_or(Malformed::Size { found: packet.len() })?;
    let &[i0, i1, f0, f1, q0, q1, a0, a1, ..] = header;
    let [id, flags, questions, answers] = [[i0, i1], [f0, f1], [q0, q1], [a0, a1]].map(u16::from_be_bytes);
    if flags & RESPONSE == 0 || flags & OPCODE != 0 {
        return Err(Malformed::Kind);
    }
    let said = match flags & CODE {
        0 if answers > 0 || flags & TRUNCATED != 0 => Said::Records,
        0 => Said::NoRecords,
        NO_SUCH_NAME => Said::NoSuchName,
        code => Said::Failed { code: code as u8 },
    };
    let question = match (questions, said) {
        (0, Said::Failed { .. }) => None,
        (1, _) => Some(repeated(rest)?),
        (found, _) => return Err(Malformed::Questions { found }),
    };
    Ok(Response { id, said, question })
}

/// The question at the begin of these bytes. A pointer cannot stand there: there is nothing before it to point to.
fn repeated(bytes: &[u8]) -> Result<&[u8], Malformed> {
    let mut end = 0;
    loop {
        match *bytes.get(end).ok_or(Malformed::Question)? {
            0 => break,
            length @ 1..=MAX_LABEL => end += 1 + usize::from(length),
            _ => return Err(Malformed::Question),
        }
    }
    bytes.get(..end + 5).ok_or(Malformed::Question)
}

impl Response<'_> {
    /// Whether this is the question that it answers, in whatever case the server writes it.
    pub fn is_to(&self, question: &Question) -> bool {
        // The letters of ASCII lie above every length, type and class that we send.
        self.question.is_none_or(|repeated| repeated.eq_ignore_ascii_case(&question.0))
    }
}

impl Question {
    pub fn new(name: &Name, kind: RecordType) -> Self {
        let mut bytes = Vec::with_capacity(name.0.len() + 6);
        for label in name.0.split('.') {
            bytes.push(label.len() as u8);
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.push(0);
        bytes.extend([kind.number(), INTERNET].into_iter().flat_map(u16::to_be_bytes));
        Self(bytes.into())
    }
}

impl RecordType {
    fn number(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Aaaa => 28,
        }
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let label = |label: &str| (1..=usize::from(MAX_LABEL)).contains(&label.len()) && label.bytes().all(allowed);
        if name.len() <= 253 && name.split('.').all(label) { Ok(Self(name.to_owned())) } else { Err(InvalidName) }
    }
}

impl FromStr for RecordType {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "A" => Ok(Self::A),
            "AAAA" => Ok(Self::Aaaa),
            _ => Err("allowed: A, AAAA"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn question(name: &str) -> Question {
        Question::new(&name.parse().unwrap(), RecordType::A)
    }

    /// A response with that many answers stated, and none in it.
    fn response(id: u16, flags: u16, answers: u16, question: Option<&Question>) -> Vec<u8> {
        let header = [id, RESPONSE | flags, u16::from(question.is_some()), answers, 0, 0];
        let mut packet: Vec<_> = header.into_iter().flat_map(u16::to_be_bytes).collect();
        packet.extend_from_slice(question.map_or(&[], |question| &question.0));
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
            parse(&packet).ok();
        }

        #[test]
        fn a_packet_that_nearly_is_a_response_breaks_nothing(
            name in names(), at: prop::sample::Index, with: u8, end: prop::sample::Index,
        ) {
            let asked = question(&name);
            let mut packet = response(7, 0, 1, Some(&asked));
            let cut = &packet[..end.index(packet.len())];
            prop_assert!(parse(cut).is_err(), "{cut:?}");
            let at = at.index(packet.len());
            packet[at] = with;
            if let Ok(response) = parse(&packet) {
                response.is_to(&asked);
            }
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
        assert_eq!(parse(&good[..good.len() - 1]), Err(Malformed::Question));
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
}
