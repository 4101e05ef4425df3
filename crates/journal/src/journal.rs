//! The journal as its one writer sees it.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::active::{Active, StartFault};
use crate::disk::LOCK;
use crate::format::{RecordHeader, parse_segment_name, segment_name};
use crate::marks::Marks;
use crate::reader::Until;
use crate::recover::{Recovered, recover};
use crate::{Disk, MAX_RECORD_BYTES, OpenError, Position, Reader, RealDisk, Recovery};

/// An open journal: the only one on its directory.
///
/// Dropping it syncs nothing: what was appended since the last [`Journal::sync`] is as after a crash of the process.
pub struct Journal<D: Disk = RealDisk> {
    disk: D,
    options: Options,
    /// Oldest first; the active segment follows.
    sealed: VecDeque<Sealed>,
    sealed_bytes: u64,
    active: Active<D::File>,
    /// A new segment is due. It stays so until it is there: its name is the next position, which must not go elsewhere.
    turn: Turn,
    next: Position,
    marks: Arc<Marks>,
    health: Health,
    recovery: Recovery,
    _lock: D::Lock,
}

/// How a journal is laid out.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A segment is closed before a record would make it larger; a larger record gets a segment of its own.
    pub segment_bytes: u64,
}

/// Why a record was not appended, made durable, or cut.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// Refused at once; the journal is unchanged.
    #[error("a record of {bytes} bytes is larger than the {MAX_RECORD_BYTES} allowed")]
    TooLarge { bytes: usize },
    /// The journal is as before; a later append may succeed.
    #[error("cannot append to {}", .file.display())]
    Append { file: PathBuf, source: Arc<io::Error> },
    /// The journal is as before; a later append tries again.
    #[error("cannot start segment {}", .file.display())]
    Start { file: PathBuf, source: Arc<io::Error> },
    /// Segments from this one on are still there; a later cut tries again.
    #[error("cannot remove segment {}", .file.display())]
    Remove { file: PathBuf, source: Arc<io::Error> },
    /// Every later write fails with this same error.
    #[error("fsync of {} failed: what it holds is unknown until the journal is opened again", .file.display())]
    Sync { file: PathBuf, source: Arc<io::Error> },
}

/// A segment that is complete and durable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sealed {
    pub(crate) first: Position,
    pub(crate) end: Position,
    pub(crate) bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Stay,
    Due,
}

#[derive(Clone)]
enum Health {
    Sound,
    Poisoned { file: PathBuf, source: Arc<io::Error> },
}

impl<D: Disk> Journal<D> {
    /// Locks the directory, verifies all that is in it, cuts a torn tail, and makes the rest durable.
    pub fn open(disk: D, options: Options) -> Result<Self, OpenError> {
        let lock = disk.lock().map_err(|source| {
            let file = disk.path(LOCK);
            match source.kind() {
                io::ErrorKind::WouldBlock => OpenError::Held { file },
                _ => OpenError::Lock { file, source },
            }
        })?;
        let Recovered { sealed, active, next, recovery } = recover(&disk)?;
        let journal = Self {
            sealed_bytes: sealed.iter().map(|segment| segment.bytes).sum(),
            disk,
            options,
            sealed,
            active,
            turn: Turn::Stay,
            next,
            marks: Arc::new(Marks::default()),
            health: Health::Sound,
            recovery,
            _lock: lock,
        };
        journal.marks.set_first(journal.oldest());
        journal.marks.set_durable(next);
        journal.publish_bytes();
        Ok(journal)
    }

    /// Opens a directory without segments as a journal that begins at `first`: for a copy of one that was cut.
    pub fn begin(disk: D, first: Position, options: Options) -> Result<Self, OpenError> {
        let directory = disk.path("");
        let names = disk.list().map_err(|source| OpenError::List { directory: directory.clone(), source })?;
        if names.iter().any(|name| parse_segment_name(name).is_some()) {
            return Err(OpenError::Begun { directory });
        }
        let file = disk.path(&segment_name(first));
        Active::start(&disk, first)
            .map_err(|(StartFault::Write(source) | StartFault::Sync(source))| OpenError::Start { file, source })?;
        Self::open(disk, options)
    }

    /// Writes a record and tells where it stands. It is durable after the next [`Self::sync`].
    ///
    /// After an error that is not [`WriteError::Sync`] the journal is as before the call.
    pub fn append(&mut self, payload: &[u8]) -> Result<Position, WriteError> {
        self.check()?;
        if payload.len() > MAX_RECORD_BYTES {
            return Err(WriteError::TooLarge { bytes: payload.len() });
        }
        if self.active.overflows(payload.len(), self.options.segment_bytes) {
            self.turn = Turn::Due;
        }
        if self.turn == Turn::Due {
            self.next_segment()?;
        }
        let position = self.next;
        let header = RecordHeader::new(position, self.durable(), payload);
        if let Err(source) = self.active.append(header, payload) {
            return Err(WriteError::Append { file: self.active_path(), source: source.into() });
        }
        self.next = position.next();
        self.publish_bytes();
        Ok(position)
    }

