//! STUN binding (RFC 8489), as a probe needs it: a request, and the address that a success tells.
//!
//! A message, big-endian: type u16, length u16 of what follows the header, magic cookie `0x2112A442`, transaction id of 12
//! bytes; then attributes, each type u16, length u16, value, padded to four bytes. No request is ever repeated under its id, so
//! that no round trip is taken from the wrong transmission. Our requests name their software, which makes them as long as the
//! longest success: a reflector that never says more than it was asked can answer them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub const REQUEST_BYTES: usize = HEADER_BYTES + 4 + SOFTWARE_NAME.len();
const HEADER_BYTES: usize = 20;

/// Names one request; its answer carries the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransactionId(pub [u8; 12]);

/// What a server says to a binding request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    pub transaction: TransactionId,
    /// Where the server saw the request come from.
    pub seen: SocketAddr,
}

/// Why a packet is not the answer to a binding request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("{found} bytes; a message has at least 20")]
    Size { found: usize },
    #[error("type {found:#06x}")]
    Type { found: u16 },
    #[error("magic cookie {found:#010x}")]
    Cookie { found: u32 },
    #[error("states {stated} bytes of attributes and has {found}")]
    Length { stated: u16, found: usize },
    #[error("an attribute ends outside the message")]
    Attribute,
    #[error("no XOR-MAPPED-ADDRESS")]
    NoAddress,
    #[error("the address is of neither family")]
    Family,
}

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const COOKIE: u32 = 0x2112_A442;
/// The cookie's upper half.
const PORT_MASK: u16 = 0x2112;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const SOFTWARE: u16 = 0x8022;
const SOFTWARE_NAME: &[u8; 20] = b"isochrone STUN probe";
const IPV4: u8 = 1;
const IPV6: u8 = 2;

pub fn request(transaction: TransactionId) -> [u8; REQUEST_BYTES] {
    let mut bytes = [0; REQUEST_BYTES];
    bytes[..HEADER_BYTES].copy_from_slice(&header(BINDING_REQUEST, 4 + SOFTWARE_NAME.len() as u16, transaction));
    bytes[20..22].copy_from_slice(&SOFTWARE.to_be_bytes());
    bytes[22..24].copy_from_slice(&(SOFTWARE_NAME.len() as u16).to_be_bytes());
    bytes[24..].copy_from_slice(SOFTWARE_NAME);
    bytes
}

/// The transaction of a request.
pub fn parse_request(packet: &[u8]) -> Result<TransactionId, Malformed> {
    open(packet, BINDING_REQUEST).map(|(transaction, _)| transaction)
}

pub fn parse_success(packet: &[u8]) -> Result<Binding, Malformed> {
    let (transaction, mut attributes) = open(packet, BINDING_SUCCESS)?;
    while !attributes.is_empty() {
        let (kind, value) = take_attribute(&mut attributes)?;
        if kind == XOR_MAPPED_ADDRESS {
            return Ok(Binding { transaction, seen: unmask(value, transaction)? });
        }
    }
    Err(Malformed::NoAddress)
}

/// What a reflector says to a packet, or nothing. Never longer than the question, and never itself a question.
pub fn answer(packet: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
    let transaction = parse_request(packet).ok()?;
    let (family, masked) = match from.ip().to_canonical() {
        IpAddr::V4(ip) => (IPV4, (u32::from(ip) ^ COOKIE).to_be_bytes().to_vec()),
        IpAddr::V6(ip) => (IPV6, (u128::from(ip) ^ mask_v6(transaction)).to_be_bytes().to_vec()),
    };
    let length = 4 + masked.len() as u16;
    let mut said = header(BINDING_SUCCESS, 4 + length, transaction).to_vec();
    said.extend(XOR_MAPPED_ADDRESS.to_be_bytes());
    said.extend(length.to_be_bytes());
    said.extend([0, family]);
    said.extend((from.port() ^ PORT_MASK).to_be_bytes());
    said.extend(masked);
    (said.len() <= packet.len()).then_some(said)
}

fn header(kind: u16, length: u16, transaction: TransactionId) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..2].copy_from_slice(&kind.to_be_bytes());
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    bytes[4..8].copy_from_slice(&COOKIE.to_be_bytes());
    bytes[8..].copy_from_slice(&transaction.0);
    bytes
}

