//! The tables `[[target.probe]]`: what each kind takes.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use protocols::dns::{self, Question, RecordType};
use runtime::config::{Table, kind};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::{duration, in_flight_bounded};
use crate::cron::Cron;
use crate::endpoint::{Endpoint, Host};

const TIMEOUT: Duration = Duration::from_secs(1);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_mins(1);
const EVERY: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_hours(1);
const SECOND: Duration = Duration::from_secs(1);
const TEN_SECONDS: Duration = Duration::from_secs(10);
/// Before the 30 s after which a gateway gives up on who does not log in.
const BEFORE_THE_LOGIN: Duration = Duration::from_secs(25);

/// As Opus frames are sent.
pub const TRAIN_APART: Duration = Duration::from_millis(20);
/// A second of a call.
const TRAIN_PACKETS: u16 = 50;

const SERVER_NAME: &str = "a host name or an IP address";
const CA_FILE: &str = "a file that can be read, with certificates in PEM";
const CRON: &str = "six fields, in UTC: second, minute, hour, day, month, weekday, such as \"0 */5 * * * *\"";
const NAME: &str = "a name, such as \"www.example.com\"";
const DNS_PORT: u16 = 53;
const VERSION: &str = "\"1.1\", \"2\"";
const STUN_PORT: u16 = 3478;
const STAMP_PORT: u16 = 862;
const PATH: &str = "a path that begins with /, such as \"/assets/1.png\"";

#[derive(Debug, Clone)]
pub struct Probe {
    pub kind: ProbeKind,
    pub every: Duration,
    /// When it is sent, in place of `every`.
    pub cron: Option<Cron>,
    pub timeout: Duration,
}

#[derive(Debug, Clone)]
pub enum ProbeKind {
    Voice(Voice),
    Stun,
    Stamp,
    Icmp,
    Tcp,
    Dns(Question),
    Tls(Secure),
    Http(Http),
    WebSocket(WebSocket),
}

#[derive(Debug, Clone)]
pub struct Voice {
    pub discovery_every: Duration,
    pub train: Option<Train>,
}

/// So many packets, as a call sends them.
#[derive(Debug, Clone, Copy)]
pub struct Train {
    pub every: Duration,
    pub packets: u16,
}

/// How a server proves who it is.
#[derive(Debug, Clone)]
pub struct Secure {
    /// What its certificate must name. Left out: the host of the target's address.
    pub server_name: Option<Host>,
    pub roots: Roots,
}

