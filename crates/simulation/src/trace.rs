//! What happened, as lines. Of a whole life only their hash and the last of them are kept.

use std::collections::VecDeque;
use std::fmt::Arguments;

use telemetry::Wall;
use xxhash_rust::xxh3::Xxh3;

const KEPT: usize = 60;

#[derive(Default)]
pub(crate) struct Trace {
    hash: Xxh3,
    last: VecDeque<String>,
}

impl Trace {
    pub(crate) fn note(&mut self, now: Wall, what: Arguments<'_>) {
        let line = format!("{now} {what}");
        self.hash.update(line.as_bytes());
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.digest()
    }

    pub(crate) fn last(&self) -> String {
        self.last.iter().flat_map(|line| ["  ", line, "\n"]).collect()
    }
}
