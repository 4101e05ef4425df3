//! The seam to the file system: one flat directory of files. [`RealDisk`] is the real one, [`crate::sim::SimDisk`] its twin.

mod real;

use std::io;
use std::path::PathBuf;

pub use real::{RealDisk, RealFile};

/// The name of the file that is locked.
pub(crate) const LOCK: &str = "lock";

/// A directory. Clones are handles to the same directory.
///
/// Creating and removing become durable with [`Disk::sync_directory`], what a file holds with [`DiskFile::sync`].
pub trait Disk: Clone + Send + Sync + 'static {
    type File: DiskFile;
    /// Held while the journal is open, released when dropped, also by the death of the process.
    type Lock: Send + 'static;

    /// Takes the directory for this process; `WouldBlock` when another holds it.
    fn lock(&self) -> io::Result<Self::Lock>;

    /// The names of all files, in any order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// An empty file for reading and writing; one of the same name is emptied.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// An existing file, for reading and writing.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    fn remove(&self, name: &str) -> io::Result<()>;

    fn sync_directory(&self) -> io::Result<()>;

    /// Where an operator finds the file; for messages.
    fn path(&self, name: &str) -> PathBuf;
}

/// An open file. Offsets are explicit: there is no cursor.
pub trait DiskFile: Send + Sync + 'static {
    /// The length in bytes.
    fn size(&self) -> io::Result<u64>;

    /// Fills `buffer` from `offset` on and returns how much of it was filled: less than all only at the end of the file.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes`. After an error any part of them may have been written.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file to `size` bytes.
    fn truncate(&mut self, size: u64) -> io::Result<()>;

    /// Makes content and length durable.
    fn sync(&mut self) -> io::Result<()>;
}