    /// Makes everything appended durable. After an error every later write fails.
    pub fn sync(&mut self) -> Result<(), WriteError> {
        self.check()?;
        if self.durable() == self.next { Ok(()) } else { self.sync_active() }
    }

    /// Removes, durably, every segment that holds only positions before `position`, never the active one. Returns the
    /// first position that is left.
    pub fn cut_before(&mut self, position: Position) -> Result<Position, WriteError> {
        self.check()?;
        while let Some(oldest) = self.sealed.front().copied().filter(|oldest| oldest.end <= position) {
            let name = segment_name(oldest.first);
            self.marks.set_first(oldest.end);
            match self.disk.remove(&name) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    self.marks.set_first(oldest.first);
                    return Err(WriteError::Remove { file: self.disk.path(&name), source: source.into() });
                }
                _ => {}
            }
            self.sealed.pop_front();
            self.sealed_bytes -= oldest.bytes;
            self.publish_bytes();
            // One by one: a crash that kept an older file and lost a newer one would leave a hole.
            if let Err(source) = self.disk.sync_directory() {
                return Err(self.poison(self.disk.path(""), source));
            }
        }
        Ok(self.first())
    }

    /// The positions at which [`Self::cut_before`] cuts: the first of every segment but the oldest, in order. The first
    /// of them drops exactly the oldest segment.
    pub fn cuts(&self) -> impl Iterator<Item = Position> {
        self.sealed.iter().map(|segment| segment.end)
    }

    /// Reads every record from `from` on that has been appended by now, durable or not.
    pub fn read(&self, from: Position) -> Reader<D> {
        Reader::new(self.disk.clone(), self.marks.clone(), from, Until::Fixed(self.next))
    }

    /// Reads durable records from `from` on; it follows the journal and may be used on another thread.
    pub fn reader(&self, from: Position) -> Reader<D> {
        Reader::new(self.disk.clone(), self.marks.clone(), from, Until::Durable)
    }

    /// The oldest position that is still there; equal to [`Self::next`] when there is none.
    pub fn first(&self) -> Position {
        self.marks.first()
    }

    /// The position that the next record will get.
    pub fn next(&self) -> Position {
        self.next
    }

    /// Everything before this is durable.
    pub fn durable(&self) -> Position {
        self.marks.durable()
    }

    /// The bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.marks.bytes()
    }

    /// What [`Self::open`] found.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    pub(crate) fn disk(&self) -> &D {
        &self.disk
    }

    pub(crate) fn marks(&self) -> &Arc<Marks> {
        &self.marks
    }

    /// Closes the active segment and starts the next. All of the old one is durable before the new one exists.
    fn next_segment(&mut self) -> Result<(), WriteError> {
        // Bytes behind the last record would be corruption in a segment that has a successor: the repair of a failed write
        // is made durable too, even where no record is waiting for it.
        if let Err(source) = self.active.mend() {
            return Err(WriteError::Append { file: self.active_path(), source: source.into() });
        }
        self.sync_active()?;
        let fresh = match Active::start(&self.disk, self.next) {
            Ok(fresh) => fresh,
            Err(StartFault::Write(source)) => {
                let file = self.disk.path(&segment_name(self.next));
                return Err(WriteError::Start { file, source: source.into() });
            }
            Err(StartFault::Sync(source)) => {
                return Err(self.poison(self.disk.path(&segment_name(self.next)), source));
            }
        };
        let full = std::mem::replace(&mut self.active, fresh);
        self.sealed_bytes += full.bytes();
        self.sealed.push_back(Sealed { first: full.first, end: self.next, bytes: full.bytes() });
        self.turn = Turn::Stay;
        self.publish_bytes();
        Ok(())
    }

    fn sync_active(&mut self) -> Result<(), WriteError> {
        if let Err(source) = self.active.sync() {
            return Err(self.poison(self.active_path(), source));
        }
        self.marks.set_durable(self.next);
        Ok(())
    }

    fn check(&self) -> Result<(), WriteError> {
        match self.health.clone() {
            Health::Sound => Ok(()),
            Health::Poisoned { file, source } => Err(WriteError::Sync { file, source }),
        }
    }

    fn poison(&mut self, file: PathBuf, source: io::Error) -> WriteError {
        tracing::error!(file = %file.display(), error = %source, "fsync failed, journal refuses writes");
        let source = Arc::new(source);
        self.health = Health::Poisoned { file: file.clone(), source: source.clone() };
        WriteError::Sync { file, source }
    }

    fn oldest(&self) -> Position {
        self.sealed.front().map_or(self.active.first, |segment| segment.first)
    }

    fn active_path(&self) -> PathBuf {
        self.disk.path(&segment_name(self.active.first))
    }

    fn publish_bytes(&self) {
        self.marks.set_bytes(self.sealed_bytes + self.active.bytes());
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20 }
    }
}

impl WriteError {
    /// Whether there was no room on the disk: the same append may succeed after a cut.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Append { source, .. } | Self::Start { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::TooLarge { .. } | Self::Remove { .. } | Self::Sync { .. } => false,
        }
    }
}
