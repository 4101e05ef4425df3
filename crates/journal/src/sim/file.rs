//! An open file of a simulated disk.

use std::io;
use std::sync::MutexGuard;

use super::{Fault, Operation, SimDisk, State};
use crate::DiskFile;

/// A file of a [`SimDisk`]. It is dead after a crash.
pub struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) content: usize,
    pub(super) boot: u64,
}

impl SimFile {
    /// The disk, for an operation on this file, and how the operation is to fail.
    fn enter(&self, operation: Operation) -> io::Result<(MutexGuard<'_, State>, Result<(), Fault>)> {
        let mut state = self.disk.state();
        if state.boot != self.boot {
            return Err(io::Error::other("the file was opened before the crash"));
        }
        let entered = state.enter(operation);
        Ok((state, entered))
    }
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        let (state, entered) = self.enter(Operation::Read)?;
        entered?;
        Ok(state.contents[self.content].current().len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let (state, entered) = self.enter(Operation::Read)?;
        entered?;
        let current = state.contents[self.content].current();
        let rest = &current[current.len().min(offset as usize)..];
        let filled = rest.len().min(buffer.len());
        buffer[..filled].copy_from_slice(&rest[..filled]);
        Ok(filled)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (mut state, entered) = self.enter(Operation::Write)?;
        let entered =
            entered.map_err(|fault| (fault, if fault == Fault::PowerLoss { bytes.len() } else { bytes.len() / 2 }));
        let size = state.contents[self.content].current().len() as u64;
        let fits = size.saturating_sub(offset).saturating_add(state.room());
        let wanted = entered.map_or_else(|(_, written)| written, |()| bytes.len());
        let written = wanted.min(usize::try_from(fits).unwrap_or(usize::MAX));
        state.contents[self.content].write(offset, &bytes[..written]);
        match entered {
            Err((fault, _)) => Err(fault.into()),
            Ok(()) if written < bytes.len() => Err(Fault::NoSpace.into()),
            Ok(()) => Ok(()),
        }
    }

    fn truncate(&mut self, size: u64) -> io::Result<()> {
        let (mut state, entered) = self.enter(Operation::Truncate)?;
        if matches!(entered, Ok(()) | Err(Fault::PowerLoss)) {
            state.contents[self.content].truncate(size as usize);
        }
        Ok(entered?)
    }

    fn sync(&mut self) -> io::Result<()> {
        let (mut state, entered) = self.enter(Operation::Sync)?;
        match entered {
            Ok(()) => state.contents[self.content].sync(),
            Err(Fault::PowerLoss) => {}
            Err(Fault::NoSpace | Fault::Broken) => state.contents[self.content].lose(),
        }
        Ok(entered?)
    }
}
