//! ICMP echo (RFC 792, RFC 4443).
//!
//! A message, big-endian: type u8, code u8, checksum u16, identifier u16, sequence u16, and what the sender likes. A socket of
//! the kernel's own ping kind puts an identifier of its own into what it sends, so ours is in the payload: a cookie u64 of the
//! sender, and the number of the probe u32.

use std::net::IpAddr;

/// As much as other pingers send.
pub const ECHO_BYTES: usize = HEADER_BYTES + 56;
const HEADER_BYTES: usize = 8;
/// In an IPv4 header.
const ICMP: u8 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    V4,
    V6,
}

/// What our payload says: whose echo it is, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub cookie: u64,
    pub number: u32,
}

/// Why a message is not the answer to an echo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Strange {
    #[error("{found} bytes, cut short")]
    Short { found: usize },
    /// An echo comes back as long as it went.
    #[error("{found} bytes, not {ECHO_BYTES}")]
    Size { found: usize },
    #[error("the checksum does not fit")]
    Checksum,
    /// A request, of ours too where it comes to the loopback; an error; or another protocol than ICMP.
    #[error("type {found}")]
    Type { found: u8 },
}

impl Version {
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn request(self) -> u8 {
        match self {
            Self::V4 => 8,
            Self::V6 => 128,
        }
    }

    fn reply(self) -> u8 {
        match self {
            Self::V4 => 0,
            Self::V6 => 129,
        }
    }
}

