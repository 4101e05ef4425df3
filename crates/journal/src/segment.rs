//! Reads one segment, and tells a torn tail from corruption.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::format::{HeaderFault, RecordHeader, SegmentHeader};
use crate::{DiskFile, Position};

/// Damage to what had been durable. Nothing was changed on disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is damaged at byte {offset}: {damage}; this was durable once, so it is no torn write, and nothing was changed",
    file.display()
)]
pub struct Corruption {
    pub file: PathBuf,
    pub offset: u64,
    pub damage: Damage,
}

/// What is wrong with a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The segment's header fails its checksum.
    Header,
    /// The header says that the segment begins with another position than its name.
    Name { name: Position, header: Position },
    /// The segment before ends elsewhere than this one begins: a file is missing or is not of this journal.
    Gap { expected: Position, found: Position },
    /// The record fails its checksum, or is cut short.
    Record(Position),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => write!(f, "the segment's header fails its checksum"),
            Self::Name { name, header } => write!(f, "it is named after position {name}, its header says {header}"),
            Self::Gap { expected, found } => {
                write!(f, "it begins with position {found}, but the segment before it ends before {expected}")
            }
            Self::Record(position) => write!(f, "record {position} fails its checksum or is cut short"),
        }
    }
}

/// What stands at an offset.
pub(crate) enum Found {
    Record(RecordHeader),
    End,
    Damaged,
}

pub(crate) fn read_segment_header<F: DiskFile>(file: &F) -> io::Result<Result<SegmentHeader, HeaderFault>> {
    let mut bytes = [0; SegmentHeader::BYTES];
    let filled = file.read_at(0, &mut bytes)?;
    Ok(if filled < bytes.len() { Err(HeaderFault::Damaged) } else { SegmentHeader::decode(&bytes) })
}

/// Reads the header of the record at `offset`, which must be that of `expected`.
pub(crate) fn read_record_header<F: DiskFile>(
    file: &F,
    offset: u64,
    salt: u64,
    expected: Position,
) -> io::Result<Found> {
    let mut bytes = [0; RecordHeader::BYTES];
    let filled = file.read_at(offset, &mut bytes)?;
    if filled == 0 {
        return Ok(Found::End);
    }
    let header = (filled == bytes.len()).then(|| RecordHeader::decode(&bytes, salt)).flatten();
    Ok(header.filter(|header| header.position == expected).map_or(Found::Damaged, Found::Record))
}

/// Reads the payload of the record at `offset` into `payload`; `false` when it is damaged or cut short.
pub(crate) fn read_payload<F: DiskFile>(
    file: &F,
    offset: u64,
    header: RecordHeader,
    payload: &mut Vec<u8>,
) -> io::Result<bool> {
    payload.resize(header.payload_bytes(), 0);
    let filled = file.read_at(offset + RecordHeader::BYTES as u64, payload)?;
    Ok(filled == payload.len() && header.matches(payload))
}

/// What a segment holds, every checksum verified.
#[derive(Debug)]
pub(crate) struct Scan {
    /// The position behind the last whole record.
    pub(crate) next: Position,
    /// The offset behind the last whole record.
    pub(crate) end: u64,
    /// From this offset to `end` no later record proves that an fsync succeeded.
    pub(crate) doubtful: u64,
    pub(crate) tail: Tail,
}

/// What stands behind the last whole record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    Clean,
    /// So many bytes that nothing proves to have been durable.
    Torn(u64),
    /// The record at the end of the run is damaged, and a later one proves that it had been durable.
    Corrupt,
}

pub(crate) fn scan<F: DiskFile>(file: &F, segment: SegmentHeader) -> io::Result<Scan> {
    let size = file.size()?;
    let mut next = segment.first;
    let mut end = SegmentHeader::BYTES as u64;
    // Without a record not even the header is proven.
    let mut doubtful = 0;
    let mut payload = Vec::new();
    let tail = loop {
        let header = match read_record_header(file, end, segment.salt, next)? {
            Found::Record(header) => header,
            Found::End => break Tail::Clean,
            Found::Damaged => break judge(file, end, segment.salt, next, size)?,
        };
        if !read_payload(file, end, header, &mut payload)? {
            break judge(file, end, segment.salt, next, size)?;
        }
        if header.synced == header.position {
            doubtful = end;
        }
        next = next.next();
        end += header.record_bytes();
    };
    Ok(Scan { next, end, doubtful, tail })
}

/// Searches from the damage on, at every byte, for a record that was written after `damaged` had been made durable.
fn judge<F: DiskFile>(file: &F, damage: u64, salt: u64, damaged: Position, size: u64) -> io::Result<Tail> {
    const STRIDE: usize = 64 << 10;
    let mut window = vec![0; STRIDE + RecordHeader::BYTES - 1];
    let mut offset = damage;
    loop {
        let filled = file.read_at(offset, &mut window)?;
        let proves = |bytes: &[u8; RecordHeader::BYTES]| {
            RecordHeader::decode(bytes, salt).is_some_and(|header| header.synced > damaged)
        };
        if window[..filled].array_windows().any(proves) {
            return Ok(Tail::Corrupt);
        }
        if filled < window.len() {
            return Ok(Tail::Torn(size - damage));
        }
        offset += STRIDE as u64;
    }
}
