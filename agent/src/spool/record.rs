//! What the journal of a spool holds. A record is one tag byte and a body, all integers little-endian.
//!
//! ```text
//! B  boot u128 | sequence u64 | offered at, ns since 1970 u64 | the batch as it is sent
//! D  boot u128 | sequence u64                      taken or refused
//! L  (boot u128 | from u64 | to u64)*              all that is lost and was not told; the last one holds
//! ```
//! A `D` is not made durable on its own: losing it means that a batch is sent again, which the collector does not count.

use telemetry::{Boot, Gap, Sequence, Wall};

use super::Name;

/// Before the body of a batch.
pub(super) const HEAD: usize = 1 + 16 + 8 + 8;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    Batch { name: Name, at: Wall, body: &'a [u8] },
    Done(Name),
    Lost(Vec<Gap>),
}

impl<'a> Record<'a> {
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Batch { name, at, body } => {
                let mut record = Vec::with_capacity(HEAD + body.len());
                record.push(b'B');
                record.extend(encode_name(*name));
                record.extend(at.0.to_le_bytes());
                record.extend_from_slice(body);
                record
            }
            Self::Done(name) => [&b"D"[..], &encode_name(*name)].concat(),
            Self::Lost(gaps) => {
                let gap = |gap: &Gap| {
                    let from = encode_name(Name { boot: gap.boot, sequence: gap.from });
                    [&from[..], &gap.to.0.to_le_bytes()].concat()
                };
                std::iter::once(b'L').chain(gaps.iter().flat_map(gap)).collect()
            }
        }
    }

    /// `None`: of no kind that this version writes.
    pub(super) fn decode(record: &'a [u8]) -> Option<Self> {
        let (tag, mut rest) = record.split_first()?;
        match tag {
            b'B' => {
                let name = take_name(&mut rest)?;
                Some(Self::Batch { name, at: Wall(take_u64(&mut rest)?), body: rest })
            }
            b'D' => take_name(&mut rest).filter(|_| rest.is_empty()).map(Self::Done),
            b'L' => {
                let mut gaps = Vec::new();
                while !rest.is_empty() {
                    let Name { boot, sequence: from } = take_name(&mut rest)?;
                    gaps.push(Gap { boot, from, to: Sequence(take_u64(&mut rest)?) });
                }
                Some(Self::Lost(gaps))
            }
            _ => None,
        }
    }
}

fn encode_name(name: Name) -> Vec<u8> {
    [&name.boot.0.to_le_bytes()[..], &name.sequence.0.to_le_bytes()].concat()
}

fn take_name(rest: &mut &[u8]) -> Option<Name> {
    let boot = Boot(u128::from_le_bytes(*rest.split_off(..16)?.as_array()?));
    Some(Name { boot, sequence: Sequence(take_u64(rest)?) })
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(*rest.split_off(..8)?.as_array()?))
}
