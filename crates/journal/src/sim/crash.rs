//! What a crash keeps, and what it does to names.

use std::collections::BTreeMap;

/// How much of what was not durable survives a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    Nothing,
    /// Of a file all up to so many written bytes, and nothing after; of names the first so many changes.
    First(u64),
    Everything,
    /// Any part, holes included, as the seed has it.
    Seeded(u64),
}

/// Small, fast, and the same everywhere (`SplitMix64`; Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `sides`; 0 when there is none.
    pub fn roll(&mut self, sides: usize) -> usize {
        (self.draw() % sides.max(1) as u64) as usize
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The directory: which name stands for which content.
#[derive(Default)]
pub(super) struct Names {
    durable: BTreeMap<String, usize>,
    current: BTreeMap<String, usize>,
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Link(String, usize),
    Unlink(String),
}

impl Names {
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.current.get(name).copied()
    }

    pub(super) fn list(&self) -> Vec<String> {
        self.current.keys().cloned().collect()
    }

    pub(super) fn contents(&self) -> impl Iterator<Item = usize> {
        self.current.values().copied()
    }

    pub(super) fn unsynced(&self) -> u64 {
        self.pending.len() as u64
    }

    pub(super) fn link(&mut self, name: &str, content: usize) {
        self.change(Change::Link(name.to_owned(), content));
    }

    pub(super) fn unlink(&mut self, name: &str) {
        self.change(Change::Unlink(name.to_owned()));
    }

    pub(super) fn plant(&mut self, name: &str, content: usize) {
        self.link(name, content);
        self.sync();
    }

    pub(super) fn sync(&mut self) {
        self.durable = self.current.clone();
        self.pending.clear();
    }

    pub(super) fn crash(&mut self, keep: Keep) {
        let pending = std::mem::take(&mut self.pending);
        let mut dice = Dice::new(if let Keep::Seeded(seed) = keep { seed } else { 0 });
        self.current = self.durable.clone();
        for (index, change) in pending.into_iter().enumerate() {
            let kept = match keep {
                Keep::Nothing => false,
                Keep::First(count) => (index as u64) < count,
                Keep::Everything => true,
                Keep::Seeded(_) => dice.roll(2) == 0,
            };
            if kept {
                change.apply(&mut self.current);
            }
        }
        self.durable = self.current.clone();
    }

    fn change(&mut self, change: Change) {
        change.clone().apply(&mut self.current);
        self.pending.push(change);
    }
}

impl Change {
    fn apply(self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Link(name, content) => drop(names.insert(name, content)),
            Self::Unlink(name) => drop(names.remove(&name)),
        }
    }
}
