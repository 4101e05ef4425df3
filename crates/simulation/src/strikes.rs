//! What goes wrong, and for how long.

use std::time::Duration;

use journal::sim::{Dice, Fault, Operation, SimDisk};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Strike {
    KillAgent,
    CutAgent,
    AgentDisk(Trouble),
    Part,
    KillCollector,
    CutCollector,
    CollectorDisk(Trouble),
    Snapshot,
}

/// Of a disk.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trouble {
    /// So many bytes are left.
    Full { left: u64 },
    /// One operation fails, after so many others.
    Fails { operation: Option<Operation>, before: u64, fault: Fault },
}

const OPERATIONS: [Option<Operation>; 7] = [
    None,
    Some(Operation::Create),
    Some(Operation::Write),
    Some(Operation::Sync),
    Some(Operation::Truncate),
    Some(Operation::Remove),
    Some(Operation::SyncDirectory),
];

impl Strike {
    pub(crate) fn drawn(dice: &mut Dice) -> Self {
        match dice.roll(12) {
            0 => Self::KillAgent,
            1 | 2 => Self::CutAgent,
            3 | 4 => Self::AgentDisk(Trouble::drawn(dice)),
            5 => Self::Part,
            6 => Self::KillCollector,
            7 | 8 => Self::CutCollector,
            9 | 10 => Self::CollectorDisk(Trouble::drawn(dice)),
            _ => Self::Snapshot,
        }
    }
}

impl Trouble {
    fn drawn(dice: &mut Dice) -> Self {
        if dice.roll(4) == 0 {
            return Self::Full { left: dice.roll(2000) as u64 };
        }
        let operation = OPERATIONS[dice.roll(OPERATIONS.len())];
        let fault = [Fault::NoSpace, Fault::Broken, Fault::Broken, Fault::PowerLoss][dice.roll(4)];
        Self::Fails { operation, before: dice.roll(6) as u64, fault }
    }

    pub(crate) fn strike(self, disk: &SimDisk) {
        match self {
            Self::Full { left } => disk.set_capacity(disk.bytes() + left),
            Self::Fails { operation, before, fault } => disk.fail(operation, before, fault),
        }
    }
}

/// Until it is over.
pub(crate) fn lasts(dice: &mut Dice) -> Duration {
    Duration::from_millis(200 + dice.roll(25_000) as u64)
}
