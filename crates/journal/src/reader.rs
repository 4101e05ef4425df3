//! Reads records in order, straight from the files, without the writer's help.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::format::{HeaderFault, RecordHeader, SegmentHeader, parse_segment_name, segment_name};
use crate::marks::Marks;
use crate::segment::{Found, read_payload, read_record_header, read_segment_header};
use crate::{Corruption, Damage, Disk, DiskFile, Position, RealDisk};

/// An iterator over records. `None` means *nothing more by now*: a reader of durable records may be asked again later.
/// After an error it yields nothing more until [`Reader::seek`].
pub struct Reader<D: Disk = RealDisk> {
    disk: D,
    marks: Arc<Marks>,
    until: Until,
    position: Position,
    place: Place<D::File>,
}

/// Why a record could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The record was cut away. `first` is the oldest that is left. (A segment that a reader has open is read to its end.)
    #[error("record {wanted} has been cut away, the first that is left is {first}")]
    Cut { wanted: Position, first: Position },
    #[error("cannot read {}", .file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error(transparent)]
    Corrupt(#[from] Corruption),
}

/// Where a reader stops.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    Fixed(Position),
    Durable,
}

/// Where the record at the reader's position stands.
enum Place<F> {
    /// Not looked for yet.
    Unknown,
    At(Open<F>),
    Failed,
}

/// A segment's file, and the offset in it.
struct Open<F> {
    file: F,
    path: PathBuf,
    salt: u64,
    offset: u64,
}

impl<D: Disk> Iterator for Reader<D> {
    type Item = Result<(Position, Vec<u8>), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.position >= self.end() || matches!(self.place, Place::Failed) {
            return None;
        }
        let read = self.read();
        match &read {
            Ok(_) => self.position = self.position.next(),
            Err(_) => self.place = Place::Failed,
        }
        Some(read)
    }
}

impl<D: Disk> Reader<D> {
    pub(crate) fn new(disk: D, marks: Arc<Marks>, from: Position, until: Until) -> Self {
        Self { disk, marks, until, position: from, place: Place::Unknown }
    }

    /// The position of the record that comes next.
    pub fn at(&self) -> Position {
        self.position
    }

    /// Goes on at `position`, also after an error.
    pub fn seek(&mut self, position: Position) {
        self.position = position;
        self.place = Place::Unknown;
    }

    fn end(&self) -> Position {
        match self.until {
            Until::Fixed(end) => end,
            Until::Durable => self.marks.durable(),
        }
    }

    /// Reads the record at `position`, which is known to have been written whole.
    fn read(&mut self) -> Result<(Position, Vec<u8>), ReadError> {
        let position = self.position;
        let mut open = match std::mem::replace(&mut self.place, Place::Unknown) {
            Place::At(open) => open,
            Place::Unknown | Place::Failed => self.locate(position)?,
        };
        let mut header = open.header(position)?;
        if header.is_none() {
            // The segment is complete, so the record is the first of the next one.
            open = self.open(position)?;
            header = open.header(position)?;
        }
        let header = header.ok_or_else(|| open.corrupt(Damage::Record(position)))?;
        let payload = open.payload(position, header)?;
        self.place = Place::At(open);
        Ok((position, payload))
    }

    /// Looks for the segment that holds `position`, and for the record in it, going from header to header.
    fn locate(&self, position: Position) -> Result<Open<D::File>, ReadError> {
        let names = self.disk.list().map_err(|source| ReadError::Read { file: self.disk.path(""), source })?;
        let firsts = names.iter().filter_map(|name| parse_segment_name(name));
        // Where none is left that begins early enough, opening the one that should be there tells why.
        let first = firsts.filter(|first| *first <= position).max().unwrap_or(position);
        let mut open = self.open(first)?;
        let mut at = first;
        while at < position {
            let header = open.header(at)?.ok_or_else(|| open.corrupt(Damage::Record(at)))?;
            open.offset += header.record_bytes();
            at = at.next();
        }
        Ok(open)
    }

    fn open(&self, first: Position) -> Result<Open<D::File>, ReadError> {
        let name = segment_name(first);
        let path = self.disk.path(&name);
        let file = self.disk.open(&name).map_err(|source| self.missing(&path, source))?;
        let mut open = Open { file, path, salt: 0, offset: 0 };
        match read_segment_header(&open.file).map_err(|source| open.unreadable(source))? {
            Ok(header) if header.first == first => open.salt = header.salt,
            Ok(header) => return Err(open.corrupt(Damage::Name { name: first, header: header.first })),
            Err(HeaderFault::Damaged | HeaderFault::Version(_)) => return Err(open.corrupt(Damage::Header)),
        }
        open.offset = SegmentHeader::BYTES as u64;
        Ok(open)
    }

    /// A file that is not there has been cut away, or should be there.
    fn missing(&self, path: &Path, source: io::Error) -> ReadError {
        let first = self.marks.first();
        if self.position < first {
            ReadError::Cut { wanted: self.position, first }
        } else {
            ReadError::Read { file: path.to_owned(), source }
        }
    }
}

impl<F: DiskFile> Open<F> {
    /// `None` at the end of the file.
    fn header(&self, position: Position) -> Result<Option<RecordHeader>, ReadError> {
        match read_record_header(&self.file, self.offset, self.salt, position) {
            Ok(Found::Record(header)) => Ok(Some(header)),
            Ok(Found::End) => Ok(None),
            Ok(Found::Damaged) => Err(self.corrupt(Damage::Record(position))),
            Err(source) => Err(self.unreadable(source)),
        }
    }

    fn payload(&mut self, position: Position, header: RecordHeader) -> Result<Vec<u8>, ReadError> {
        let mut payload = Vec::new();
        match read_payload(&self.file, self.offset, header, &mut payload) {
            Ok(true) => {
                self.offset += header.record_bytes();
                Ok(payload)
            }
            Ok(false) => Err(self.corrupt(Damage::Record(position))),
            Err(source) => Err(self.unreadable(source)),
        }
    }

    fn corrupt(&self, damage: Damage) -> ReadError {
        Corruption { file: self.path.clone(), offset: self.offset, damage }.into()
    }

    fn unreadable(&self, source: io::Error) -> ReadError {
        ReadError::Read { file: self.path.clone(), source }
    }
}
