//! Opens what an earlier process left: verifies every record, cuts a torn tail, and makes durable what is kept.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use crate::active::{Active, StartFault};
use crate::format::{HeaderFault, SegmentHeader, VERSION, parse_segment_name, segment_name};
use crate::journal::Sealed;
use crate::segment::{Scan, Tail, read_segment_header, scan};
use crate::{Corruption, Damage, Disk, DiskFile, Position};

const COPY_BYTES: u64 = 64 << 10;

/// What [`crate::Journal::open`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Every byte was a whole record, if there were any.
    Whole,
    /// The last `bytes` of `file`, from `offset` on, were torn and have been cut. Nobody had been told they were durable.
    Torn { file: PathBuf, offset: u64, bytes: u64 },
}

/// Why a journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{} is held by another process: only one may use a journal at a time", .file.display())]
    Held { file: PathBuf },
    #[error("cannot lock {}", .file.display())]
    Lock { file: PathBuf, source: io::Error },
    #[error("{} holds a journal already", .directory.display())]
    Begun { directory: PathBuf },
    #[error("cannot list {}", .directory.display())]
    List { directory: PathBuf, source: io::Error },
    #[error("cannot read {}", .file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    #[error("{} is of version {found}, this program reads version {VERSION}: use the program that wrote it", .file.display())]
    Version { file: PathBuf, found: u32 },
    #[error("cannot start segment {}", .file.display())]
    Start { file: PathBuf, source: io::Error },
    #[error("cannot write the tail of {} again", .file.display())]
    Rewrite { file: PathBuf, source: io::Error },
    #[error("cannot make {} durable", .directory.display())]
    SyncDirectory { directory: PathBuf, source: io::Error },
}

pub(crate) struct Recovered<F> {
    pub(crate) sealed: VecDeque<Sealed>,
    pub(crate) active: Active<F>,
    /// The position behind the last record; all before it are durable.
    pub(crate) next: Position,
    pub(crate) recovery: Recovery,
}

pub(crate) fn recover<D: Disk>(disk: &D) -> Result<Recovered<D::File>, OpenError> {
    let directory = disk.path("");
    let names = disk.list().map_err(|source| OpenError::List { directory: directory.clone(), source })?;
    let mut firsts: Vec<Position> = names.iter().filter_map(|name| parse_segment_name(name)).collect();
    firsts.sort_unstable();

    let last = firsts.pop();
    let mut sealed = VecDeque::new();
    let mut next = firsts.first().copied().or(last).unwrap_or(Position::START);
    for first in firsts {
        let segment = verify_sealed(disk, first, next)?;
        next = segment.end;
        sealed.push_back(segment);
    }
    let (active, next, recovery) = match last {
        Some(first) => recover_last(disk, first, next)?,
        None => (start(disk, next)?, next, Recovery::Whole),
    };
    // A name may be there only because the page cache still has it.
    disk.sync_directory().map_err(|source| OpenError::SyncDirectory { directory, source })?;
    Ok(Recovered { sealed, active, next, recovery })
}

/// Every byte of a segment that has a successor was durable before the successor was created.
fn verify_sealed<D: Disk>(disk: &D, first: Position, expected: Position) -> Result<Sealed, OpenError> {
    let segment = Segment::open(disk, first, expected)?;
    let header = segment.header()?.ok_or_else(|| segment.corrupt(0, Damage::Header))?;
    let scan = segment.scan(header)?;
    match scan.tail {
        Tail::Clean => Ok(Sealed { first, end: scan.next, bytes: scan.end }),
        Tail::Torn(_) | Tail::Corrupt => Err(segment.corrupt(scan.end, Damage::Record(scan.next))),
    }
}

