//! What a router reads of an IPv4 packet (RFC 791): from where, to where, and which flow it belongs to. Ports stand at the same
//! place in TCP and UDP; what has none, a ping say, is one flow with all of its kind between the same two addresses.

use std::net::Ipv4Addr;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The five numbers by which a balancing router tells flows apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    pub from: Ipv4Addr,
    pub to: Ipv4Addr,
    protocol: u8,
    ports: [u8; 4],
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const SHORTEST_HEADER: usize = 20;

impl Flow {
    /// None: not an IPv4 packet, or not whole.
    pub fn of(packet: &[u8]) -> Option<Self> {
        let (header, _) = packet.split_first_chunk::<SHORTEST_HEADER>()?;
        let (version, length) = (header[0] >> 4, usize::from(header[0] & 0xf) * 4);
        if version != 4 || length < SHORTEST_HEADER {
            return None;
        }
        let address = |at: usize| Some(Ipv4Addr::from(*header[at..].first_chunk::<4>()?));
        let ports = match header[9] {
            TCP | UDP => *packet.get(length..)?.first_chunk()?,
            _ => [0; 4],
        };
        Some(Self { from: address(12)?, to: address(16)?, protocol: header[9], ports })
    }

    /// Whether it is among that share of all flows. Which they are depends on the salt.
    pub fn is_among(&self, share: f64, salt: u64) -> bool {
        let mut words = [0; 13];
        words[..4].copy_from_slice(&self.from.octets());
        words[4..8].copy_from_slice(&self.to.octets());
        words[8..12].copy_from_slice(&self.ports);
        words[12] = self.protocol;
        // The 53 bits that a float holds exactly.
        ((xxh3_64_with_seed(&words, salt) >> 11) as f64) < share * (1_u64 << 53) as f64
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A packet with nothing in it but what a router reads.
    pub(crate) fn packet(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, ports: (u16, u16)) -> Vec<u8> {
        let mut packet = vec![0; 28];
        packet[0] = 0x45;
        packet[9] = protocol;
        packet[12..16].copy_from_slice(&from.octets());
        packet[16..20].copy_from_slice(&to.octets());
        packet[20..22].copy_from_slice(&ports.0.to_be_bytes());
        packet[22..24].copy_from_slice(&ports.1.to_be_bytes());
        packet
    }

    const FROM: Ipv4Addr = Ipv4Addr::new(198, 18, 2, 1);
    const TO: Ipv4Addr = Ipv4Addr::new(198, 19, 1, 4);

    fn flow(protocol: u8, port: u16) -> Flow {
        Flow::of(&packet(FROM, TO, protocol, (port, 443))).unwrap()
    }

    #[test]
    fn ports_tell_flows_of_tcp_and_udp_apart_and_nothing_tells_pings_apart() {
        let one = flow(UDP, 50_000);
        assert_eq!((one.from, one.to), (FROM, TO));
        assert_eq!(one, flow(UDP, 50_000));
        assert_ne!(one, flow(UDP, 50_001));
        assert_ne!(one, flow(TCP, 50_000));
        assert_eq!(flow(1, 1), flow(1, 2));
    }

    #[test]
    fn ports_are_found_behind_options() {
        let mut long = packet(FROM, TO, UDP, (0, 0));
        long[0] = 0x46;
        long[24..28].copy_from_slice(&[0xc3, 0x50, 0x01, 0xbb]);
        assert_eq!(Flow::of(&long), Some(flow(UDP, 50_000)));
    }

    #[test]
    fn what_is_not_whole_or_not_ipv4_is_no_flow() {
        let whole = packet(FROM, TO, UDP, (1, 2));
        for length in [0, 19, 20, 23] {
            assert_eq!(Flow::of(&whole[..length]), None, "{length} bytes");
        }
        let first_byte = |byte| [&[byte], &whole[1..]].concat();
        assert_eq!(Flow::of(&first_byte(0x60)), None, "IPv6");
        assert_eq!(Flow::of(&first_byte(0x44)), None, "a header too short");
    }

    #[test]
    fn the_share_of_flows_is_as_asked_and_another_salt_takes_others() {
        let among = |share, salt| (0..20_000).map(move |port| flow(UDP, port).is_among(share, salt));
        for share in [0.0, 1.0 / 16.0, 0.5, 1.0] {
            let found = among(share, 1).filter(|among| *among).count() as f64 / 20_000.0;
            assert!((found - share).abs() < 0.01, "{found} of {share}");
        }
        let both = among(0.5, 1).zip(among(0.5, 2)).filter(|(one, other)| *one && *other).count();
        assert!((4500..5500).contains(&both), "{both}");
        assert!(among(0.0, 1).all(|among| !among) && among(1.0, 1).all(|among| among));
    }
}
