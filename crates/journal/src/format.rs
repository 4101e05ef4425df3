//! The bytes of segments: names, headers, checksums. The layout stands in the crate's documentation.

use std::hash::{BuildHasher, RandomState};

use crate::Position;

/// The largest payload of a record, in bytes.
pub const MAX_RECORD_BYTES: usize = 64 << 20;

/// The version of the format that this program writes, and the only one it reads.
pub(crate) const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"isochrnj";
const SUFFIX: &str = ".segment";
const DIGITS: usize = 20;

pub(crate) fn segment_name(first: Position) -> String {
    format!("{:0DIGITS$}{SUFFIX}", first.0)
}

/// The first position that a segment's name tells; `None` for a file that is no segment.
pub(crate) fn parse_segment_name(name: &str) -> Option<Position> {
    let digits = name.strip_suffix(SUFFIX)?;
    let well_formed = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    well_formed.then(|| digits.parse().ok().map(Position))?
}

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) first: Position,
    pub(crate) salt: u64,
}

/// Why a segment's header is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    Damaged,
    Version(u32),
}

impl SegmentHeader {
    pub(crate) const BYTES: usize = 32;

    /// A header with a fresh salt.
    pub(crate) fn new(first: Position) -> Self {
        Self { first, salt: RandomState::new().hash_one(first) }
    }

    pub(crate) fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[24..].copy_from_slice(&self.salt.to_le_bytes());
        let crc = Self::crc(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; Self::BYTES]) -> Result<Self, HeaderFault> {
        if bytes[..8] != MAGIC || u32_at(bytes, 12) != Self::crc(bytes) {
            return Err(HeaderFault::Damaged);
        }
        match u32_at(bytes, 8) {
            VERSION => Ok(Self { first: Position(u64_at(bytes, 16)), salt: u64_at(bytes, 24) }),
            other => Err(HeaderFault::Version(other)),
        }
    }

    fn crc(bytes: &[u8; Self::BYTES]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..])
    }
}

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) position: Position,
    /// Everything before this was durable when the record was written. The first record after an fsync has its own position.
    pub(crate) synced: Position,
    length: u32,
    payload_crc: u32,
}

impl RecordHeader {
    pub(crate) const BYTES: usize = 28;

    /// The caller has checked that the payload is at most [`MAX_RECORD_BYTES`].
    pub(crate) fn new(position: Position, synced: Position, payload: &[u8]) -> Self {
        Self { position, synced, length: payload.len() as u32, payload_crc: crc32c::crc32c(payload) }
    }

    pub(crate) fn encode(self, salt: u64) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.position.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.synced.0.to_le_bytes());
        bytes[24..].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = Self::crc(&bytes, salt);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` for bytes that no journal wrote into this segment.
    pub(crate) fn decode(bytes: &[u8; Self::BYTES], salt: u64) -> Option<Self> {
        let header = Self {
            position: Position(u64_at(bytes, 8)),
            synced: Position(u64_at(bytes, 16)),
            length: u32_at(bytes, 4),
            payload_crc: u32_at(bytes, 24),
        };
        // The checksum last: a search for headers tries every byte, and the bounds reject nearly all.
        let sane = header.payload_bytes() <= MAX_RECORD_BYTES && header.synced <= header.position;
        (sane && u32_at(bytes, 0) == Self::crc(bytes, salt)).then_some(header)
    }

    pub(crate) fn payload_bytes(self) -> usize {
        self.length as usize
    }

    /// Header and payload together.
    pub(crate) fn record_bytes(self) -> u64 {
        Self::BYTES as u64 + u64::from(self.length)
    }

    /// Whether `payload` is the one this header was made for.
    pub(crate) fn matches(self, payload: &[u8]) -> bool {
        payload.len() == self.payload_bytes() && crc32c::crc32c(payload) == self.payload_crc
    }

    fn crc(bytes: &[u8; Self::BYTES], salt: u64) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), &bytes[4..])
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}

#[cfg(test)]
mod tests {
    use super::{HeaderFault, RecordHeader, SegmentHeader, parse_segment_name, segment_name};
    use crate::Position;

    #[test]
    fn a_name_tells_the_first_position_and_other_files_are_no_segments() {
        assert_eq!(segment_name(Position(42)), "00000000000000000042.segment");
        for position in [0, 42, u64::MAX] {
            assert_eq!(parse_segment_name(&segment_name(Position(position))), Some(Position(position)));
        }
        for other in ["lock", "42.segment", "0000000000000000004x.segment", "99999999999999999999.segment"] {
            assert_eq!(parse_segment_name(other), None, "{other}");
        }
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let segment = SegmentHeader { first: Position(7), salt: 0x1234_5678_9abc_def0 };
        let record = RecordHeader::new(Position(9), Position(8), b"payload");
        assert_eq!(SegmentHeader::decode(&segment.encode()), Ok(segment));
        assert_eq!(RecordHeader::decode(&record.encode(segment.salt), segment.salt), Some(record));
        for bit in 0..8 * SegmentHeader::BYTES {
            let mut bytes = segment.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&bytes), Err(HeaderFault::Damaged), "bit {bit}");
        }
        for bit in 0..8 * RecordHeader::BYTES {
            let mut bytes = record.encode(segment.salt);
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(RecordHeader::decode(&bytes, segment.salt), None, "bit {bit}");
        }
    }

    #[test]
    fn a_record_of_another_segment_or_of_zeros_is_not_taken_for_one() {
        let record = RecordHeader::new(Position(0), Position(0), b"");
        assert_eq!(RecordHeader::decode(&record.encode(1), 2), None);
        assert_eq!(RecordHeader::decode(&[0; RecordHeader::BYTES], 1), None);
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut bytes = SegmentHeader { first: Position(7), salt: 3 }.encode();
        bytes[8] = 2;
        let crc = SegmentHeader::crc(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes), Err(HeaderFault::Version(2)));
    }
}