/// An echo. The kernel fills in the checksum of IPv6, which covers the addresses.
pub fn request(version: Version, identifier: u16, mark: Mark) -> [u8; ECHO_BYTES] {
    let mut bytes = [0; ECHO_BYTES];
    bytes[0] = version.request();
    bytes[4..6].copy_from_slice(&identifier.to_be_bytes());
    bytes[6..8].copy_from_slice(&(mark.number as u16).to_be_bytes());
    bytes[8..16].copy_from_slice(&mark.cookie.to_be_bytes());
    bytes[16..20].copy_from_slice(&mark.number.to_be_bytes());
    if version == Version::V4 {
        let sum = checksum(&bytes);
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

/// Reads an answer as an ICMP socket gives it: without an IP header.
pub fn parse_reply(version: Version, message: &[u8]) -> Result<Mark, Strange> {
    // The kernel has checked IPv6's, which covers the addresses, and not that of a raw IPv4 socket.
    if version == Version::V4 && checksum(message) != 0 {
        return Err(Strange::Checksum);
    }
    let mark = parse_claimed(version, message)?;
    if message.len() == ECHO_BYTES { Ok(mark) } else { Err(Strange::Size { found: message.len() }) }
}

/// Whose answer a message says that it is, even where it is a spoilt one.
pub fn parse_claimed(version: Version, message: &[u8]) -> Result<Mark, Strange> {
    mark(message, version.reply())
}

/// Reads an echo as an error about it quotes it: what is under way may have changed its checksum, and may end it early.
pub fn parse_quoted(version: Version, message: &[u8]) -> Result<Mark, Strange> {
    mark(message, version.request())
}

/// What a raw IPv4 socket gives has its IP header before it.
pub fn after_ip_header(packet: &[u8]) -> Result<&[u8], Strange> {
    let short = Strange::Short { found: packet.len() };
    let header = packet.first_chunk::<20>().ok_or(short)?;
    if header[9] != ICMP {
        return Err(Strange::Type { found: header[9] });
    }
    packet.get(20.max(usize::from(header[0] & 0xf) * 4)..).ok_or(short)
}

fn mark(message: &[u8], expected: u8) -> Result<Mark, Strange> {
    let short = Strange::Short { found: message.len() };
    let (&[found, ..], payload) = message.split_first_chunk::<HEADER_BYTES>().ok_or(short)?;
    if found != expected {
        return Err(Strange::Type { found });
    }
    let (cookie, rest) = payload.split_first_chunk().ok_or(short)?;
    let number = rest.first_chunk().ok_or(short)?;
    Ok(Mark { cookie: u64::from_be_bytes(*cookie), number: u32::from_be_bytes(*number) })
}

/// The Internet checksum (RFC 1071); zero over a message that carries the right one.
fn checksum(message: &[u8]) -> u16 {
    let words =
        message.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MARK: Mark = Mark { cookie: 0x0102_0304_0506_0708, number: 0x0a0b_0c0d };

    fn replied(version: Version, mark: Mark) -> Vec<u8> {
        let mut bytes = request(version, 7, mark).to_vec();
        bytes[0] = version.reply();
        seal(bytes)
    }

    fn seal(mut message: Vec<u8>) -> Vec<u8> {
        message[2..4].fill(0);
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        message
    }

    proptest! {
        #[test]
        fn a_reply_gives_the_mark_back_and_so_does_the_quoted_request(cookie: u64, number: u32, identifier: u16) {
            let mark = Mark { cookie, number };
            for version in [Version::V4, Version::V6] {
                prop_assert_eq!(parse_reply(version, &replied(version, mark)), Ok(mark));
                prop_assert_eq!(parse_quoted(version, &request(version, identifier, mark)[..20]), Ok(mark));
            }
        }

        #[test]
        fn no_message_breaks_the_decoder(noise in prop::collection::vec(any::<u8>(), 0..120)) {
            for version in [Version::V4, Version::V6] {
                prop_assert!(parse_reply(version, &noise).is_err() || noise.len() == ECHO_BYTES);
                prop_assert!(parse_claimed(version, &noise).is_err() || noise.len() >= 20);
                prop_assert!(parse_quoted(version, &noise).is_err() || noise.len() >= 20);
            }
            prop_assert!(after_ip_header(&noise).is_err() || noise.len() >= 20);
        }

        #[test]
        fn a_reply_with_a_bit_turned_over_is_none_or_not_ours(bit in 0..ECHO_BYTES * 8) {
            for version in [Version::V4, Version::V6] {
                let mut spoilt = replied(version, MARK);
                spoilt[bit / 8] ^= 1 << (bit % 8);
                let read = parse_reply(version, &spoilt);
                match version {
                    Version::V4 => prop_assert_eq!(read, Err(Strange::Checksum)),
                    // The kernel has looked at the checksum; here it is the mark alone.
                    Version::V6 => prop_assert_eq!(read == Ok(MARK), !matches!(bit / 8, 0 | 8..20)),
                }
            }
        }

        #[test]
        fn what_is_cut_or_grown_is_no_reply_even_under_a_good_checksum(length in 0..1500_usize) {
            for version in [Version::V4, Version::V6] {
                let mut other = replied(version, MARK);
                other.resize(length, 0);
                let other = if length >= HEADER_BYTES { seal(other) } else { other };
                prop_assert_eq!(parse_reply(version, &other).is_ok(), length == ECHO_BYTES);
                prop_assert_eq!(parse_claimed(version, &other) == Ok(MARK), length >= 20, "still told as a spoilt one of ours");
            }
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let bytes = request(Version::V4, 7, MARK);
        assert_eq!(bytes[..2], [8, 0]);
        assert_eq!(bytes[4..20], [0, 7, 0x0c, 0x0d, 1, 2, 3, 4, 5, 6, 7, 8, 0x0a, 0x0b, 0x0c, 0x0d]);
        assert_eq!(checksum(&bytes), 0);
        assert_eq!(request(Version::V6, 7, MARK)[..4], [128, 0, 0, 0]);
        // RFC 1071, section 3: the sum of these is ddf2.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn a_strange_message_says_what_is_strange_about_it() {
        let v4 = Version::V4;
        assert_eq!(parse_reply(v4, &request(v4, 7, MARK)), Err(Strange::Type { found: 8 }), "one hears oneself");
        assert_eq!(parse_reply(Version::V6, &[129; 7]), Err(Strange::Short { found: 7 }));
        assert_eq!(parse_quoted(v4, &request(v4, 7, MARK)[..19]), Err(Strange::Short { found: 19 }));
        let mut spoilt = replied(v4, MARK);
        spoilt[9] ^= 1;
        assert_eq!(parse_reply(v4, &spoilt), Err(Strange::Checksum));
    }

    #[test]
    fn an_ip_header_is_as_long_as_it_says_and_leads_to_icmp() {
        let with_options =
            [&[0x46, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1, 1, 1, 1, 1][..], b"echo"];
        let mut packet = with_options.concat();
        assert_eq!(after_ip_header(&packet), Ok(&b"echo"[..]));
        assert_eq!(after_ip_header(&packet[..23]), Err(Strange::Short { found: 23 }));
        packet[9] = 17;
        assert_eq!(after_ip_header(&packet), Err(Strange::Type { found: 17 }));
    }
}