/// The transaction, and the attributes.
fn open(packet: &[u8], kind: u16) -> Result<(TransactionId, &[u8]), Malformed> {
    let size = Malformed::Size { found: packet.len() };
    let (header, attributes) = packet.split_first_chunk::<HEADER_BYTES>().ok_or(size)?;
    let &[k0, k1, l0, l1, c0, c1, c2, c3, ref transaction @ ..] = header;
    let (found, stated) = (u16::from_be_bytes([k0, k1]), u16::from_be_bytes([l0, l1]));
    if found != kind {
        return Err(Malformed::Type { found });
    }
    let cookie = u32::from_be_bytes([c0, c1, c2, c3]);
    if cookie != COOKIE {
        return Err(Malformed::Cookie { found: cookie });
    }
    if usize::from(stated) != attributes.len() || stated % 4 != 0 {
        return Err(Malformed::Length { stated, found: attributes.len() });
    }
    Ok((TransactionId(*transaction), attributes))
}

/// The first attribute's type and value.
fn take_attribute<'a>(attributes: &mut &'a [u8]) -> Result<(u16, &'a [u8]), Malformed> {
    let (&[k0, k1, l0, l1], rest) = attributes.split_first_chunk().ok_or(Malformed::Attribute)?;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let (value, rest) = rest.split_at_checked(length.next_multiple_of(4)).ok_or(Malformed::Attribute)?;
    *attributes = rest;
    Ok((u16::from_be_bytes([k0, k1]), &value[..length]))
}

/// XOR-MAPPED-ADDRESS: port and address are masked by the cookie and, IPv6, the transaction.
fn unmask(value: &[u8], transaction: TransactionId) -> Result<SocketAddr, Malformed> {
    let (&[_, family, p0, p1], address) = value.split_first_chunk().ok_or(Malformed::Attribute)?;
    let port = u16::from_be_bytes([p0, p1]) ^ PORT_MASK;
    let address = match family {
        IPV4 => {
            let masked = <[u8; 4]>::try_from(address).map_err(|_| Malformed::Attribute)?;
            IpAddr::V4(Ipv4Addr::from(u32::from_be_bytes(masked) ^ COOKIE))
        }
        IPV6 => {
            let masked = <[u8; 16]>::try_from(address).map_err(|_| Malformed::Attribute)?;
            IpAddr::V6(Ipv6Addr::from(u128::from_be_bytes(masked) ^ mask_v6(transaction)))
        }
        _ => return Err(Malformed::Family),
    };
    Ok(SocketAddr::new(address, port))
}

