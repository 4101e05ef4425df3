//! A window: what a series saw in one wall-clock slot. Counts and a histogram for each outcome, never an average.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::histogram::Histogram;
use crate::time::Wall;

/// The width of a slot where no configuration says otherwise.
pub const DEFAULT_WIDTH: Duration = Duration::from_secs(10);

/// One slot of one series, or a part of it: parts of a slot add up.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// From when on its probes were due.
    pub begin: Wall,
    /// Until when.
    pub end: Wall,
    pub outcomes: BTreeMap<Outcome, Histogram>,
}

/// How a probe ended. A lost packet is data, not an error of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// With the duration that the probe measures.
    Reply,
    /// With the time until it was known.
    Failure(FailureKind),
}

macro_rules! failure_kinds {
    ($($(#[$doc:meta])* $kind:ident = $text:literal)+) => {
        /// Why there was no reply. A closed set: the values of `error.type`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum FailureKind {
            $($(#[$doc])* $kind,)+
        }

        impl FailureKind {
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $text,)+
                }
            }

            /// What a foreign source calls otherwise is `Other`.
            pub fn parse(text: &str) -> Self {
                match text {
                    $($text => Self::$kind,)+
                    _ => Self::Other,
                }
            }
        }
    };
}

failure_kinds! {
    Timeout = "timeout"
    Refused = "refused"
    Unreachable = "unreachable"
    Dns = "dns"
    Tls = "tls"
    Protocol = "protocol"
    Status = "status"
    Other = "other"
}

impl Window {
    pub fn count(&self) -> u64 {
        self.outcomes.values().map(Histogram::count).sum()
    }

    pub fn replies(&self) -> u64 {
        self.outcomes.get(&Outcome::Reply).map_or(0, Histogram::count)
    }
}
