//! ICMP echo (RFC 792, RFC 4443), and the errors that routers send about one.
//!
//! A message, big-endian: type u8, code u8, checksum u16; an echo goes on with identifier u16, sequence u16 and what the sender
//! likes, an error with four bytes and as much of the packet that it is about as fits, IP header first. A socket of the kernel's
//! own ping kind puts an identifier of its own into what it sends, so ours is in the payload: a cookie u64 of the sender, and
//! the number of the probe u32.

use std::net::IpAddr;

/// As much as other pingers send.
pub const ECHO_BYTES: usize = HEADER_BYTES + 56;
const HEADER_BYTES: usize = 8;

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

/// What was said about an echo of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    Reply(Mark),
    /// A router's, or the target's, error: there is no way for that echo to that address.
    Unreachable(Mark, IpAddr),
}

/// Why a message says nothing about an echo of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Strange {
    #[error("{found} bytes, cut short")]
    Short { found: usize },
    #[error("the checksum does not fit")]
    Checksum,
    /// Requests, of ours too where they come to the loopback; other errors; other protocols.
    #[error("type {found} is neither a reply nor an error about an echo")]
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

    fn unreachable(self) -> u8 {
        match self {
            Self::V4 => 3,
            Self::V6 => 1,
        }
    }

    /// In an IP header.
    fn protocol(self) -> u8 {
        match self {
            Self::V4 => 1,
            Self::V6 => 58,
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

/// Reads a message as an ICMP socket gives it: without an IP header.
pub fn parse(version: Version, message: &[u8]) -> Result<Said, Strange> {
    let short = Strange::Short { found: message.len() };
    let (&[kind, ..], rest) = message.split_first_chunk::<HEADER_BYTES>().ok_or(short)?;
    // The kernel has checked IPv6's, which covers the addresses, and not that of a raw IPv4 socket.
    if version == Version::V4 && checksum(message) != 0 {
        return Err(Strange::Checksum);
    }
    if kind == version.reply() {
        return Ok(Said::Reply(mark(rest).ok_or(short)?));
    }
    if kind != version.unreachable() {
        return Err(Strange::Type { found: kind });
    }
    let (to, about) = open_ip(version, rest)?;
    let (&[kind, ..], rest) = about.split_first_chunk::<HEADER_BYTES>().ok_or(short)?;
    if kind != version.request() {
        return Err(Strange::Type { found: kind });
    }
    Ok(Said::Unreachable(mark(rest).ok_or(short)?, to))
}

/// What a raw IPv4 socket gives has its IP header before it.
pub fn after_ip_header(packet: &[u8]) -> Result<&[u8], Strange> {
    Ok(open_ip(Version::V4, packet)?.1)
}

fn mark(payload: &[u8]) -> Option<Mark> {
    let (cookie, rest) = payload.split_first_chunk()?;
    let number = rest.first_chunk()?;
    Some(Mark { cookie: u64::from_be_bytes(*cookie), number: u32::from_be_bytes(*number) })
}

/// Where an IP packet of ICMP went, and what follows its header.
fn open_ip(version: Version, packet: &[u8]) -> Result<(IpAddr, &[u8]), Strange> {
    let short = Strange::Short { found: packet.len() };
    let (to, protocol, header) = match version {
        Version::V4 => {
            let header = packet.first_chunk::<20>().ok_or(short)?;
            let [.., a, b, c, d] = *header;
            (IpAddr::from([a, b, c, d]), header[9], usize::from(header[0] & 0xf) * 4)
        }
        Version::V6 => {
            let (header, _) = packet.split_first_chunk::<40>().ok_or(short)?;
            let to: [u8; 16] = *header.last_chunk().expect("a header has 40 bytes");
            (IpAddr::from(to), header[6], header.len())
        }
    };
    if protocol != version.protocol() {
        return Err(Strange::Type { found: protocol });
    }
    Ok((to, packet.get(header.max(20)..).ok_or(short)?))
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

    fn ip(version: Version, to: IpAddr, payload: &[u8]) -> Vec<u8> {
        let mut packet = match to {
            IpAddr::V4(to) => [&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1][..], &to.octets()].concat(),
            IpAddr::V6(to) => [&[0x60, 0, 0, 0, 0, 0, 58, 64][..], &[0; 16], &to.octets()].concat(),
        };
        assert_eq!(packet.len(), if version == Version::V4 { 20 } else { 40 });
        packet.extend(payload);
        packet
    }

    fn unreachable(version: Version, to: IpAddr, mark: Mark) -> Vec<u8> {
        let mut message = vec![version.unreachable(), 1, 0, 0, 0, 0, 0, 0];
        message.extend(ip(version, to, &request(version, 7, mark)));
        seal(message)
    }

    proptest! {
        #[test]
        fn replies_and_errors_give_the_mark_back(cookie: u64, number: u32, to: IpAddr) {
            let (version, mark) = (Version::of(to), Mark { cookie, number });
            prop_assert_eq!(parse(version, &replied(version, mark)), Ok(Said::Reply(mark)));
            prop_assert_eq!(parse(version, &unreachable(version, to, mark)), Ok(Said::Unreachable(mark, to)));
        }

        #[test]
        fn no_message_breaks_the_decoder(
            to: IpAddr,
            cut in any::<prop::sample::Index>(),
            at in any::<prop::sample::Index>(),
            with: u8,
            noise in prop::collection::vec(any::<u8>(), 0..120),
        ) {
            let version = Version::of(to);
            for message in [replied(version, MARK), unreachable(version, to, MARK)] {
                let mut spoilt = message.clone();
                spoilt[at.index(message.len())] = with;
                if spoilt != message && version == Version::V4 {
                    prop_assert_eq!(parse(version, &spoilt), Err(Strange::Checksum));
                }
                prop_assert_ne!(parse(version, &seal(spoilt)), Err(Strange::Checksum));
                let cut = seal(message[..cut.index(message.len()).max(4)].to_vec());
                if let Ok(said) = parse(version, &cut) {
                    prop_assert_eq!(parse(version, &message), Ok(said), "a part never says another thing");
                }
            }
            prop_assert!(parse(version, &noise).is_err() || noise.len() >= 20);
            prop_assert!(after_ip_header(&noise).is_err() || noise.len() >= 20);
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
        assert_eq!(
            parse(v4, &request(v4, 7, MARK)),
            Err(Strange::Type { found: 8 }),
            "on a loopback one hears oneself"
        );
        assert_eq!(parse(v4, &[0; 7]), Err(Strange::Short { found: 7 }));
        let mut spoilt = replied(v4, MARK);
        spoilt[9] ^= 1;
        assert_eq!(parse(v4, &spoilt), Err(Strange::Checksum));
        let time_exceeded = seal(vec![11, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(parse(v4, &time_exceeded), Err(Strange::Type { found: 11 }));
        let mut about_udp = unreachable(v4, "192.0.2.1".parse().unwrap(), MARK);
        about_udp[8 + 9] = 17;
        assert_eq!(parse(v4, &seal(about_udp)), Err(Strange::Type { found: 17 }));
        let raw = ip(v4, "192.0.2.1".parse().unwrap(), &replied(v4, MARK));
        assert_eq!(after_ip_header(&raw), Ok(&replied(v4, MARK)[..]));
        assert_eq!(after_ip_header(&raw[..19]), Err(Strange::Short { found: 19 }));
    }
}
