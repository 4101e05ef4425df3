//! STAMP, unauthenticated (RFC 8762): a test packet and its reflection, 44 bytes each, so that nothing is amplified.
//!
//! Sender, big-endian: sequence u32, timestamp u64, error estimate u16, session id u16, 28 zeros. Reflector: its sequence u32,
//! its send time u64, error estimate u16, session id u16, its receive time u64, then the sender's sequence, timestamp and error
//! estimate as they came, two zeros, the TTL with which the packet came, three zeros. Timestamps are NTP's: seconds since 1900
//! in the upper half, their fraction in the lower.

use std::time::Duration;

pub const PACKET_BYTES: usize = 44;

/// An NTP timestamp of 64 bits (RFC 5905); it wraps in 2036, and differences do not mind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ntp(pub u64);

/// What a sender asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Test {
    pub sequence: u32,
    pub sent: Ntp,
    pub session: u16,
}

/// What a reflector says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reflection {
    /// The question as it came back.
    pub test: Test,
    /// What the reflector counted; a stateless one repeats the sender's sequence.
    pub sequence: u32,
    /// How long the question lay at the reflector: not part of the way, so not of the round trip.
    pub dwell: Duration,
}

/// Why a packet is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("{found} bytes, not 44; a test may have more")]
    Size { found: usize },
    #[error("sent before it was received")]
    Backwards,
    #[error("it does not end in zeros, so it is no sender's")]
    NotATest,
}

/// Offset between the epochs of NTP (1900) and Unix (1970), in seconds.
const NTP_TO_UNIX: u64 = 2_208_988_800;
/// Not synchronised, scale 0, multiplier 1: we claim nothing about our clock.
const ERROR_ESTIMATE: u16 = 1;

impl Ntp {
    pub fn from_unix_nanos(nanos: u64) -> Self {
        let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        Self(((seconds + NTP_TO_UNIX) << 32) | ((rest << 32) / 1_000_000_000))
    }

    /// The time from `earlier` to here, if it is not later.
    fn since(self, earlier: Self) -> Option<Duration> {
        let difference = u64::try_from(self.0.wrapping_sub(earlier.0).cast_signed()).ok()?;
        let fraction = ((difference & u64::from(u32::MAX)) * 1_000_000_000) >> 32;
        Some(Duration::new(difference >> 32, fraction as u32))
    }
}

pub fn request(test: Test) -> [u8; PACKET_BYTES] {
    let mut bytes = [0; PACKET_BYTES];
    bytes[..4].copy_from_slice(&test.sequence.to_be_bytes());
    bytes[4..12].copy_from_slice(&test.sent.0.to_be_bytes());
    bytes[12..14].copy_from_slice(&ERROR_ESTIMATE.to_be_bytes());
    bytes[14..16].copy_from_slice(&test.session.to_be_bytes());
    bytes
}

/// Reads a sender's packet; what follows the test, of extensions, is not looked at.
pub fn parse_test(packet: &[u8]) -> Result<Test, Malformed> {
    let packet: &[u8; PACKET_BYTES] = packet.first_chunk().ok_or(Malformed::Size { found: packet.len() })?;
    // It ends in zeros. A reflection does not, so two reflectors never talk to each other.
    if packet[16..].iter().any(|&byte| byte != 0) {
        return Err(Malformed::NotATest);
    }
    Ok(Test { sequence: word(packet, 0), sent: Ntp(long(packet, 4)), session: short(packet, 14) })
}

/// Reads what came back for a [`request`]: it is as long as that, since both sides send alike (RFC 8762, 4.2.1 and 4.3.1).
pub fn parse_reflection(packet: &[u8]) -> Result<Reflection, Malformed> {
    let packet: &[u8; PACKET_BYTES] = packet.try_into().map_err(|_| Malformed::Size { found: packet.len() })?;
    let (sent, received) = (Ntp(long(packet, 4)), Ntp(long(packet, 16)));
    let dwell = sent.since(received).ok_or(Malformed::Backwards)?;
    let test = Test { sequence: word(packet, 24), sent: Ntp(long(packet, 28)), session: short(packet, 14) };
    Ok(Reflection { test, sequence: word(packet, 0), dwell })
}

/// What a stateless reflector says to a packet that came at `received` with that TTL, sent at `sent`; or nothing. Longer
/// questions, of senders with extensions, are answered without them.
pub fn answer(packet: &[u8], ttl: u8, received: Ntp, sent: Ntp) -> Option<[u8; PACKET_BYTES]> {
    parse_test(packet).ok()?;
    let question: &[u8; PACKET_BYTES] = packet.first_chunk()?;
    let mut bytes = [0; PACKET_BYTES];
    bytes[..4].copy_from_slice(&question[..4]);
    bytes[4..12].copy_from_slice(&sent.0.to_be_bytes());
    bytes[12..14].copy_from_slice(&ERROR_ESTIMATE.to_be_bytes());
    bytes[14..16].copy_from_slice(&question[14..16]);
    bytes[16..24].copy_from_slice(&received.0.to_be_bytes());
    bytes[24..38].copy_from_slice(&question[..14]);
    bytes[40] = ttl;
    Some(bytes)
}