#[derive(Debug, Clone)]
pub enum Roots {
    System,
    Given(Arc<[CertificateDer<'static>]>),
}

#[derive(Debug, Clone)]
pub struct Http {
    pub path: String,
    /// `None`: in the clear.
    pub tls: Option<Secure>,
    pub version: HttpVersion,
    pub reconnect_every: Duration,
}

#[derive(Debug, Clone)]
pub struct WebSocket {
    /// With the query that the gateway wants.
    pub path: String,
    /// `None`: in the clear.
    pub tls: Option<Secure>,
    pub reconnect_every: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpVersion {
    /// By ALPN; 1.1 in the clear.
    Agreed,
    One,
    Two,
}

/// The word by which a file names a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Voice,
    Stun,
    Stamp,
    Icmp,
    Tcp,
    Dns,
    Tls,
    Http,
    WebSocket,
}

impl Probe {
    pub(super) fn build(table: &mut Table<'_>, kinds: &mut Vec<&'static str>) -> Option<Self> {
        let word = table.required("kind", kind::choice(WORDS));
        if let Some(word) = word {
            if kinds.contains(&word.as_str()) {
                table.refuse("kind", &format!("{} stands twice", word.as_str()), "one probe of a kind in each target");
            }
            kinds.push(word.as_str());
        }
        let every = duration(table, "every", word.map_or(SECOND, Word::default_every), EVERY);
        let cron = cron(table, word);
        let timeout = duration(table, "timeout", TIMEOUT, TIMEOUTS);
        let kind = match word {
            // Without a kind nobody can say whether it may have this key: then it is taken, and the kind is the one fault.
            None => {
                for kind in [Word::Voice, Word::Http] {
                    ProbeKind::build(table, kind, timeout);
                }
                table.optional("name", kind::parsed::<dns::Name>(NAME));
                record_type(table);
                None
            }
            Some(word) => ProbeKind::build(table, word, timeout),
        };
        in_flight_bounded(table, "every", every, timeout);
        Some(Self { kind: kind?, every, cron, timeout })
    }
}

impl ProbeKind {
    fn build(table: &mut Table<'_>, word: Word, timeout: Duration) -> Option<Self> {
        Some(match word {
            Word::Voice => Self::Voice(Voice::build(table, timeout)),
            Word::Stun => Self::Stun,
            Word::Stamp => Self::Stamp,
            Word::Icmp => Self::Icmp,
            Word::Tcp => Self::Tcp,
            Word::Dns => {
                let (name, kind) = (table.required("name", kind::parsed(NAME)), record_type(table));
                Self::Dns(Question::new(&name?, kind))
            }
            Word::Tls => Self::Tls(Secure::build(table)),
            Word::Http => Self::Http(Http::build(table)),
            Word::WebSocket => Self::WebSocket(WebSocket::build(table, timeout)),
        })
    }

    pub fn as_str(&self) -> &'static str {
        self.word().as_str()
    }

    /// Where it goes to at that address.
    pub fn port(&self, endpoint: &Endpoint) -> Option<u16> {
        match self {
            Self::Icmp => None,
            Self::Dns(_) => endpoint.port.or(Some(DNS_PORT)),
            Self::Stun => endpoint.port.or(Some(STUN_PORT)),
            Self::Stamp => endpoint.port.or(Some(STAMP_PORT)),
            _ => endpoint.port,
        }
    }

    pub(crate) fn needs_port(&self) -> bool {
        !matches!(self, Self::Icmp | Self::Dns(_) | Self::Stun | Self::Stamp)
    }

    /// How many series it makes at least, at a target of that host.
    pub(super) fn series(&self, host: &Host) -> usize {
        let dns = usize::from(matches!(host, Host::Name(_)));
        match self {
            Self::Voice(Voice { train, .. }) => 2 + if train.is_some() { 2 } else { 0 },
            Self::Stun | Self::Stamp | Self::Icmp | Self::Tcp | Self::Dns(_) => 1,
            Self::Tls(_) => dns + 2,
            Self::Http(Http { tls, .. }) => dns + 1 + usize::from(tls.is_some()) + 2 * 2,
            Self::WebSocket(WebSocket { tls, .. }) => dns + 1 + usize::from(tls.is_some()) + 3,
        }
    }

    fn word(&self) -> Word {
        match self {
            Self::Voice(_) => Word::Voice,
            Self::Stun => Word::Stun,
            Self::Stamp => Word::Stamp,
            Self::Icmp => Word::Icmp,
            Self::Tcp => Word::Tcp,
            Self::Dns(_) => Word::Dns,
            Self::Tls(_) => Word::Tls,
            Self::Http(_) => Word::Http,
            Self::WebSocket(_) => Word::WebSocket,
        }
    }
}

const WORDS: &[(&str, Word)] = &[
    ("voice", Word::Voice),
    ("stun", Word::Stun),
    ("stamp", Word::Stamp),
    ("icmp", Word::Icmp),
    ("tcp", Word::Tcp),
    ("dns", Word::Dns),
    ("tls", Word::Tls),
    ("http", Word::Http),
    ("websocket", Word::WebSocket),
];

impl Word {
    fn as_str(self) -> &'static str {
        match self {
            Self::Voice => "voice",
            Self::Stun => "stun",
            Self::Stamp => "stamp",
            Self::Icmp => "icmp",
            Self::Tcp => "tcp",
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::WebSocket => "websocket",
        }
    }

    /// One small packet or request a second is cheap for everyone; a connection leaves state behind at both ends.
    fn default_every(self) -> Duration {
        match self {
            Self::Voice | Self::Stun | Self::Stamp | Self::Icmp | Self::Dns | Self::Http | Self::WebSocket => SECOND,
            Self::Tcp | Self::Tls => TEN_SECONDS,
        }
    }
}

