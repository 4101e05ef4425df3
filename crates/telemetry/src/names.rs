//! Names: `[a-z0-9-]+`, at most 63 bytes, cheap to clone. Each kind of thing has a type of its own, so that a region never
//! stands where a target should. Probes and phases are named by us and may also have `_`: `first_byte`.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

pub const MAX_NAME_BYTES: usize = 63;

/// Any name of ours that has no kind of its own: a probe, a phase.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, pattern = "^[a-z0-9_-]{1,63}$")]
pub struct Name(Arc<str>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to {MAX_NAME_BYTES} of the characters a-z, 0-9 and -")]
pub struct InvalidName;

const NAME: fn(u8) -> bool = |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let allowed = |byte: u8| NAME(byte) || byte == b'_';
        let valid = (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(allowed);
        if valid { Ok(Self(text.into())) } else { Err(InvalidName) }
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

macro_rules! kinds_of_name {
    ($($(#[$doc:meta])* $kind:ident)+) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = String, pattern = "^[a-z0-9-]{1,63}$")]
        pub struct $kind(Name);

        impl $kind {
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl FromStr for $kind {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                if text.bytes().all(NAME) { text.parse().map(Self) } else { Err(InvalidName) }
            }
        }

        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }

        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl Borrow<str> for $kind {
            fn borrow(&self) -> &str {
                self.0.as_str()
            }
        }
    )+};
}

kinds_of_name! {
    /// One agent: a vantage.
    AgentId
    /// Who hears alerts.
    ReceiverName
    /// A cloud region, as a source or as the place of a target.
    RegionName
    /// gateway, voice, cdn, or a name of the operator's.
    ServiceName
    /// One endpoint that is probed.
    TargetId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_takes_small_letters_digits_and_dashes_and_nothing_else() {
        assert!("fra-voice-1".parse::<TargetId>().is_ok());
        assert!("first_byte".parse::<Name>().is_ok(), "a phase");
        for refused in ["", "Fra", "fra_1", "fra 1", "fra/voice", "früh", &"a".repeat(64)] {
            assert_eq!(refused.parse::<RegionName>(), Err(InvalidName), "{refused:?}");
        }
    }
}
