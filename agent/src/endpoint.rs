//! An address as a plan writes it: `host:port`, or `host` alone where no port is needed; an IPv6 address in brackets.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use telemetry::Family;

pub const ALLOWED: &str = "host:port, or host alone for icmp and dns; an IPv6 address stands in brackets";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub host: Host,
    pub port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    Address(IpAddr),
    /// To be resolved.
    Name(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{ALLOWED}")]
pub struct InvalidEndpoint;

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        if let Some(bracketed) = text.strip_prefix('[') {
            let (address, rest) = bracketed.split_once(']').ok_or(InvalidEndpoint)?;
            let address: Ipv6Addr = address.parse().map_err(|_| InvalidEndpoint)?;
            let port = match rest.strip_prefix(':') {
                Some(port) => Some(parse_port(port)?),
                None if rest.is_empty() => None,
                None => return Err(InvalidEndpoint),
            };
            return Ok(Self { host: Host::Address(address.into()), port });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(parse_port(port)?)),
            None => (text, None),
        };
        Ok(Self { host: host.parse()?, port })
    }
}

impl FromStr for Host {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Address(address.into()));
        }
        let label_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(label_byte);
        let name = text.strip_suffix('.').unwrap_or(text);
        // A name whose last label is a number is an IPv4 address gone wrong.
        let numeric = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        let valid = name.len() <= 253 && name.split('.').all(label) && !numeric;
        if valid { Ok(Self::Name(text.to_ascii_lowercase())) } else { Err(InvalidEndpoint) }
    }
}

fn parse_port(text: &str) -> Result<u16, InvalidEndpoint> {
    text.parse().ok().filter(|&port| port > 0).ok_or(InvalidEndpoint)
}

pub fn family(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
}

/// As it is written, an IPv6 address in brackets.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]")?,
            host => host.fmt(f)?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Without brackets, as OpenTelemetry's `server.address` has it.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Host {
        Host::Address(text.parse().unwrap())
    }

    #[test]
    fn an_address_is_read_with_and_without_its_port() {
        let name = Host::Name("voice.example.com".to_owned());
        for (text, host, port) in [
            ("192.0.2.7:50000", address("192.0.2.7"), Some(50_000)),
            ("192.0.2.7", address("192.0.2.7"), None),
            ("[2001:db8::1]:9", address("2001:db8::1"), Some(9)),
            ("[2001:db8::1]", address("2001:db8::1"), None),
            ("Voice.example.com:443", name.clone(), Some(443)),
            ("voice.example.com", name, None),
        ] {
            assert_eq!(text.parse(), Ok(Endpoint { host, port }), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = "a".repeat(64);
        for text in [
            "",
            ":50000",
            "host:",
            "host:0",
            "host:65536",
            "2001:db8::1",
            "[2001:db8::1",
            "[192.0.2.1]:5",
            "[::1]5",
            "a b:5",
            "http://host",
            "192.0.2",
            "192.0.2.256:5",
            "host..example:5",
            &long,
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(InvalidEndpoint), "{text:?}");
        }
    }
}
