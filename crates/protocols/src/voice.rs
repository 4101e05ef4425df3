//! Voice UDP: IP discovery and the ping, as voice servers speak them.
//!
//! Discovery, 74 bytes, big-endian: type u16 (1 request, 2 response), length u16 = 70, SSRC u32, address 64 bytes of ASCII
//! ended by NUL (zeros in the request), port u16. Ping, 8 bytes: a magic u32, big-endian, and a sequence u32.

use std::fmt;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;

pub const DISCOVERY_BYTES: usize = 74;
pub const PING_BYTES: usize = 8;

/// A synchronisation source, as RTP names one (RFC 3550).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ssrc(pub u32);

/// Where the server saw the question come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Discovery {
    pub ssrc: Ssrc,
    pub address: IpAddr,
    pub port: u16,
}

/// What a reflector says: at most 74 bytes, kept in place.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    bytes: [u8; DISCOVERY_BYTES],
    question: Question,
}

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Question {
    Discovery,
    Ping,
}

/// Why a packet is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("{found} bytes, not {expected}")]
    Size { found: usize, expected: usize },
    #[error("type {found:#06x} is not that of a response")]
    Type { found: u16 },
    #[error("states a length of {found}, not 70")]
    Length { found: u16 },
    #[error("the address is not one that ends within its 64 bytes")]
    Address,
    #[error("magic {found:#010x} is not that of an answer")]
    Magic { found: u32 },
}

const REQUEST: u16 = 1;
const RESPONSE: u16 = 2;
/// What follows the type and the length.
const LENGTH: u16 = 70;
const PING: u32 = 0x1337_CAFE;
const PONG: u32 = 0x1337_F00D;

pub fn discovery_request(ssrc: Ssrc) -> [u8; DISCOVERY_BYTES] {
    discovery(REQUEST, ssrc)
}

pub fn parse_discovery(packet: &[u8]) -> Result<Discovery, Malformed> {
    let (ssrc, place) = open_discovery(packet, RESPONSE)?;
    let (address, port) = place.split_at(64);
    let end = address.iter().position(|&byte| byte == 0).ok_or(Malformed::Address)?;
    let text = str::from_utf8(&address[..end]).map_err(|_| Malformed::Address)?;
    let address = text.parse().map_err(|_| Malformed::Address)?;
    Ok(Discovery { ssrc, address, port: u16::from_be_bytes([port[0], port[1]]) })
}

pub fn ping_request(sequence: u32) -> [u8; PING_BYTES] {
    ping(PING, sequence)
}

/// The sequence of the ping that this answers.
pub fn parse_ping(packet: &[u8]) -> Result<u32, Malformed> {
    open_ping(packet, PONG)
}

/// Which question a packet is, and the number in it: a ping's sequence, or a discovery's SSRC.
pub fn parse_question(packet: &[u8]) -> Result<(Question, u32), Malformed> {
    match open_ping(packet, PING) {
        Ok(sequence) => Ok((Question::Ping, sequence)),
        Err(_) => open_discovery(packet, REQUEST).map(|(ssrc, _)| (Question::Discovery, ssrc.0)),
    }
}

/// What a reflector says to a packet, or nothing. Never longer than the question, and never itself a question, so that
/// reflectors neither amplify nor talk to each other for ever.
pub fn answer(packet: &[u8], from: SocketAddr) -> Option<Answer> {
    if let Ok(sequence) = open_ping(packet, PING) {
        let mut bytes = [0; DISCOVERY_BYTES];
        bytes[..PING_BYTES].copy_from_slice(&ping(PONG, sequence));
        return Some(Answer { bytes, question: Question::Ping });
    }
    let (ssrc, _) = open_discovery(packet, REQUEST).ok()?;
    let mut bytes = discovery(RESPONSE, ssrc);
    // On a socket of both families an IPv4 peer comes as ::ffff:a.b.c.d.
    write!(&mut bytes[8..72], "{}", from.ip().to_canonical()).expect("an address is at most 45 characters");
    bytes[72..].copy_from_slice(&from.port().to_be_bytes());
    Some(Answer { bytes, question: Question::Discovery })
}

impl Answer {
    pub fn question(&self) -> Question {
        self.question
    }
}

impl Deref for Answer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self.question {
            Question::Discovery => &self.bytes,
            Question::Ping => &self.bytes[..PING_BYTES],
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:02x?}", self.question, &**self)
    }
}

