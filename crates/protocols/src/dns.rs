//! DNS over UDP, as far as a probe needs it (RFC 1035, 4.1): one question goes out; of what comes back, the header and the
//! question that it repeats are read. Of the records it is seen that they are there in whole, and not what they say: a probe
//! measures that a server has them, and how long that takes.

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
    #[error("{found} bytes; a header alone has {HEADER}, and no answer has more than {MAX_BYTES}")]
    Size { found: usize },
    #[error("it is no response to a query")]
    Kind,
    #[error("it repeats {found} questions, not one")]
    Questions { found: u16 },
    #[error("the question does not end within the packet")]
    Question,
    #[error("states {stated} answers, and not all of them end within the packet")]
    Records { stated: u16 },
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
/// A name's byte from here on begins a pointer of two (RFC 1035, 4.1.4).
const POINTER: u8 = 0xc0;

/// A query for a resolver, which does the asking; a server with the records answers it as well.
pub fn query(id: u16, question: &Question) -> Vec<u8> {
    let header = [id, RECURSION_DESIRED, 1, 0, 0, 0];
    let mut packet: Vec<_> = header.into_iter().flat_map(u16::to_be_bytes).collect();
    packet.extend_from_slice(&question.0);
    packet
}

/// Nothing that a packet states of its own lengths is believed.
pub fn parse(packet: &[u8]) -> Result<Response<'_>, Malformed> {
    let size = Malformed::Size { found: packet.len() };
    let (header, rest) = packet.split_first_chunk::<HEADER>().filter(|_| packet.len() <= MAX_BYTES).ok_or(size)?;
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
    // Who says that a packet was too small for the records may have cut them anywhere.
    if said == Said::Records && flags & TRUNCATED == 0 {
        let records = &rest[question.map_or(0, <[u8]>::len)..];
        (0..answers).try_fold(records, |rest, _| after_record(rest)).ok_or(Malformed::Records { stated: answers })?;
    }
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

/// What follows the record at the begin of these bytes, if that ends in them: a name, ten bytes of which the last two tell a
/// length, and so many more.
fn after_record(bytes: &[u8]) -> Option<&[u8]> {
    let (fixed, rest) = after_name(bytes)?.split_first_chunk::<10>()?;
    rest.get(usize::from(u16::from_be_bytes([fixed[8], fixed[9]]))..)
}

/// Labels, ended by an empty one or by a pointer to others, which is not followed.
fn after_name(bytes: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    loop {
        match *bytes.get(at)? {
            0 => return bytes.get(at + 1..),
            length @ 1..=MAX_LABEL => at += 1 + usize::from(length),
            POINTER.. => return bytes.get(at + 2..),
            _ => return None,
        }
    }
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
mod tests;
