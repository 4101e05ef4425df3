//! A disk in memory that behaves as badly as a real one may: the twin of [`crate::RealDisk`], for the tests of everything
//! that stands on a journal.
//!
//! - What was written since the last fsync may be lost at a crash, torn at any byte, or have holes.
//! - What was created or removed since the last fsync of the directory may be lost, in any combination.
//! - Any operation can be made to fail. A write that fails leaves half of its bytes. After a failed fsync the bytes are still
//!   read back but never reach the disk, and the next fsync reports success, as Linux does.

mod content;
mod crash;
mod fault;
mod file;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Disk;
pub use crash::{Dice, Keep};
pub use fault::{Fault, Operation};
pub use file::SimFile;

use content::Content;
use crash::Names;
use fault::Plans;

/// A simulated directory; clones are handles to the same one.
#[derive(Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// Releases the directory when dropped.
pub struct SimLock {
    disk: SimDisk,
    boot: u64,
}

#[derive(Default)]
struct State {
    contents: Vec<Content>,
    names: Names,
    plans: Plans,
    counts: BTreeMap<Operation, u64>,
    capacity: Option<u64>,
    power: Power,
    boot: u64,
    locked: bool,
}

#[derive(Default, PartialEq, Eq)]
enum Power {
    #[default]
    On,
    Off,
}

impl SimDisk {
    /// Makes one operation fail: of those of that kind (any, for `None`), the one after the next `before`.
    pub fn fail(&self, operation: Option<Operation>, before: u64, fault: Fault) {
        self.state().plans.add(operation, before, fault);
    }

    /// Lets all files together hold so many bytes: a write that needs more fills the disk and then fails.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity = Some(bytes);
    }

    /// Forgets planned faults and the capacity.
    pub fn heal(&self) {
        let mut state = self.state();
        state.plans.clear();
        state.capacity = None;
    }

    /// Cuts the power and turns it on again. Of what was not durable, `data` says what is kept of each file, `names` what
    /// of the creations and removals. Faults and capacity are forgotten, open files are dead, the lock is free.
    pub fn crash(&self, data: Keep, names: Keep) {
        let mut state = self.state();
        state.names.crash(names);
        for content in &mut state.contents {
            content.crash(data);
        }
        state.plans.clear();
        state.capacity = None;
        state.power = Power::On;
        state.locked = false;
        state.boot += 1;
    }

    /// Whether a [`Fault::PowerLoss`] has struck.
    pub fn is_off(&self) -> bool {
        self.state().power == Power::Off
    }

    /// The bytes of all files, as they are read now.
    pub fn bytes(&self) -> u64 {
        self.state().used()
    }

    /// How many operations of that kind were asked for, failed ones included.
    pub fn count(&self, operation: Operation) -> u64 {
        self.state().counts.get(&operation).copied().unwrap_or(0)
    }

    /// How many operations of any kind were asked for.
    pub fn operations(&self) -> u64 {
        self.state().counts.values().sum()
    }

    /// The most bytes of any one file that a crash may tear.
    pub fn unsynced_bytes(&self) -> u64 {
        self.state().contents.iter().map(Content::unsynced_bytes).max().unwrap_or(0)
    }

    /// How many creations and removals a crash may undo.
    pub fn unsynced_names(&self) -> u64 {
        self.state().names.unsynced()
    }

    /// The bytes of a file as they are read now; `None` when there is no such file.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        Some(state.contents[state.names.find(name)?].current().to_vec())
    }

    /// Puts a file there, durably, behind everybody's back.
    pub fn plant(&self, name: &str, bytes: &[u8]) {
        let mut state = self.state();
        state.contents.push(Content::durable(bytes));
        let content = state.contents.len() - 1;
        state.names.plant(name, content);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts an operation and finds out whether it is to fail.
    fn enter(&mut self, operation: Operation) -> Result<(), Fault> {
        *self.counts.entry(operation).or_default() += 1;
        if self.power == Power::Off {
            return Err(Fault::Broken);
        }
        let Some(fault) = self.plans.due(operation) else { return Ok(()) };
        if fault == Fault::PowerLoss {
            self.power = Power::Off;
        }
        Err(fault)
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        self.names.find(name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The bytes that may still be written.
    fn room(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()))
    }

    fn used(&self) -> u64 {
        self.names.contents().map(|content| self.contents[content].current().len() as u64).sum()
    }
}

impl Disk for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn lock(&self) -> io::Result<SimLock> {
        let mut state = self.state();
        if std::mem::replace(&mut state.locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(SimLock { disk: self.clone(), boot: state.boot })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.enter(Operation::List)?;
        Ok(state.names.list())
    }

    fn create(&self, name: &str) -> io::Result<SimFile> {
        let mut state = self.state();
        let entered = state.enter(Operation::Create);
        if matches!(entered, Err(Fault::NoSpace | Fault::Broken)) {
            entered?;
        }
        let content = if let Some(content) = state.names.find(name) {
            state.contents[content].truncate(0);
            content
        } else {
            state.contents.push(Content::default());
            let content = state.contents.len() - 1;
            state.names.link(name, content);
            content
        };
        entered?;
        Ok(SimFile { disk: self.clone(), content, boot: state.boot })
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let mut state = self.state();
        state.enter(Operation::Open)?;
        let content = state.find(name)?;
        Ok(SimFile { disk: self.clone(), content, boot: state.boot })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        let entered = state.enter(Operation::Remove);
        if matches!(entered, Err(Fault::NoSpace | Fault::Broken)) {
            entered?;
        }
        state.find(name)?;
        state.names.unlink(name);
        Ok(entered?)
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.state();
        state.enter(Operation::SyncDirectory)?;
        state.names.sync();
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("sim").join(name)
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.boot == self.boot {
            state.locked = false;
        }
    }
}
