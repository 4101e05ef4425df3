//! What had to go, until a batch that says so was taken.

use std::collections::BTreeSet;

use telemetry::{Gap, Sequence};

use super::Name;

/// More are not kept: the oldest go untold.
const MOST: usize = 256;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Gaps(Vec<Gap>);

impl Gaps {
    pub(super) fn of(gaps: Vec<Gap>) -> Self {
        Self(gaps)
    }

    /// Those of an earlier process, whose boots are others.
    pub(super) fn inherit(&mut self, earlier: Self) {
        self.0.splice(0..0, earlier.0);
    }

    /// Gaps with nothing that still waits between them are one: what is missing there is lost or was taken.
    pub(super) fn lose(&mut self, lost: &[Name], waiting: impl Iterator<Item = Name>) {
        if lost.is_empty() {
            return;
        }
        let waiting: BTreeSet<Name> = waiting.collect();
        let single = |name: &Name| Gap { boot: name.boot, from: name.sequence, to: name.sequence };
        let mut all: Vec<Gap> = self.0.drain(..).chain(lost.iter().map(single)).collect();
        all.sort_unstable();
        for gap in all {
            let name = |sequence| Name { boot: gap.boot, sequence };
            match self.0.last_mut() {
                Some(last)
                    if last.boot == gap.boot && waiting.range(name(last.from)..=name(gap.to)).next().is_none() =>
                {
                    last.to = last.to.max(gap.to);
                }
                _ => self.0.push(gap),
            }
        }
        self.0.drain(..self.0.len().saturating_sub(MOST));
    }

    /// One that has grown since is not told yet.
    pub(super) fn told(&mut self, told: &[Gap]) {
        self.0.retain(|gap| !told.contains(gap));
    }

    pub(super) fn hold(&self, name: Name) -> bool {
        let within = |gap: &Gap, sequence: Sequence| gap.from <= sequence && sequence <= gap.to;
        self.0.iter().any(|gap| gap.boot == name.boot && within(gap, name.sequence))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn all(&self) -> Vec<Gap> {
        self.0.clone()
    }
}
