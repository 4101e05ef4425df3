//! What was made, and what must be true of it.
//!
//! 1. A batch is counted once: at every step of the collector (`collector`), and in the sums of every path at the end.
//! 2. A name stands for the same samples each time that it arrives.
//! 3. What an agent forgot as taken is counted, at every restart of the collector and at the end.
//! 4. What is not counted was given up, and a gap that the collector was told of names it; or its agent died while its disk failed, and
//!    with it what that disk had refused: a batch, or the note that one had to go.
//! 5. A restart, from either snapshot, gives the same state, byte for byte (`collector`).

use std::collections::{BTreeMap, BTreeSet};

use agent::spool::Name;
use anyhow::{Context as _, ensure};
use collector::sequences::{Counted, Stamps};
use collector::state::State;
use telemetry::{AgentId, Gap, Origin, RegionName, TargetId, Wall};

use crate::agent::Made;

#[derive(Default)]
pub(crate) struct Ledger {
    made: BTreeMap<Origin, BTreeMap<TargetId, u64>>,
    /// By the word of the collector.
    taken: BTreeSet<Origin>,
    /// What may have died with its agent's memory.
    died: BTreeSet<Origin>,
    /// Of which the collector was told, in batches that it took.
    gaps: BTreeSet<(AgentId, Gap)>,
    dropped: u64,
}

/// How a life went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) made: u64,
    pub(crate) counted: u64,
    pub(crate) lost: u64,
}

impl Ledger {
    pub(crate) fn make(&mut self, agent: &AgentId, made: Made) -> anyhow::Result<()> {
        self.dropped += made.dropped;
        let origin = origin(agent, made.name);
        ensure!(self.made.insert(origin, made.samples).is_none(), "{:?} is two batches", made.name);
        Ok(())
    }

    pub(crate) fn arrive(&self, origin: &Origin, samples: u64) -> anyhow::Result<()> {
        let made = self.made.get(origin).with_context(|| format!("{origin:?} arrives and was never made"))?;
        let expected: u64 = made.values().sum();
        ensure!(samples == expected, "{origin:?} arrives with {samples} samples and was made of {expected}");
        Ok(())
    }

    pub(crate) fn taken(&mut self, origin: &Origin, gaps: Vec<Gap>) {
        self.taken.insert(origin.clone());
        self.gaps.extend(gaps.into_iter().map(|gap| (origin.agent.clone(), gap)));
    }

    pub(crate) fn died(&mut self, agent: &AgentId, names: BTreeSet<Name>) {
        self.died.extend(names.into_iter().map(|name| origin(agent, name)));
    }

    /// When nothing is under way any more.
    pub(crate) fn check(&self, state: &State) -> anyhow::Result<Sums> {
        let mut sequences = state.sequences.clone();
        let now = Stamps { made: state.now, received: state.now };
        let mut is_known = |origin: &&Origin| sequences.count(origin, now) == Counted::Repeated;
        let (counted, missing): (Vec<_>, Vec<_>) = self.made.keys().partition(&mut is_known);
        let tally = state.tally;
        ensure!(tally.batches == counted.len() as u64, "{} batches in the state, {tally:?}", counted.len());
        let in_vain = self.taken.iter().find(|origin| missing.contains(origin));
        ensure!(in_vain.is_none(), "{in_vain:?} was acknowledged and is not counted");
        self.check_paths(state, &counted)?;
        let unnamed: Vec<_> = missing.iter().filter(|origin| !self.named(origin)).collect();
        let unsaid = unnamed.iter().find(|origin| !self.died.contains(**origin));
        ensure!(unsaid.is_none(), "{unsaid:?} is neither counted nor in a gap: {:?}", self.gaps);
        let named = (missing.len() - unnamed.len()) as u64;
        ensure!(named <= self.dropped + self.died.len() as u64, "{named} in gaps, {} dropped", self.dropped);
        Ok(Sums { made: self.made.len() as u64, counted: counted.len() as u64, lost: missing.len() as u64 })
    }

    fn named(&self, origin: &Origin) -> bool {
        let within = |gap: &Gap| gap.boot == origin.boot && (gap.from..=gap.to).contains(&origin.sequence);
        self.gaps.iter().any(|(agent, gap)| *agent == origin.agent && within(gap))
    }

    /// Of every path as much as its batches hold.
    fn check_paths(&self, state: &State, counted: &[&Origin]) -> anyhow::Result<()> {
        let mut expected = BTreeMap::<(AgentId, TargetId), u64>::new();
        for origin in counted {
            for (target, samples) in &self.made[*origin] {
                *expected.entry((origin.agent.clone(), target.clone())).or_default() += samples;
            }
        }
        let mut found = BTreeMap::<(AgentId, TargetId), u64>::new();
        for (id, ring) in state.rings.iter() {
            let samples = state.rings.merge([id], Wall::default(), Wall(u64::MAX)).samples();
            *found.entry((ring.series.agent.clone(), ring.series.target.clone())).or_default() += samples;
        }
        ensure!(found == expected, "paths hold {found:?}, their batches {expected:?}; {:?}", state.tally);
        let sources: BTreeSet<&RegionName> = state.rings.iter().map(|(_, ring)| &ring.series.source).collect();
        ensure!(sources.len() > 1, "data of one source alone shows little");
        Ok(())
    }
}

pub(crate) fn origin(agent: &AgentId, name: Name) -> Origin {
    Origin { agent: agent.clone(), boot: name.boot, sequence: name.sequence }
}