impl Voice {
    fn build(table: &mut Table<'_>, timeout: Duration) -> Self {
        let discovery_every = duration(table, "discovery_every", TEN_SECONDS, EVERY);
        in_flight_bounded(table, "discovery_every", discovery_every, timeout);
        Self { discovery_every, train: Train::build(table, timeout) }
    }
}

impl Train {
    /// `None`: no trains.
    fn build(table: &mut Table<'_>, timeout: Duration) -> Option<Self> {
        let packets =
            table.optional("train_packets", kind::integer(2..=500)).map_or(TRAIN_PACKETS, |count| count as u16);
        let wanted = table.optional("train_every", kind::duration());
        let lasts = TRAIN_APART * u32::from(packets) + timeout * 2;
        let range = lasts..=Duration::from_hours(1);
        wanted.map(|every| {
            if !range.contains(&every) {
                let [found, low, high] = [&every, range.start(), range.end()].map(|it| humantime::format_duration(*it));
                let lasts = format!("allowed: from {low}, which one train lasts with its timeouts, to {high}");
                table.refuse("train_every", &format!("found {found}"), &lasts);
            }
            Self { every, packets }
        })
    }
}

impl Secure {
    fn build(table: &mut Table<'_>) -> Self {
        let server_name = table.optional("server_name", kind::parsed(SERVER_NAME));
        let roots = table.optional("ca_file", kind::parsed(CA_FILE)).unwrap_or(Roots::System);
        Self { server_name, roots }
    }
}

impl Secure {
    /// By the key `tls`, which is true where it is left out.
    fn build_unless_clear(table: &mut Table<'_>) -> Option<Self> {
        table.optional("tls", kind::boolean()).unwrap_or(true).then(|| Self::build(table))
    }
}

impl Http {
    fn build(table: &mut Table<'_>) -> Self {
        let path = path(table);
        let version = table.optional("version", kind::parsed(VERSION)).unwrap_or(HttpVersion::Agreed);
        let reconnect_every = duration(table, "reconnect_every", TEN_SECONDS, EVERY);
        Self { path, tls: Secure::build_unless_clear(table), version, reconnect_every }
    }
}

impl WebSocket {
    fn build(table: &mut Table<'_>, timeout: Duration) -> Self {
        let reconnect_every = duration(table, "reconnect_every", BEFORE_THE_LOGIN, EVERY);
        in_flight_bounded(table, "reconnect_every", reconnect_every, timeout);
        Self { path: path(table), tls: Secure::build_unless_clear(table), reconnect_every }
    }
}

/// In place of `every`, of a probe that has one pace.
fn cron(table: &mut Table<'_>, word: Option<Word>) -> Option<Cron> {
    let cron = table.optional("cron", kind::parsed(CRON))?;
    if table.has("every") {
        table.refuse("cron", "stands beside every", "one of them");
    }
    if let Some(word @ (Word::Voice | Word::WebSocket)) = word {
        table.refuse("cron", &format!("stands with {}", word.as_str()), "with a kind that has one pace");
    }
    Some(cron)
}

fn record_type(table: &mut Table<'_>) -> RecordType {
    let types = kind::choice(&[("A", RecordType::A), ("AAAA", RecordType::Aaaa)]);
    table.optional("type", types).unwrap_or(RecordType::A)
}

fn path(table: &mut Table<'_>) -> String {
    let path = table.optional("path", kind::parsed::<RequestPath>(PATH));
    path.map_or("/".to_owned(), |RequestPath(path)| path)
}

/// The certificates of a file, read with the configuration, so that `check` tells of a file that is not there.
impl FromStr for Roots {
    type Err = &'static str;

    fn from_str(path: &str) -> Result<Self, Self::Err> {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        match read {
            Ok(certificates) if !certificates.is_empty() => Ok(Self::Given(certificates.into())),
            _ => Err(CA_FILE),
        }
    }
}

#[derive(Debug, Clone)]
pub struct RequestPath(String);

impl RequestPath {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HttpVersion {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "1.1" => Ok(Self::One),
            "2" => Ok(Self::Two),
            _ => Err(VERSION),
        }
    }
}

impl FromStr for RequestPath {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path =
            text.starts_with('/') && text.parse::<hyper::http::uri::PathAndQuery>().is_ok() && !text.contains('#');
        if path { Ok(Self(text.to_owned())) } else { Err(PATH) }
    }
}
