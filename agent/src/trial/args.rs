//! The command line of a trial: one subcommand for each kind, each option named as the key of the configuration.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use clap::Subcommand;
use protocols::dns::{Name, Question, RecordType};

use super::{Trial, port_is_missing};
use crate::config::{Http, HttpVersion, MAX_IN_FLIGHT, Probe, ProbeKind, RequestPath, Roots, Secure, Voice, WebSocket};
use crate::endpoint::{Endpoint, Host, InvalidEndpoint};

/// A connection is held as long as a trial of a usual length.
const RECONNECT_EVERY: Duration = Duration::from_hours(1);

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// The UDP ping of a voice server
    Voice(Common),
    /// A STUN binding; port 3478 where none is said
    Stun(Common),
    /// STAMP, without the reflector's own time; port 862 where none is said
    Stamp(Common),
    /// ICMP echo
    Icmp(Common),
    /// A TCP connection
    Tcp(Common),
    /// One question to a DNS server, over UDP
    Dns {
        #[command(flatten)]
        common: Common,
        /// What is asked
        #[arg(long)]
        name: Name,
        /// A or AAAA
        #[arg(long = "type", default_value = "A")]
        record_type: RecordType,
    },
    /// A TLS handshake
    Tls {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        secure: SecureArgs,
    },
    /// An HTTP request
    Http {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        over: Over,
        /// 1.1 or 2; left out: what both ends agree on
        #[arg(long, value_parser = http_version)]
        version: Option<HttpVersion>,
    },
    /// A WebSocket gateway: a connection up to its HELLO, then heartbeats on it
    Websocket {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        over: Over,
    },
}

#[derive(Debug, clap::Args)]
struct Common {
    /// host:port, or host alone where the kind has a port of its own or none; an IPv6 address before a port in brackets
    #[arg(value_parser = address)]
    address: Endpoint,
    /// From one probe to the next, answered or not
    #[arg(long, default_value = "200ms", value_parser = humantime::parse_duration)]
    every: Duration,
    /// How many probes; left out: until Ctrl-C
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
    /// What takes longer is lost; and late, if it comes all the same
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// One JSON object at the end, instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct SecureArgs {
    /// What the certificate must name; left out: the host of the address
    #[arg(long)]
    server_name: Option<Host>,
    /// The authorities to trust, in PEM; left out: this system's
    #[arg(long)]
    ca_file: Option<Roots>,
}

/// What a request goes over.
#[derive(Debug, clap::Args)]
struct Over {
    #[command(flatten)]
    secure: SecureArgs,
    /// In the clear
    #[arg(long)]
    no_tls: bool,
    #[arg(long, default_value = "/")]
    path: RequestPath,
}

/// Why there is no trial of these arguments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("ADDRESS: {kind} needs a port, as in host:port; found {found}")]
    Port { kind: &'static str, found: Endpoint },
    #[error("{option}: allowed: above 0")]
    Zero { option: &'static str },
    #[error(
        "--timeout: allowed: less than {MAX_IN_FLIGHT} times --every, which is {}: more probes than that are never out at once",
        humantime::format_duration(*.every)
    )]
    Crowd { every: Duration },
}

impl Args {
    pub fn json(&self) -> bool {
        self.kind.common().json
    }

    pub fn trial(&self) -> Result<Trial, Refused> {
        let &Common { ref address, every, count, timeout, .. } = self.kind.common();
        let (endpoint, kind) = (address.clone(), self.kind.probe());
        if port_is_missing(&kind, &endpoint) {
            return Err(Refused::Port { kind: kind.as_str(), found: endpoint });
        }
        if let Some((_, option)) = [(every, "--every"), (timeout, "--timeout")].into_iter().find(|(it, _)| it.is_zero())
        {
            return Err(Refused::Zero { option });
        }
        if timeout >= every.saturating_mul(MAX_IN_FLIGHT) {
            return Err(Refused::Crowd { every });
        }
        Ok(Trial { endpoint, probe: Probe { kind, every, timeout, cron: None }, count })
    }
}

/// As a configuration has it, and an IPv6 address without brackets, as people write it where no port can follow.
fn address(text: &str) -> Result<Endpoint, InvalidEndpoint> {
    match text.parse::<Ipv6Addr>() {
        Ok(address) => Ok(Endpoint { host: Host::Address(IpAddr::V6(address)), port: None }),
        Err(_) => text.parse(),
    }
}

fn http_version(text: &str) -> Result<HttpVersion, String> {
    text.parse().map_err(|allowed| format!("allowed: {allowed}"))
}

impl Kind {
    fn common(&self) -> &Common {
        match self {
            Self::Voice(common)
            | Self::Stun(common)
            | Self::Stamp(common)
            | Self::Icmp(common)
            | Self::Tcp(common)
            | Self::Dns { common, .. }
            | Self::Tls { common, .. }
            | Self::Http { common, .. }
            | Self::Websocket { common, .. } => common,
        }
    }

    fn probe(&self) -> ProbeKind {
        match self {
            Self::Voice(_) => ProbeKind::Voice(Voice { discovery_every: RECONNECT_EVERY, train: None }),
            Self::Stun(_) => ProbeKind::Stun,
            Self::Stamp(_) => ProbeKind::Stamp,
            Self::Icmp(_) => ProbeKind::Icmp,
            Self::Tcp(_) => ProbeKind::Tcp,
            Self::Dns { name, record_type, .. } => ProbeKind::Dns(Question::new(name, *record_type)),
            Self::Tls { secure, .. } => ProbeKind::Tls(secure.resolved()),
            Self::Http { over, version, .. } => ProbeKind::Http(Http {
                path: over.path.as_str().to_owned(),
                tls: over.tls(),
                version: version.unwrap_or(HttpVersion::Agreed),
                reconnect_every: RECONNECT_EVERY,
            }),
            Self::Websocket { over, .. } => ProbeKind::WebSocket(WebSocket {
                path: over.path.as_str().to_owned(),
                tls: over.tls(),
                reconnect_every: RECONNECT_EVERY,
            }),
        }
    }
}

impl Over {
    fn tls(&self) -> Option<Secure> {
        (!self.no_tls).then(|| self.secure.resolved())
    }
}

impl SecureArgs {
    fn resolved(&self) -> Secure {
        Secure { server_name: self.server_name.clone(), roots: self.ca_file.clone().unwrap_or(Roots::System) }
    }
}
