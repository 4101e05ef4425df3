//! Who measured what: the identity of a series and of the path it belongs to.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use xxhash_rust::xxh3::Xxh3;

use crate::names::{AgentId, Name, RegionName, ServiceName, TargetId};

/// What one vantage measures at one target by one probe, one phase of it, over one address family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Series {
    pub agent: AgentId,
    pub source: RegionName,
    pub target: TargetId,
    pub region: RegionName,
    pub service: ServiceName,
    pub probe: Name,
    pub phase: Name,
    pub family: Family,
    pub standing: Standing,
    /// What was learned of the answer. A path merges series that differ in these alone.
    pub labels: Labels,
}

/// What its samples may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum Standing {
    #[default]
    Regular,
    /// Sent at once after a failure: evidence only, they never colour loss or quantiles.
    Confirming,
    /// Taken while the agent itself was unwell: they are shown, and do not vote.
    Suspect,
}

/// What tells series of one path apart: a new connection from a held one, a cache's hit from its miss.
pub type Labels = BTreeMap<Label, LabelValue>;

macro_rules! labels {
    ($($(#[$doc:meta])* $label:ident = $attribute:literal as $word:literal)+) => {
        /// A closed set: every label multiplies the series.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Label {
            $($(#[$doc])* $label,)+
        }

        impl Label {
            pub const ALL: &[Self] = &[$(Self::$label),+];

            /// On the wire.
            pub fn attribute(self) -> &'static str {
                match self {
                    $(Self::$label => $attribute,)+
                }
            }

            /// On a screen.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$label => $word,)+
                }
            }
        }
    };
}

labels! {
    /// `new` or `reused`.
    Connection = "isochrone.connection" as "connection"
    /// What a CDN's cache said: `hit`, `miss`, `expired`, `stale`, `bypass`, `revalidated`, `updating`, `dynamic`, `other`.
    Cache = "isochrone.cache" as "cache"
    /// The CDN's point of presence that answered.
    Pop = "isochrone.pop" as "pop"
    /// The version of the protocol, such as `1.1` or `2`.
    Version = "network.protocol.version" as "version"
    /// How a gateway was asked to beat: `op1`, or `ping` where it takes no heartbeat before a login.
    Beat = "isochrone.beat" as "beat"
    /// The machine behind the address, as it names itself.
    Node = "isochrone.node" as "node"
    /// How a packet of a train came back, where it was not once and in order: `reordered`, `duplicate`, or `late`, which is lost.
    Arrival = "isochrone.arrival" as "arrival"
    /// Which address of a name was probed, where each has series of its own.
    Address = "network.peer.address" as "address"
}

/// 1 to [`MAX_LABEL_BYTES`] printable ASCII characters without quotes and backslashes, cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, min_length = 1, max_length = 63, description = "Printable ASCII.")]
pub struct LabelValue(Arc<str>);

pub const MAX_LABEL_BYTES: usize = 63;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a label has 1 to {MAX_LABEL_BYTES} printable ASCII characters without quotes and backslashes")]
pub struct InvalidLabel;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    Ipv4,
    Ipv6,
}

/// A path: the vantages of one source merged. The same after restarts, on every collector.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PathId(pub u64);

/// One life of an agent's process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Boot(pub u128);

/// The number of a batch within a boot, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sequence(pub u64);

/// What identifies a batch of ours, so that it is counted once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    pub agent: AgentId,
    pub boot: Boot,
    pub sequence: Sequence,
}

/// What was not taken of a boot's batches from `from` to `to`, both included, never will be: the agent does not have it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Gap {
    pub boot: Boot,
    pub from: Sequence,
    pub to: Sequence,
}

impl Series {
    pub fn path(&self) -> PathId {
        let mut hash = Xxh3::new();
        for part in
            [self.source.as_str(), self.target.as_str(), self.probe.as_str(), self.phase.as_str(), self.family.as_str()]
        {
            hash.update(part.as_bytes());
            hash.update(b"/");
        }
        PathId(hash.digest())
    }
}

impl LabelValue {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LabelValue {
    type Err = InvalidLabel;

    fn from_str(text: &str) -> Result<Self, InvalidLabel> {
        let allowed = |byte: u8| (b' '..=b'~').contains(&byte) && !matches!(byte, b'"' | b'\\');
        let valid = (1..=MAX_LABEL_BYTES).contains(&text.len()) && text.bytes().all(allowed);
        if valid { Ok(Self(text.into())) } else { Err(InvalidLabel) }
    }
}

impl<'de> Deserialize<'de> for LabelValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for LabelValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LabelValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Family {
    /// The values of OpenTelemetry's `network.type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }
}

impl FromStr for Family {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "ipv4" => Ok(Self::Ipv4),
            "ipv6" => Ok(Self::Ipv6),
            _ => Err("network.type is ipv4 or ipv6"),
        }
    }
}

impl fmt::Display for PathId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for PathId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PathId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// As a UUID is written: 8-4-4-4-12 hexadecimal digits.
impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:032x}", self.0);
        write!(f, "{}-{}-{}-{}-{}", &digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..])
    }
}

impl fmt::Debug for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Boot {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: String = text.chars().filter(|&c| c != '-').collect();
        let well_formed = digits.len() == 32 && matches!(text.len(), 32 | 36);
        if !well_formed || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err("a boot is a UUID");
        }
        u128::from_str_radix(&digits, 16).map(Self).map_err(|_| "a boot is a UUID")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_reads_back_what_it_prints_and_refuses_the_rest() {
        let boot = Boot(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
        assert_eq!(boot.to_string(), "01020304-0506-0708-090a-0b0c0d0e0f10");
        assert_eq!(boot.to_string().parse(), Ok(boot));
        for refused in ["", "1", "0102030405060708090a0b0c0d0e0f1", "+1020304-0506-0708-090a-0b0c0d0e0f10"] {
            assert!(refused.parse::<Boot>().is_err(), "{refused:?}");
        }
    }

    #[test]
    fn a_label_is_short_and_needs_no_escapes_anywhere() {
        assert!("gateway-prd-1.2 (a)".parse::<LabelValue>().is_ok());
        for refused in ["", "a\"b", "a\\b", "a\nb", "é", &"x".repeat(64)] {
            assert_eq!(refused.parse::<LabelValue>(), Err(InvalidLabel), "{refused:?}");
        }
    }

    #[test]
    fn a_path_id_is_the_same_in_every_release() {
        assert_eq!(crate::sample::series().path().to_string(), "14f948e2edaa77ec");
    }
}
