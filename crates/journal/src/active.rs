//! The segment that is being written. It knows where its last whole record ends, and lets nothing stand behind that.

use std::io;

use crate::format::{RecordHeader, SegmentHeader, segment_name};
use crate::{Disk, DiskFile, Position};

/// How much room for one record's bytes is kept between appends.
const SCRATCH_BYTES: usize = 1 << 20;

pub(crate) struct Active<F> {
    pub(crate) first: Position,
    salt: u64,
    file: F,
    /// The offset behind the last whole record: the next one goes here.
    end: u64,
    tail: Tail,
    scratch: Vec<u8>,
}

/// Whether a failed write may have left bytes behind `end`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tail {
    Clean,
    Dirty,
}

/// Why a segment could not be started.
#[derive(Debug)]
pub(crate) enum StartFault {
    /// Nothing is lost; it may be tried again.
    Write(io::Error),
    /// What is on disk is unknown.
    Sync(io::Error),
}

impl<F: DiskFile> Active<F> {
    /// Starts an empty segment and makes it durable. What a failed try left under the same name is overwritten.
    pub(crate) fn start<D: Disk<File = F>>(disk: &D, first: Position) -> Result<Self, StartFault> {
        let header = SegmentHeader::new(first);
        let mut file = disk.create(&segment_name(first)).map_err(StartFault::Write)?;
        file.write_at(0, &header.encode()).map_err(StartFault::Write)?;
        file.sync().map_err(StartFault::Sync)?;
        disk.sync_directory().map_err(StartFault::Sync)?;
        Ok(Self::resume(header, file, SegmentHeader::BYTES as u64))
    }

    /// Goes on behind `end`, where the file ends.
    pub(crate) fn resume(header: SegmentHeader, file: F, end: u64) -> Self {
        Self { first: header.first, salt: header.salt, file, end, tail: Tail::Clean, scratch: Vec::new() }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.end
    }

    /// Whether a record of so many payload bytes would make the segment larger than `limit`. An empty one takes any.
    pub(crate) fn overflows(&self, payload_bytes: usize, limit: u64) -> bool {
        let record = (RecordHeader::BYTES + payload_bytes) as u64;
        self.end > SegmentHeader::BYTES as u64 && self.end + record > limit
    }

    /// Writes one record. After an error the segment is as before, on disk once [`Self::mend`] succeeds.
    pub(crate) fn append(&mut self, header: RecordHeader, payload: &[u8]) -> io::Result<()> {
        self.mend()?;
        self.scratch.clear();
        self.scratch.extend_from_slice(&header.encode(self.salt));
        self.scratch.extend_from_slice(payload);
        let written = self.file.write_at(self.end, &self.scratch);
        self.scratch.shrink_to(SCRATCH_BYTES);
        if let Err(error) = written {
            self.tail = Tail::Dirty;
            // Tried again before the next write: the caller learns of the write that failed, not of the repair.
            drop(self.mend());
            return Err(error);
        }
        self.end += header.record_bytes();
        Ok(())
    }

    /// Cuts away what a failed write left.
    pub(crate) fn mend(&mut self) -> io::Result<()> {
        if self.tail == Tail::Dirty {
            self.file.truncate(self.end)?;
            self.tail = Tail::Clean;
        }
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }
}
