//! In memory: the twin of the one on disk.

use std::collections::VecDeque;

use bytes::Bytes;
use telemetry::{Boot, Gap, Sequence, Wall};

use super::gaps::Gaps;
use super::{Batch, Depth, Lane, Limits, Name, Offered, Spool};

#[derive(Debug)]
pub struct Memory {
    boot: Boot,
    limits: Limits,
    last: u64,
    bytes: u64,
    waiting: VecDeque<Waiting>,
    gaps: Gaps,
}

#[derive(Debug)]
struct Waiting {
    batch: Batch,
    at: Wall,
    told: Vec<Gap>,
}

impl Memory {
    pub fn new(boot: Boot, limits: Limits) -> Self {
        Self { boot, limits, last: 0, bytes: 0, waiting: VecDeque::new(), gaps: Gaps::default() }
    }

    /// The newest stays, however large and old: it is what is true now.
    fn is_too_much(&self, now: Wall) -> bool {
        let old = self.waiting.front().is_some_and(|oldest| now.since(oldest.at) > self.limits.age);
        self.waiting.len() > 1 && (self.bytes > self.limits.bytes || old)
    }
}

impl Spool for Memory {
    fn offer(&mut self, bodies: Vec<Bytes>, told: Vec<Gap>, now: Wall) -> Offered {
        for body in bodies {
            self.last += 1;
            self.bytes += body.len() as u64;
            let name = Name { boot: self.boot, sequence: Sequence(self.last) };
            self.waiting.push_back(Waiting { batch: Batch { name, body }, at: now, told: told.clone() });
        }
        let mut lost = Vec::new();
        while self.is_too_much(now) {
            let Some(oldest) = self.waiting.pop_front() else { break };
            self.bytes -= oldest.batch.body.len() as u64;
            lost.push(oldest.batch.name);
        }
        self.gaps.lose(&lost, self.waiting.iter().map(|waiting| waiting.batch.name));
        Offered { dropped: lost.len() as u64, unwritten: 0 }
    }

    fn next(&mut self, lane: Lane) -> Option<Batch> {
        let next = match lane {
            Lane::Oldest => self.waiting.front(),
            Lane::Newest => self.waiting.back(),
        };
        next.map(|waiting| waiting.batch.clone())
    }

    fn forget(&mut self, name: Name) {
        let place = self.waiting.iter().position(|waiting| waiting.batch.name == name);
        if let Some(forgotten) = place.and_then(|place| self.waiting.remove(place)) {
            self.bytes -= forgotten.batch.body.len() as u64;
            self.gaps.told(&forgotten.told);
        }
    }

    fn gaps(&self) -> Vec<Gap> {
        self.gaps.all()
    }

    fn depth(&self) -> Depth {
        Depth { batches: self.waiting.len() as u64, bytes: self.bytes }
    }
}
