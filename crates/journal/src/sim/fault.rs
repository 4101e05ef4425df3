//! What is to fail, and when.

use std::io;

/// What a journal asks of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    List,
    Create,
    Open,
    Read,
    Write,
    Truncate,
    Sync,
    Remove,
    SyncDirectory,
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// ENOSPC.
    NoSpace,
    /// EIO.
    Broken,
    /// The power goes: whether this operation still happens is up to the crash; every later one fails.
    PowerLoss,
}

/// The faults that wait for their operations.
#[derive(Default)]
pub(super) struct Plans(Vec<Plan>);

/// A fault that waits for its operation.
struct Plan {
    operation: Option<Operation>,
    /// How many that match go well before.
    before: u64,
    fault: Fault,
}

impl Plans {
    pub(super) fn add(&mut self, operation: Option<Operation>, before: u64, fault: Fault) {
        self.0.push(Plan { operation, before, fault });
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault that strikes this operation. Every plan that it matches counts it.
    pub(super) fn due(&mut self, operation: Operation) -> Option<Fault> {
        let mut due = None;
        for (index, plan) in self.0.iter_mut().enumerate() {
            if plan.operation.is_none_or(|planned| planned == operation) {
                match plan.before.checked_sub(1) {
                    Some(before) => plan.before = before,
                    None => due = due.or(Some(index)),
                }
            }
        }
        due.map(|index| self.0.remove(index).fault)
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NoSpace => io::ErrorKind::StorageFull.into(),
            Fault::Broken => io::Error::other("simulated input/output error"),
            Fault::PowerLoss => io::Error::other("simulated loss of power"),
        }
    }
}
