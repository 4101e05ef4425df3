//! Who has been counted up to where. A batch is known by (agent, boot, sequence); a replay changes nothing, whenever it comes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use telemetry::{AgentId, Boot, Gap, Origin};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sequences {
    boots: BTreeMap<(AgentId, Boot), Seen>,
}

/// Runs of sequences, `first → last`, none touching the next: a hole that is never filled costs one run, not one for each
/// batch after it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    runs: BTreeMap<u64, u64>,
    /// The last that its agent said is lost, where it did not come before.
    lost: u64,
}

impl Sequences {
    /// Marks a batch as counted. `false`: it had been counted before.
    pub fn count(&mut self, origin: &Origin) -> bool {
        self.boots.entry((origin.agent.clone(), origin.boot)).or_default().count(origin.sequence.0)
    }

    /// Takes an agent's word for it that what is missing there will not come.
    pub fn lose(&mut self, agent: &AgentId, gap: Gap) {
        let seen = self.boots.entry((agent.clone(), gap.boot)).or_default();
        seen.lost = seen.lost.max(gap.to.0);
    }

    /// How many batches of this agent are missing below the highest that came or is lost.
    pub fn gaps(&self, agent: &AgentId) -> u64 {
        let boots = self.boots.iter().filter(|((name, _), _)| name == agent);
        boots.map(|(_, seen)| seen.gaps()).fold(0, u64::saturating_add)
    }
}

impl Seen {
    fn count(&mut self, sequence: u64) -> bool {
        let before = self.runs.range(..=sequence).next_back().map(|(first, last)| (*first, *last));
        if before.is_some_and(|(_, last)| sequence <= last) {
            return false;
        }
        let first = before.filter(|(_, last)| last + 1 == sequence).map_or(sequence, |(first, _)| first);
        let last = self.runs.remove(&(sequence + 1)).unwrap_or(sequence);
        self.runs.insert(first, last);
        true
    }

    fn gaps(&self) -> u64 {
        let highest = self.runs.last_key_value().map_or(0, |(_, last)| *last);
        highest.max(self.lost) - self.runs.iter().map(|(first, last)| last - first + 1).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use telemetry::Sequence;

    use super::*;

    fn origin(agent: u8, boot: u8, sequence: u64) -> Origin {
        let agent = format!("agent-{agent}").parse().unwrap();
        Origin { agent, boot: Boot(boot.into()), sequence: Sequence(sequence) }
    }

    proptest! {
        #[test]
        fn a_batch_is_counted_the_first_time_and_never_again(arrivals in vec((0..3_u8, 0..2_u8, 1..40_u64), 0..200)) {
            let (mut sequences, mut model) = (Sequences::default(), HashSet::new());
            for (agent, boot, sequence) in arrivals {
                let counted = sequences.count(&origin(agent, boot, sequence));
                prop_assert_eq!(counted, model.insert((agent, boot, sequence)));
            }
        }
    }

    #[test]
    fn gaps_are_what_is_missing_below_the_highest() {
        let mut sequences = Sequences::default();
        for sequence in [1, 2, 5, 6] {
            sequences.count(&origin(1, 1, sequence));
        }
        assert_eq!(sequences.gaps(&origin(1, 1, 1).agent), 2);
        sequences.count(&origin(1, 1, 3));
        sequences.count(&origin(1, 1, 4));
        assert_eq!(sequences.gaps(&origin(1, 1, 1).agent), 0);
    }

    #[test]
    fn what_an_agent_says_is_lost_is_missing_even_above_the_highest_and_only_once() {
        let mut sequences = Sequences::default();
        let (agent, gap) = (origin(1, 1, 1).agent, Gap { boot: Boot(1), from: Sequence(2), to: Sequence(9) });
        for sequence in [1, 4] {
            sequences.count(&origin(1, 1, sequence));
        }
        sequences.lose(&agent, gap);
        sequences.lose(&agent, gap);
        assert_eq!(sequences.gaps(&agent), 7, "2, 3 and 5 to 9");
        sequences.count(&origin(1, 1, 11));
        assert_eq!(sequences.gaps(&agent), 8);
        assert!(!sequences.count(&origin(1, 1, 4)), "what had come is still known");
        sequences.lose(&agent, Gap { boot: Boot(2), from: Sequence(1), to: Sequence(3) });
        assert_eq!(sequences.gaps(&agent), 11, "a boot of which nothing came");
    }
}