fn discovery(kind: u16, ssrc: Ssrc) -> [u8; DISCOVERY_BYTES] {
    let mut bytes = [0; DISCOVERY_BYTES];
    bytes[..2].copy_from_slice(&kind.to_be_bytes());
    bytes[2..4].copy_from_slice(&LENGTH.to_be_bytes());
    bytes[4..8].copy_from_slice(&ssrc.0.to_be_bytes());
    bytes
}

/// The SSRC, and the 66 bytes of address and port.
fn open_discovery(packet: &[u8], kind: u16) -> Result<(Ssrc, &[u8]), Malformed> {
    let packet: &[u8; DISCOVERY_BYTES] =
        packet.try_into().map_err(|_| Malformed::Size { found: packet.len(), expected: DISCOVERY_BYTES })?;
    let &[k0, k1, l0, l1, s0, s1, s2, s3, ref place @ ..] = packet;
    let (found, length) = (u16::from_be_bytes([k0, k1]), u16::from_be_bytes([l0, l1]));
    if found != kind {
        return Err(Malformed::Type { found });
    }
    if length != LENGTH {
        return Err(Malformed::Length { found: length });
    }
    Ok((Ssrc(u32::from_be_bytes([s0, s1, s2, s3])), place))
}

fn ping(magic: u32, sequence: u32) -> [u8; PING_BYTES] {
    (u64::from(magic) << 32 | u64::from(sequence)).to_be_bytes()
}

