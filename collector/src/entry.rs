//! What the log holds, in order, and how a record of it is written.
//!
//! A record is one tag byte and a body. `O`: a batch as it was received, still compressed, behind its postcard envelope.
//! `M`: a time mark, eight bytes. `Q`: a policy, postcard. `D`: what became of one attempt to deliver, postcard. `R`: the log was
//! restored from a backup, eight bytes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use telemetry::{AgentId, Gap, Histogram, Origin, Outcome, RegionName, Series, UnixSeconds, Wall};

use crate::clocks::Offset;
use crate::policy::Policy;

/// In the log's order. Its clock is its own marks.
#[derive(Debug, Clone)]
pub enum Entry {
    Batch(Batch),
    Config {
        at: Wall,
        policy: Arc<Policy>,
    },
    Mark {
        now: Wall,
    },
    Attempt(Attempt),
    /// What came after it in the log that was backed up is not in this one: it is another, of another epoch.
    Restored {
        at: Wall,
    },
}

/// What was sent, decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// By which an agent's batch is counted once. What came through someone else has none: its points are counted once each.
    pub origin: Option<Origin>,
    pub received: Wall,
    pub points: Vec<Point>,
    pub certificates: Vec<Certificate>,
    pub losing_ports: Vec<LosingPorts>,
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

impl Point {
    pub fn move_by(&mut self, offset: Offset) {
        (self.begin, self.end) = (offset.applied_to(self.begin), offset.applied_to(self.end));
    }
}

/// When the first certificate that a target showed ends, and when that was seen. The series names agent, target and probe.
#[derive(Debug, Clone, PartialEq)]
pub struct Certificate {
    pub series: Arc<Series>,
    pub not_after: UnixSeconds,
    pub seen: Wall,
}

/// The share of a probe's source ports that lose what goes out from them while the others do not.
#[derive(Debug, Clone, PartialEq)]
pub struct LosingPorts {
    pub series: Arc<Series>,
    pub share: f64,
    pub seen: Wall,
}

/// How the agent itself fared.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Vitals {
    /// When it said so, by its own clock.
    pub at: Option<Wall>,
    pub lateness: Histogram,
    pub noise_floor: Histogram,
    pub spool_batches: u64,
    pub spool_bytes: u64,
    /// Of this and of earlier boots.
    pub gaps: Vec<Gap>,
}

/// A row of the outbox: the rows of a log are counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RowId(pub u64);

/// What became of one attempt to deliver a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub row: RowId,
    /// Of this row's attempts, from 1.
    pub number: u32,
    pub at: Wall,
    pub answer: Answer,
}

/// What a receiver said, or why it could not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    Status { code: u16, retry_after: Option<Duration> },
    Timeout,
    Connection(Fault),
}

/// What kept a connection from being made, or broke it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// The name has no address.
    Unresolved,
    /// It has only addresses that this receiver may not have.
    Forbidden,
    Connect,
    /// Its certificate is not one that we trust, or the two sides have no cipher in common.
    Tls,
    /// The connection was there and broke.
    Broken,
}

impl Batch {
    /// The newest time that it tells of: a batch that comes again tells of the same.
    pub fn made(&self) -> Wall {
        let reports = self.reports.iter().filter_map(|report| report.vitals.at);
        let seen = self.certificates.iter().map(|it| it.seen).chain(self.losing_ports.iter().map(|it| it.seen));
        reports.chain(seen).chain(self.points.iter().map(|point| point.end)).max().unwrap_or_default()
    }
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
#[expect(clippy::large_enum_variant, reason = "one at a time, on its way to the log or out of it")]
#[derive(Debug, PartialEq)]
pub enum Record<'a> {
    Batch(Envelope, &'a [u8]),
    Config(Wall, Policy),
    Mark(Wall),
    Attempt(Attempt),
    Restored(Wall),
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
            Self::Config(at, policy) => postcard::to_extend(&(at, policy), vec![b'Q'])?,
            Self::Attempt(attempt) => postcard::to_extend(attempt, vec![b'D'])?,
            Self::Mark(now) => [&b"M"[..], &now.0.to_le_bytes()].concat(),
            Self::Restored(at) => [&b"R"[..], &at.0.to_le_bytes()].concat(),
        })
    }

    pub fn decode(record: &[u8]) -> Result<Record<'_>, RecordError> {
        match record.split_first() {
            Some((b'O', rest)) => {
                let (envelope, body) = postcard::take_from_bytes(rest)?;
                Ok(Record::Batch(envelope, body))
            }
            Some((b'Q', rest)) => {
                let (at, policy) = postcard::from_bytes(rest)?;
                Ok(Record::Config(at, policy))
            }
            Some((b'D', rest)) => Ok(Record::Attempt(postcard::from_bytes(rest)?)),
            Some((b'M', rest)) => wall(rest).map(Record::Mark),
            Some((b'R', rest)) => wall(rest).map(Record::Restored),
            _ => Err(RecordError::Kind),
        }
    }
}

fn wall(bytes: &[u8]) -> Result<Wall, RecordError> {
    let nanos = bytes.try_into().map_err(|_| RecordError::Kind)?;
    Ok(Wall(u64::from_le_bytes(nanos)))
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { code, .. } => write!(f, "status {code}"),
            Self::Timeout => write!(f, "no answer in time"),
            Self::Connection(Fault::Unresolved) => write!(f, "its name has no address"),
            Self::Connection(Fault::Forbidden) => write!(f, "its name has only private addresses"),
            Self::Connection(Fault::Connect) => write!(f, "no connection"),
            Self::Connection(Fault::Tls) => {
                write!(f, "no TLS: its certificate is not trusted, or it speaks another version")
            }
            Self::Connection(Fault::Broken) => write!(f, "the connection broke"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_reads_back_what_was_written() {
        let answers = [
            Answer::Status { code: 503, retry_after: Some(Duration::from_secs(30)) },
            Answer::Timeout,
            Answer::Connection(Fault::Forbidden),
        ];
        for answer in answers {
            let record = Record::Attempt(Attempt { row: RowId(7), number: 2, at: Wall::from_secs(9), answer });
            assert_eq!(Record::decode(&record.encode().unwrap()).unwrap(), record);
        }
    }

    #[test]
    fn a_policy_from_before_there_were_receivers_or_bounds_is_told_and_not_misread() {
        for was in [b"C and what was a policy", b"P and what was a policy"] {
            let refused = Record::decode(was).unwrap_err();
            assert!(refused.to_string().contains("another version"), "{refused}");
        }
    }
}