fn mask_v6(transaction: TransactionId) -> u128 {
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&COOKIE.to_be_bytes());
    mask[4..].copy_from_slice(&transaction.0);
    u128::from_be_bytes(mask)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A success as a server writes it, with an attribute that we do not know before the address.
    fn success(transaction: TransactionId, seen: SocketAddr) -> Vec<u8> {
        let ours = answer(&request(transaction), seen).unwrap();
        let software = b"\x80\x22\x00\x05turn!\0\0\0";
        let mut packet =
            header(BINDING_SUCCESS, (software.len() + ours.len() - HEADER_BYTES) as u16, transaction).to_vec();
        packet.extend(software);
        packet.extend(&ours[HEADER_BYTES..]);
        packet
    }

    proptest! {
        #[test]
        fn a_success_tells_where_the_request_came_from(id: [u8; 12], ip: IpAddr, port: u16) {
            let binding = Binding { transaction: TransactionId(id), seen: SocketAddr::new(ip.to_canonical(), port) };
            prop_assert_eq!(parse_success(&success(binding.transaction, binding.seen)), Ok(binding));
        }

        #[test]
        fn no_packet_breaks_the_decoder(
            id: [u8; 12],
            ip: IpAddr,
            cut in any::<prop::sample::Index>(),
            at in any::<prop::sample::Index>(),
            with: u8,
            noise in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut packet = success(TransactionId(id), SocketAddr::new(ip, 9));
            let at = at.index(packet.len());
            packet[at] = with;
            if let Ok(Binding { transaction, seen }) = parse_success(&packet) {
                let again = answer(&request(transaction), seen).unwrap();
                let seen = SocketAddr::new(seen.ip().to_canonical(), seen.port());
                prop_assert_eq!(parse_success(&again), Ok(Binding { transaction, seen }), "what parses is what we would say");
            }
            packet.truncate(cut.index(packet.len()));
            prop_assert!(parse_success(&packet).is_err(), "what is cut is not whole");
            prop_assert!(parse_success(&noise).is_err());
            prop_assert_eq!(answer(&noise, SocketAddr::new(ip, 9)), None);
        }

        #[test]
        fn a_success_with_a_bit_turned_over_is_malformed_or_still_of_its_transaction_alone(
            id: [u8; 12], ip: IpAddr, bit: prop::sample::Index,
        ) {
            let mut packet = success(TransactionId(id), SocketAddr::new(ip, 9));
            let bit = bit.index(packet.len() * 8);
            packet[bit / 8] ^= 1 << (bit % 8);
            let read = parse_success(&packet);
            if bit / 8 < 8 {
                prop_assert!(read.is_err(), "type, length, cookie: {:?}", read);
            }
            if let Ok(binding) = read {
                prop_assert_eq!(binding.transaction == TransactionId(id), !(8..20).contains(&(bit / 8)));
            }
        }

        #[test]
        fn what_is_longer_than_it_says_is_no_success(id: [u8; 12], ip: IpAddr, more in 1..2000_usize) {
            let mut packet = success(TransactionId(id), SocketAddr::new(ip, 9));
            packet.resize(packet.len() + more, 0);
            let is_wrong = matches!(parse_success(&packet), Err(Malformed::Length { .. }));
            prop_assert!(is_wrong);
        }

        #[test]
        fn attributes_of_any_kind_and_length_break_nothing(
            id: [u8; 12], attributes in prop::collection::vec((any::<u16>(), 0..40_u16, 0..40_usize), 0..6),
        ) {
            let mut body = Vec::new();
            for (kind, stated, length) in attributes {
                body.extend((if kind % 3 == 0 { XOR_MAPPED_ADDRESS } else { kind }).to_be_bytes());
                body.extend(stated.to_be_bytes());
                body.extend(vec![1; length]);
            }
            body.resize(body.len().next_multiple_of(4), 0);
            let packet = [&header(BINDING_SUCCESS, body.len() as u16, TransactionId(id))[..], &body].concat();
            if let Ok(binding) = parse_success(&packet) {
                prop_assert_eq!(binding.transaction, TransactionId(id));
            }
        }

        #[test]
        fn no_question_is_answered_with_more_than_it_has(
            from: SocketAddr, id: [u8; 12], body in prop::collection::vec(any::<u8>(), 0..60), whole: bool,
        ) {
            let stated = if whole { body.len() as u16 } else { 0 };
            let packet = [&header(BINDING_REQUEST, stated, TransactionId(id))[..], &body].concat();
            if let Some(said) = answer(&packet, from) {
                prop_assert!(said.len() <= packet.len());
                prop_assert_eq!(answer(&said, from), None, "two reflectors would talk for ever");
            }
        }
    }

    /// RFC 5769, section 2.2: the sample response over IPv4, its address attribute alone.
    #[test]
    fn the_bytes_are_those_of_the_format() {
        let id = TransactionId(*b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae");
        assert_eq!(request(id)[..8], *b"\x00\x01\x00\x18\x21\x12\xa4\x42");
        assert_eq!(request(id)[20..], *b"\x80\x22\x00\x14isochrone STUN probe");
        let mut packet = b"\x01\x01\x00\x0c\x21\x12\xa4\x42".to_vec();
        packet.extend(id.0);
        packet.extend(b"\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43");
        let seen = "192.0.2.1:32853".parse().unwrap();
        assert_eq!(parse_success(&packet), Ok(Binding { transaction: id, seen }));
    }

    #[test]
    fn a_reflector_says_no_more_than_it_was_asked_and_answers_no_answer() {
        let (id, from) = (TransactionId([7; 12]), "[2001:db8::1]:9".parse().unwrap());
        let said = answer(&request(id), from).unwrap();
        assert_eq!(said.len(), REQUEST_BYTES);
        assert_eq!(answer(&said, from), None, "two reflectors would talk for ever");
        assert_eq!(answer(&header(BINDING_REQUEST, 0, id), from), None, "44 bytes for 20");
    }

    #[test]
    fn a_malformed_packet_says_what_is_wrong_with_it() {
        let id = TransactionId([7; 12]);
        let good = success(id, "192.0.2.1:9".parse().unwrap());
        let spoilt = |at: usize, with: u8| {
            let mut packet = good.clone();
            packet[at] = with;
            parse_success(&packet)
        };
        assert_eq!(parse_success(&good[..19]), Err(Malformed::Size { found: 19 }));
        assert_eq!(parse_success(&request(id)), Err(Malformed::Type { found: 1 }));
        assert_eq!(spoilt(4, 0), Err(Malformed::Cookie { found: 0x0012_a442 }));
        assert_eq!(spoilt(3, 4), Err(Malformed::Length { stated: 4, found: 24 }));
        assert_eq!(spoilt(23, 0xff), Err(Malformed::Attribute));
        assert_eq!(spoilt(33, 0x21), Err(Malformed::NoAddress));
        assert_eq!(spoilt(37, 3), Err(Malformed::Family));
        assert_eq!(spoilt(37, IPV6), Err(Malformed::Attribute));
    }
}
