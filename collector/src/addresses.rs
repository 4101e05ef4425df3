//! Which addresses stand on the public internet. Alerts go to a URL that someone wrote into a file, and its name may resolve to
//! anything: unless its receiver says otherwise, no packet of a delivery goes to a network of ours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// By IANA's registries of special-purpose addresses.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let special = address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast();
    let [a, b, c, _] = address.octets();
    // This network; carriers' shared space; protocol assignments; benchmarks; reserved.
    let other =
        a == 0 || (a, b & 0xc0) == (100, 64) || (a, b, c) == (192, 0, 0) || (a, b & 0xfe) == (198, 18) || a >= 240;
    !special && !other
}

/// Global unicast, but for what is carved out of it: protocol assignments (Teredo among them), 6to4, which hides an IPv4 address,
/// and documentation.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let unicast = a & 0xe000 == 0x2000;
    let carved = (a == 0x2001 && (b < 0x200 || b == 0xdb8)) || a == 0x2002 || (a == 0x3fff && b < 0x1000);
    unicast && !carved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_public_internet_are_public() {
        let public = ["1.1.1.1", "100.63.0.1", "100.128.0.1", "198.20.0.1", "2606:4700::1111", "2001:4860:4860::8888"];
        let private = [
            "0.0.0.0",
            "127.0.0.1",
            "127.255.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "198.19.0.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::a00:1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "2002:a00:1::1",
            "3fff::1",
            "100::1",
        ];
        let public_of = |text: &str| is_public(text.parse().unwrap());
        assert_eq!(public.into_iter().filter(|text| !public_of(text)).collect::<Vec<_>>(), [""; 0]);
        assert_eq!(private.into_iter().filter(|text| public_of(text)).collect::<Vec<_>>(), [""; 0]);
    }
}
