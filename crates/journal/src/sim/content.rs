//! What one file holds: on the platter, in the page cache, and on the way between.

use super::crash::{Dice, Keep};

/// The unit in which a crash makes holes; small, so that records span several.
const BLOCK_BYTES: usize = 16;

#[derive(Default)]
pub(super) struct Content {
    durable: Vec<u8>,
    current: Vec<u8>,
    pending: Vec<Change>,
}

enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

impl Content {
    pub(super) fn durable(bytes: &[u8]) -> Self {
        Self { durable: bytes.to_vec(), current: bytes.to_vec(), pending: Vec::new() }
    }

    pub(super) fn current(&self) -> &[u8] {
        &self.current
    }

    pub(super) fn unsynced_bytes(&self) -> u64 {
        self.pending.iter().map(|change| change.bytes().len() as u64).sum()
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let offset = offset as usize;
        overlay(&mut self.current, offset, bytes);
        self.pending.push(Change::Write { offset, bytes: bytes.to_vec() });
    }

    pub(super) fn truncate(&mut self, size: usize) {
        self.current.truncate(size);
        self.pending.push(Change::Truncate(size));
    }

    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            match change {
                Change::Write { offset, bytes } => overlay(&mut self.durable, offset, &bytes),
                Change::Truncate(size) => self.durable.truncate(size),
            }
        }
    }

    /// A failed fsync: the written pages are called clean and never reach the platter. The length is the journal of the
    /// file system's, which still has it.
    pub(super) fn lose(&mut self) {
        self.pending.retain(|change| matches!(change, Change::Truncate(_)));
    }

    pub(super) fn crash(&mut self, keep: Keep) {
        match keep {
            Keep::Nothing => {}
            Keep::First(bytes) => self.keep_first(bytes as usize),
            Keep::Everything => self.sync(),
            Keep::Seeded(seed) => self.keep_some(&mut Dice::new(seed)),
        }
        self.pending.clear();
        self.current = self.durable.clone();
    }

    fn keep_first(&mut self, mut budget: usize) {
        for change in &self.pending {
            if budget == 0 {
                return;
            }
            match change {
                Change::Truncate(size) => self.durable.truncate(*size),
                Change::Write { offset, bytes } => {
                    let kept = bytes.len().min(budget);
                    overlay(&mut self.durable, *offset, &bytes[..kept]);
                    budget -= kept;
                }
            }
        }
    }

    /// The first so many changes reach the platter, the last of them in part; in every second crash some blocks do not,
    /// and read as what was there before, or as zeros.
    fn keep_some(&mut self, dice: &mut Dice) {
        let reached = dice.roll(self.pending.len() + 1);
        let holes = dice.roll(2) == 0;
        for (index, change) in self.pending.iter().take(reached).enumerate() {
            match change {
                Change::Truncate(size) => self.durable.truncate(*size),
                Change::Write { offset, bytes } => {
                    let last = index + 1 == reached;
                    let kept = if last { dice.roll(bytes.len() + 1) } else { bytes.len() };
                    for (block, bytes) in bytes[..kept].chunks(BLOCK_BYTES).enumerate() {
                        let at = offset + block * BLOCK_BYTES;
                        if holes && dice.roll(4) == 0 {
                            let size = self.durable.len().max(at + bytes.len());
                            self.durable.resize(size, 0);
                        } else {
                            overlay(&mut self.durable, at, bytes);
                        }
                    }
                }
            }
        }
    }
}

impl Change {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Write { bytes, .. } => bytes,
            Self::Truncate(_) => &[],
        }
    }
}

/// Writes into `file`, which grows as needed; a gap reads as zeros.
fn overlay(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(bytes);
}