fn recover_last<D: Disk>(
    disk: &D,
    first: Position,
    expected: Position,
) -> Result<(Active<D::File>, Position, Recovery), OpenError> {
    let mut segment = Segment::open(disk, first, expected)?;
    let Some(header) = segment.header()? else {
        // The header is made durable before the first record is written: a file that holds more has had one.
        if segment.size()? > SegmentHeader::BYTES as u64 {
            return Err(segment.corrupt(0, Damage::Header));
        }
        return Ok((start(disk, first)?, first, Recovery::Whole));
    };
    let scan = segment.scan(header)?;
    let recovery = match scan.tail {
        Tail::Clean => Recovery::Whole,
        Tail::Torn(bytes) => {
            tracing::warn!(file = %segment.path.display(), offset = scan.end, bytes, "torn tail cut");
            Recovery::Torn { file: segment.path.clone(), offset: scan.end, bytes }
        }
        Tail::Corrupt => return Err(segment.corrupt(scan.end, Damage::Record(scan.next))),
    };
    segment.settle(&scan).map_err(|source| OpenError::Rewrite { file: segment.path.clone(), source })?;
    Ok((Active::resume(header, segment.file, scan.end), scan.next, recovery))
}

fn start<D: Disk>(disk: &D, first: Position) -> Result<Active<D::File>, OpenError> {
    Active::start(disk, first).map_err(|fault| match fault {
        StartFault::Write(source) | StartFault::Sync(source) => {
            OpenError::Start { file: disk.path(&segment_name(first)), source }
        }
    })
}

/// One segment's file, with its name for messages.
struct Segment<F> {
    first: Position,
    path: PathBuf,
    file: F,
}

impl<F: DiskFile> Segment<F> {
    fn open<D: Disk<File = F>>(disk: &D, first: Position, expected: Position) -> Result<Self, OpenError> {
        let name = segment_name(first);
        let path = disk.path(&name);
        if first != expected {
            return Err(Corruption { file: path, offset: 0, damage: Damage::Gap { expected, found: first } }.into());
        }
        match disk.open(&name) {
            Ok(file) => Ok(Self { first, path, file }),
            Err(source) => Err(OpenError::Read { file: path, source }),
        }
    }

    /// `None` when it is damaged: whether that is allowed depends on where the segment stands.
    fn header(&self) -> Result<Option<SegmentHeader>, OpenError> {
        match read_segment_header(&self.file).map_err(|source| self.unreadable(source))? {
            Ok(header) if header.first == self.first => Ok(Some(header)),
            Ok(header) => Err(self.corrupt(0, Damage::Name { name: self.first, header: header.first })),
            Err(HeaderFault::Version(found)) => Err(OpenError::Version { file: self.path.clone(), found }),
            Err(HeaderFault::Damaged) => Ok(None),
        }
    }

    fn size(&self) -> Result<u64, OpenError> {
        self.file.size().map_err(|source| self.unreadable(source))
    }

    fn scan(&self, header: SegmentHeader) -> Result<Scan, OpenError> {
        scan(&self.file, header).map_err(|source| self.unreadable(source))
    }

    /// Cuts the tail, and makes the rest durable. Records that no later one proves durable are written again first: when
    /// an fsync failed before the restart, the kernel may hold them as clean pages that never reach the disk.
    fn settle(&mut self, scan: &Scan) -> io::Result<()> {
        if scan.tail != Tail::Clean {
            self.file.truncate(scan.end)?;
        }
        let mut buffer = vec![0; COPY_BYTES as usize];
        let mut offset = scan.doubtful;
        while offset < scan.end {
            let chunk = &mut buffer[..COPY_BYTES.min(scan.end - offset) as usize];
            let filled = self.file.read_at(offset, chunk)?;
            if filled < chunk.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.file.write_at(offset, chunk)?;
            offset += filled as u64;
        }
        self.file.sync()
    }

    fn corrupt(&self, offset: u64, damage: Damage) -> OpenError {
        Corruption { file: self.path.clone(), offset, damage }.into()
    }

    fn unreadable(&self, source: io::Error) -> OpenError {
        OpenError::Read { file: self.path.clone(), source }
    }
}