fn open_ping(packet: &[u8], magic: u32) -> Result<u32, Malformed> {
    let bytes: [u8; PING_BYTES] =
        packet.try_into().map_err(|_| Malformed::Size { found: packet.len(), expected: PING_BYTES })?;
    let [m0, m1, m2, m3, s0, s1, s2, s3] = bytes;
    let found = u32::from_be_bytes([m0, m1, m2, m3]);
    if found != magic {
        return Err(Malformed::Magic { found });
    }
    Ok(u32::from_be_bytes([s0, s1, s2, s3]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn anywhere() -> impl Strategy<Value = SocketAddr> {
        (any::<IpAddr>(), any::<u16>()).prop_map(SocketAddr::from)
    }

    /// Packets that nearly are ours: a true one with one byte changed, and any bytes of any length.
    fn packets() -> impl Strategy<Value = Vec<u8>> {
        let spoilt = |bytes: Vec<u8>| {
            (Just(bytes), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut bytes, at, with)| {
                let at = at.index(bytes.len());
                bytes[at] = with;
                bytes
            })
        };
        let responses = (any::<u32>(), anywhere())
            .prop_map(|(ssrc, from)| answer(&discovery_request(Ssrc(ssrc)), from).unwrap().to_vec());
        let requests = any::<u32>().prop_map(|ssrc| discovery_request(Ssrc(ssrc)).to_vec());
        let pings = (any::<u32>(), prop::sample::select(vec![PING, PONG]))
            .prop_map(|(sequence, magic)| ping(magic, sequence).to_vec());
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..160),
            responses.prop_flat_map(spoilt),
            requests.prop_flat_map(spoilt),
            pings.prop_flat_map(spoilt),
        ]
    }

    proptest! {
        #[test]
        fn discovery_tells_who_asked_over_either_family(ssrc: u32, from in anywhere()) {
            let said = answer(&discovery_request(Ssrc(ssrc)), from).unwrap();
            prop_assert_eq!(said.question(), Question::Discovery);
            let seen = Discovery { ssrc: Ssrc(ssrc), address: from.ip().to_canonical(), port: from.port() };
            prop_assert_eq!(parse_discovery(&said), Ok(seen));
            prop_assert_eq!(parse_question(&discovery_request(Ssrc(ssrc))), Ok((Question::Discovery, ssrc)));
        }

        #[test]
        fn a_ping_is_answered_with_its_own_sequence(sequence: u32, from in anywhere()) {
            let said = answer(&ping_request(sequence), from).unwrap();
            prop_assert_eq!(said.question(), Question::Ping);
            prop_assert_eq!(parse_ping(&said), Ok(sequence));
            prop_assert_eq!(parse_question(&ping_request(sequence)), Ok((Question::Ping, sequence)));
        }

        #[test]
        fn no_packet_breaks_a_decoder_or_is_amplified(packet in packets(), from in anywhere()) {
            if let Ok(Discovery { ssrc, address, port }) = parse_discovery(&packet) {
                let said = answer(&discovery_request(ssrc), SocketAddr::new(address, port)).unwrap();
                let seen = Discovery { ssrc, address: address.to_canonical(), port };
                prop_assert_eq!(parse_discovery(&said), Ok(seen), "what parses is what we would say");
            }
            if let Ok(sequence) = parse_ping(&packet) {
                prop_assert_eq!(answer(&ping_request(sequence), from).unwrap().to_vec(), packet.clone());
            }
            if let Some(said) = answer(&packet, from) {
                prop_assert!(said.len() <= packet.len());
                prop_assert_eq!(answer(&said, from), None, "two reflectors would talk for ever");
            }
        }

        #[test]
        fn an_answer_with_a_bit_turned_over_is_malformed_or_bears_the_number_that_it_then_says(
            number: u32, from in anywhere(), bit: prop::sample::Index,
        ) {
            let turned = |mut bytes: Vec<u8>| {
                let bit = bit.index(bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
                (bit / 8, bytes)
            };
            let (at, pong) = turned(answer(&ping_request(number), from).unwrap().to_vec());
            match parse_ping(&pong) {
                Ok(read) => prop_assert!(at >= 4 && read != number),
                Err(_) => prop_assert!(at < 4),
            }
            let (at, told) = turned(answer(&discovery_request(Ssrc(number)), from).unwrap().to_vec());
            if let Ok(discovery) = parse_discovery(&told) {
                prop_assert!(at >= 4, "type and length are whole");
                prop_assert_eq!(discovery.ssrc == Ssrc(number), at >= 8);
            }
        }

        #[test]
        fn what_is_cut_or_grown_is_no_answer(number: u32, from in anywhere(), length in 0..200_usize) {
            let resized = |said: &[u8]| {
                let mut said = said.to_vec();
                said.resize(length, 0);
                said
            };
            let ping = resized(&answer(&ping_request(number), from).unwrap());
            prop_assert_eq!(parse_ping(&ping).is_ok(), length == PING_BYTES);
            let discovery = resized(&answer(&discovery_request(Ssrc(number)), from).unwrap());
            prop_assert_eq!(parse_discovery(&discovery).is_ok(), length == DISCOVERY_BYTES);
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let from = "192.0.2.7:50000".parse().unwrap();
        let said = answer(&discovery_request(Ssrc(0x0102_0304)), from).unwrap();
        let mut expected = [0; DISCOVERY_BYTES];
        expected[..17].copy_from_slice(b"\x00\x02\x00\x46\x01\x02\x03\x04192.0.2.7");
        expected[72..].copy_from_slice(&[0xc3, 0x50]);
        assert_eq!(*said, expected);
        assert_eq!(ping_request(7), *b"\x13\x37\xca\xfe\x00\x00\x00\x07");
        assert_eq!(*answer(&ping_request(7), from).unwrap(), *b"\x13\x37\xf0\x0d\x00\x00\x00\x07");
    }

    #[test]
    fn a_malformed_packet_says_what_is_wrong_with_it() {
        let good = answer(&discovery_request(Ssrc(1)), "[2001:db8::1]:9".parse().unwrap()).unwrap().to_vec();
        let spoilt = |at: usize, with: &[u8]| {
            let mut packet = good.clone();
            packet[at..at + with.len()].copy_from_slice(with);
            parse_discovery(&packet)
        };
        assert_eq!(parse_discovery(&good[..70]), Err(Malformed::Size { found: 70, expected: 74 }));
        assert_eq!(parse_discovery(&[]), Err(Malformed::Size { found: 0, expected: 74 }));
        assert_eq!(spoilt(1, &[1]), Err(Malformed::Type { found: 1 }));
        assert_eq!(spoilt(3, &[74]), Err(Malformed::Length { found: 74 }));
        assert_eq!(spoilt(8, b"x"), Err(Malformed::Address));
        assert_eq!(spoilt(8, &[b':'; 64]), Err(Malformed::Address));
        assert_eq!(parse_ping(&[0; 9]), Err(Malformed::Size { found: 9, expected: 8 }));
        assert_eq!(parse_ping(&ping_request(1)), Err(Malformed::Magic { found: 0x1337_CAFE }));
    }
}