fn short(packet: &[u8; PACKET_BYTES], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

fn word(packet: &[u8; PACKET_BYTES], at: usize) -> u32 {
    (u32::from(short(packet, at)) << 16) | u32::from(short(packet, at + 2))
}

fn long(packet: &[u8; PACKET_BYTES], at: usize) -> u64 {
    (u64::from(word(packet, at)) << 32) | u64::from(word(packet, at + 4))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RECEIVED: Ntp = Ntp(0xec10_0000_0000_0000);

    fn after(moment: Ntp, later: Duration) -> Ntp {
        let nanos = ((moment.0 & 0xffff_ffff) * 1_000_000_000) >> 32;
        let unix = ((moment.0 >> 32) - NTP_TO_UNIX) * 1_000_000_000 + nanos;
        Ntp::from_unix_nanos(unix + later.as_nanos() as u64)
    }

    proptest! {
        #[test]
        fn a_reflection_gives_the_test_back_and_the_time_it_lay(
            sequence: u32, session: u16, sent: u64, ttl: u8, dwell in 0_u64..10_000_000_000,
        ) {
            let test = Test { sequence, sent: Ntp(sent), session };
            let dwell = Duration::from_nanos(dwell);
            prop_assert_eq!(parse_test(&request(test)), Ok(test));
            let said = answer(&request(test), ttl, RECEIVED, after(RECEIVED, dwell)).unwrap();
            let reflection = parse_reflection(&said).unwrap();
            prop_assert_eq!((reflection.test, reflection.sequence), (test, sequence));
            prop_assert!(reflection.dwell.abs_diff(dwell) <= Duration::from_nanos(2), "{:?}", reflection.dwell);
        }

        #[test]
        fn no_packet_breaks_a_decoder_or_is_amplified(packet in prop::collection::vec(any::<u8>(), 0..90), zeros: bool) {
            let mut packet = packet;
            if zeros {
                packet.iter_mut().skip(16).for_each(|byte| *byte = 0);
            }
            prop_assert!(parse_reflection(&packet).is_err() || packet.len() == PACKET_BYTES);
            prop_assert!(parse_test(&packet).is_err() || packet.len() >= PACKET_BYTES);
            if let Some(said) = answer(&packet, 64, RECEIVED, RECEIVED) {
                prop_assert!(said.len() <= packet.len());
                prop_assert_eq!(answer(&said, 64, RECEIVED, RECEIVED), None, "two reflectors would talk for ever");
            }
        }

        #[test]
        fn what_is_cut_or_grown_is_no_reflection(sequence: u32, session: u16, length in 0..200_usize) {
            let test = Test { sequence, sent: RECEIVED, session };
            let mut said = answer(&request(test), 64, RECEIVED, RECEIVED).unwrap().to_vec();
            said.resize(length, 0);
            prop_assert_eq!(parse_reflection(&said).is_ok(), length == PACKET_BYTES);
        }

        #[test]
        fn a_reflection_with_a_bit_turned_over_keeps_its_test_only_where_the_bit_is_not_of_it(
            sequence: u32, session: u16, sent: u64, bit in 0..PACKET_BYTES * 8,
        ) {
            let test = Test { sequence, sent: Ntp(sent), session };
            let mut said = answer(&request(test), 64, RECEIVED, RECEIVED).unwrap();
            said[bit / 8] ^= 1 << (bit % 8);
            if let Ok(reflection) = parse_reflection(&said) {
                let of_the_test = matches!(bit / 8, 14..16 | 24..36);
                prop_assert_eq!(reflection.test == test, !of_the_test);
            }
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let test = Test { sequence: 7, sent: Ntp(0x0102_0304_0506_0708), session: 9 };
        let question = request(test);
        assert_eq!(question[..16], *b"\0\0\0\x07\x01\x02\x03\x04\x05\x06\x07\x08\0\x01\0\x09");
        assert_eq!(question[16..], [0; 28]);
        let said = answer(&question, 63, Ntp(0x1111_1111_1111_1111), Ntp(0x2222_2222_2222_2222)).unwrap();
        assert_eq!(said[..16], *b"\0\0\0\x07\x22\x22\x22\x22\x22\x22\x22\x22\0\x01\0\x09");
        assert_eq!(said[16..28], *b"\x11\x11\x11\x11\x11\x11\x11\x11\0\0\0\x07");
        assert_eq!(said[28..], *b"\x01\x02\x03\x04\x05\x06\x07\x08\0\x01\0\0\x3f\0\0\0");
    }

    #[test]
    fn the_epoch_is_that_of_ntp() {
        assert_eq!(Ntp::from_unix_nanos(0), Ntp(0x83aa_7e80_0000_0000));
        assert_eq!(Ntp::from_unix_nanos(500_000_000), Ntp(0x83aa_7e80_8000_0000));
    }

    #[test]
    fn a_malformed_packet_says_what_is_wrong_with_it() {
        let test = Test { sequence: 1, sent: RECEIVED, session: 0 };
        let said = answer(&request(test), 64, RECEIVED, after(RECEIVED, Duration::from_millis(1))).unwrap();
        assert_eq!(parse_reflection(&said[..43]), Err(Malformed::Size { found: 43 }));
        let mut backwards = said;
        backwards[4] -= 1;
        assert_eq!(parse_reflection(&backwards), Err(Malformed::Backwards));
    }
}
