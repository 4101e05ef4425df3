//! What the log holds, in order, and how a record of it is written.
//!
//! A record is one tag byte and a body. `O`: a batch as it was received, still compressed, behind its postcard envelope.
//! `M`: a time mark, eight bytes. `C`: a policy, postcard.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use telemetry::{AgentId, Histogram, Origin, Outcome, RegionName, Series, Wall};

use crate::policy::Policy;

/// In the log's order. Its clock is its own marks.
#[derive(Debug, Clone)]
pub enum Entry {
    Batch(Batch),
    Config { at: Wall, policy: Arc<Policy> },
    Mark { now: Wall },
}

/// What was sent, decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// By which an agent's batch is counted once. What came through someone else has none: its points are counted once each.
    pub origin: Option<Origin>,
    pub received: Wall,
    pub points: Vec<Point>,
    /// Of every agent that something was taken from.
    pub reports: Vec<Report>,
}

/// What a batch says of one agent itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub agent: AgentId,
    /// Where it stands.
    pub source: RegionName,
    pub version: String,
    pub vitals: Vitals,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    pub series: Arc<Series>,
    pub outcome: Outcome,
    pub begin: Wall,
    pub end: Wall,
    pub histogram: Histogram,
}

/// How the agent itself fared.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Vitals {
    pub lateness: Histogram,
    pub spool_batches: u64,
    pub spool_bytes: u64,
}

/// What is known of a batch without opening it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    pub origin: Option<Origin>,
    pub received: Wall,
    pub encoding: Encoding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encoding {
    Identity,
    Zstd,
    Gzip,
}

/// A record, parted but not opened.
#[derive(Debug, PartialEq)]
pub enum Record<'a> {
    Batch(Envelope, &'a [u8]),
    Config(Wall, Policy),
    Mark(Wall),
}

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("a record of an unknown kind: was the log written by another version?")]
    Kind,
    #[error("a record that does not decode")]
    Decode(#[from] postcard::Error),
}

impl Record<'_> {
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        Ok(match self {
            Self::Batch(envelope, body) => {
                let mut record = postcard::to_extend(envelope, vec![b'O'])?;
                record.extend_from_slice(body);
                record
            }
            Self::Config(at, policy) => postcard::to_extend(&(at, policy), vec![b'C'])?,
            Self::Mark(now) => [&b"M"[..], &now.0.to_le_bytes()].concat(),
        })
    }

    pub fn decode(record: &[u8]) -> Result<Record<'_>, RecordError> {
        match record.split_first() {
            Some((b'O', rest)) => {
                let (envelope, body) = postcard::take_from_bytes(rest)?;
                Ok(Record::Batch(envelope, body))
            }
            Some((b'C', rest)) => {
                let (at, policy) = postcard::from_bytes(rest)?;
                Ok(Record::Config(at, policy))
            }
            Some((b'M', rest)) => {
                let nanos = rest.try_into().map_err(|_| RecordError::Kind)?;
                Ok(Record::Mark(Wall(u64::from_le_bytes(nanos))))
            }
            _ => Err(RecordError::Kind),
        }
    }
}
