//! The command line of a trial: one subcommand for each kind, each option named as the key of the configuration.

use std::time::Duration;

use clap::Subcommand;
use protocols::dns::{Name, Question, RecordType};

use super::{Trial, port_is_missing};
use crate::config::{Http, HttpVersion, MAX_IN_FLIGHT, Probe, ProbeKind, RequestPath, Roots, Secure, Voice, WebSocket};
use crate::endpoint::{Endpoint, Host};

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
        #[arg(long)]
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
    /// host:port; an IPv6 address in brackets
    address: Endpoint,
    #[arg(long, default_value = "200ms", value_parser = humantime::parse_duration)]
    every: Duration,
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// One JSON object instead of a table
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("ADDRESS: this kind needs a port: host:port")]
    Port,
    #[error("--every, --timeout: both above 0, and a timeout of less than {MAX_IN_FLIGHT} times --every")]
    Pace,
}

impl Args {
    pub fn json(&self) -> bool {
        self.kind.common().json
    }

    pub fn trial(&self) -> Result<Trial, Refused> {
        let Common { address, every, count, timeout, .. } = self.kind.common();
        let (endpoint, kind) = (address.clone(), self.kind.probe());
        if port_is_missing(&kind, &endpoint) {
            return Err(Refused::Port);
        }
        if every.is_zero() || timeout.is_zero() || *timeout >= every.saturating_mul(MAX_IN_FLIGHT) {
            return Err(Refused::Pace);
        }
        Ok(Trial { endpoint, probe: Probe { kind, every: *every, timeout: *timeout }, count: *count })
    }
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
