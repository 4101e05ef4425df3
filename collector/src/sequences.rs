//! Who has been counted up to where. A batch is known by (agent, boot, sequence); a replay changes nothing, whenever it comes.
//!
//! What is known of a boot cannot just be forgotten, and agents that start again and again have many. So an agent has at most
//! [`BOOTS`]. Where it comes with one more, those of which nothing came for [`QUIET`] are retired, all of them: what stays of them is
//! one time, of the newest batch of any. A batch says itself when it was made, and a replay says the same. So a batch made no later
//! than that, of a boot that is not known, may be one that was counted, and is not counted; one made later cannot be. A boot keeps
//! the time at which it came to be known: should it be one that was retired and goes on, its earlier batches stay out.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use telemetry::{AgentId, Boot, Gap, Origin, Wall};

/// Of one agent. More than a day of starts every two minutes.
pub const BOOTS: usize = if cfg!(test) { 4 } else { 1024 };
/// Twice what a spool keeps: what comes of a boot after that was dropped long ago by whoever made it.
pub const QUIET: Duration = Duration::from_hours(48);

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sequences {
    agents: BTreeMap<AgentId, Boots>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Boots {
    known: BTreeMap<Boot, Seen>,
    /// When the newest batch of those retired was made.
    retired: Option<Wall>,
    /// What those miss.
    gaps: u64,
}

/// Runs of sequences, `first → last`, none touching the next: a hole that is never filled costs one run, not one for each
/// batch after it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    runs: BTreeMap<u64, u64>,
    /// The last that its agent said is lost, where it did not come before.
    lost: u64,
    /// When a batch came last, and when the newest was made.
    heard: Wall,
    made: Wall,
    /// Up to when retired boots had made batches as it came to be known.
    floor: Option<Wall>,
}

/// When a batch was made, by its agent's clock, and came, by the log's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamps {
    pub made: Wall,
    pub received: Wall,
}

/// What a batch is to those that came before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    First,
    Repeated,
    /// No newer than those of retired boots, of which it may be one.
    Retired,
}

/// Why a batch is not to be let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Barred {
    #[error("it was made at {made}, and boots of this agent up to {retired} are over: it may have been counted")]
    Retired { made: Wall, retired: Wall },
    #[error(
        "this agent came with {BOOTS} boots in 48 hours and is not heard with another: why does it start so often?"
    )]
    TooMany,
}

impl Sequences {
    /// Marks a batch as counted.
    pub fn count(&mut self, origin: &Origin, stamps: Stamps) -> Counted {
        let boots = self.agents.entry(origin.agent.clone()).or_default();
        let floor = boots.floor(origin.boot);
        if floor.is_some_and(|floor| stamps.made <= floor) {
            return Counted::Retired;
        }
        if !boots.knows(origin.boot) {
            boots.make_room(stamps.received);
        }
        let seen = boots.known.entry(origin.boot).or_default();
        seen.floor = floor;
        (seen.heard, seen.made) = (seen.heard.max(stamps.received), seen.made.max(stamps.made));
        if seen.count(origin.sequence.0) { Counted::First } else { Counted::Repeated }
    }

    /// Whether to let a batch in. What was let in is counted, however many boots there are: it is acknowledged.
    pub fn admits(&self, origin: &Origin, stamps: Stamps) -> Result<(), Barred> {
        let Some(boots) = self.agents.get(&origin.agent) else { return Ok(()) };
        match boots.floor(origin.boot) {
            Some(floor) if stamps.made <= floor => Err(Barred::Retired { made: stamps.made, retired: floor }),
            _ if boots.known.len() < BOOTS || boots.knows(origin.boot) => Ok(()),
            _ if boots.known.values().any(|seen| seen.is_quiet(stamps.received)) => Ok(()),
            _ => Err(Barred::TooMany),
        }
    }

    /// Takes an agent's word for it that what is missing there will not come.
    pub fn lose(&mut self, agent: &AgentId, gap: Gap) {
        let boots = self.agents.entry(agent.clone()).or_default();
        if boots.known.len() < BOOTS || boots.known.contains_key(&gap.boot) {
            let seen = boots.known.entry(gap.boot).or_default();
            seen.lost = seen.lost.max(gap.to.0);
        }
    }

    /// How many batches of this agent are missing below the highest that came or is lost.
    pub fn gaps(&self, agent: &AgentId) -> u64 {
        self.agents.get(agent).map_or(0, Boots::gaps)
    }
}

impl Boots {
    /// A boot of which only losses were told is not known: it holds nothing by which to tell a replay.
    fn knows(&self, boot: Boot) -> bool {
        self.known.get(&boot).is_some_and(|seen| !seen.runs.is_empty())
    }

    /// A batch of that boot made no later than this may have been counted before its boot was retired.
    fn floor(&self, boot: Boot) -> Option<Wall> {
        if self.knows(boot) { self.known[&boot].floor } else { self.retired }
    }

    fn make_room(&mut self, now: Wall) {
        if self.known.len() < BOOTS {
            return;
        }
        for (_, over) in self.known.extract_if(.., |_, seen| seen.is_quiet(now)) {
            self.retired = self.retired.max(Some(over.made));
            self.gaps = self.gaps.saturating_add(over.gaps());
        }
    }

    fn gaps(&self) -> u64 {
        self.known.values().map(Seen::gaps).fold(self.gaps, u64::saturating_add)
    }
}

impl Seen {
    fn is_quiet(&self, now: Wall) -> bool {
        now.since(self.heard) >= QUIET
    }

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

    const HOUR: u64 = 3600;

    fn origin(agent: u8, boot: u8, sequence: u64) -> Origin {
        let agent = format!("agent-{agent}").parse().unwrap();
        Origin { agent, boot: Boot(boot.into()), sequence: Sequence(sequence) }
    }

    fn at(hours: u64) -> Stamps {
        Stamps { made: Wall::from_secs(hours * HOUR), received: Wall::from_secs(hours * HOUR) }
    }

    proptest! {
        /// Each batch is made at some time, by whatever clock, and the same whenever it comes again.
        #[test]
        fn a_batch_is_counted_once_at_most_and_the_first_time_while_its_boot_is_not_retired(
            arrivals in vec((0..2_u8, 0..12_u8, 1..6_u64), 0..300),
            clocks in vec(0..2000_u64, 12),
            pace in 0..60_u64,
        ) {
            let (mut sequences, mut model) = (Sequences::default(), HashSet::new());
            for (turn, (agent, boot, sequence)) in (0..).zip(arrivals) {
                let made = Wall::from_secs(clocks[usize::from(boot)] * HOUR + sequence);
                let stamps = Stamps { made, received: Wall::from_secs(turn * pace * HOUR) };
                let origin = origin(agent, boot, sequence);
                let admitted = sequences.admits(&origin, stamps);
                let counted = sequences.count(&origin, stamps);
                prop_assert_eq!(counted == Counted::Retired, matches!(admitted, Err(Barred::Retired { .. })));
                let is_new = model.insert((agent, boot, sequence));
                prop_assert!(counted != Counted::First || is_new, "counted twice");
                prop_assert!(counted != Counted::Repeated || !is_new, "never counted");
            }
        }

        #[test]
        fn of_few_boots_every_batch_is_counted_the_first_time(arrivals in vec((0..3_u8, 0..2_u8, 1..40_u64), 0..200)) {
            let (mut sequences, mut model) = (Sequences::default(), HashSet::new());
            for (agent, boot, sequence) in arrivals {
                let counted = sequences.count(&origin(agent, boot, sequence), at(sequence));
                let is_new = model.insert((agent, boot, sequence));
                prop_assert_eq!(counted, if is_new { Counted::First } else { Counted::Repeated });
            }
        }
    }

    #[test]
    fn boots_that_are_quiet_make_room_for_new_ones_and_their_replays_are_still_known() {
        let mut sequences = Sequences::default();
        for boot in 1..=4 {
            assert_eq!(sequences.count(&origin(1, boot, 1), at(boot.into())), Counted::First);
        }
        assert_eq!(sequences.admits(&origin(1, 5, 1), at(40)), Err(Barred::TooMany));
        assert_eq!(sequences.admits(&origin(2, 1, 1), at(40)), Ok(()), "another agent");
        assert_eq!(sequences.admits(&origin(1, 4, 2), at(40)), Ok(()), "what is known goes on");
        // Two of them have been quiet for two days.
        assert_eq!(sequences.count(&origin(1, 5, 1), at(50)), Counted::First);
        let replay = Stamps { made: at(2).made, received: at(60).received };
        assert_eq!(sequences.count(&origin(1, 2, 1), replay), Counted::Retired);
        let (made, retired) = (at(2).made, at(2).made);
        assert_eq!(sequences.admits(&origin(1, 2, 1), replay), Err(Barred::Retired { made, retired }));
        assert_eq!(sequences.count(&origin(1, 3, 1), at(3)), Counted::Repeated);
        assert_eq!(sequences.count(&origin(1, 6, 1), at(61)), Counted::First);
    }

    #[test]
    fn what_was_let_in_is_counted_however_many_boots_there_are() {
        let mut sequences = Sequences::default();
        for boot in 1..=9 {
            assert_eq!(sequences.count(&origin(1, boot, 1), at(1)), Counted::First);
        }
    }

    #[test]
    fn a_retired_boot_that_goes_on_after_all_is_counted_from_there_and_its_replays_stay_out() {
        let mut sequences = Sequences::default();
        for boot in 1..=5 {
            sequences.count(&origin(1, boot, 1), at(u64::from(boot) * 50));
        }
        assert_eq!(sequences.count(&origin(1, 1, 2), at(300)), Counted::First);
        assert_eq!(sequences.count(&origin(1, 1, 1), at(50)), Counted::Retired);
        assert_eq!(sequences.count(&origin(1, 1, 2), at(300)), Counted::Repeated);
    }

    #[test]
    fn a_loss_that_is_told_of_a_retired_boot_does_not_let_its_replays_in_again() {
        let mut sequences = Sequences::default();
        for boot in 1..=5 {
            sequences.count(&origin(1, boot, 1), at(u64::from(boot) * 50));
        }
        let (agent, gap) = (origin(1, 1, 1).agent, Gap { boot: Boot(1), from: Sequence(1), to: Sequence(3) });
        sequences.lose(&agent, gap);
        assert_eq!(sequences.count(&origin(1, 1, 1), at(50)), Counted::Retired);
    }

    #[test]
    fn gaps_are_what_is_missing_below_the_highest_of_retired_boots_too() {
        let mut sequences = Sequences::default();
        let agent = origin(1, 1, 1).agent;
        for sequence in [1, 2, 5, 6] {
            sequences.count(&origin(1, 1, sequence), at(1));
        }
        assert_eq!(sequences.gaps(&agent), 2);
        for boot in 2..=5 {
            sequences.count(&origin(1, boot, 1), at(u64::from(boot) * 50));
        }
        assert_eq!(sequences.gaps(&agent), 2);
    }

    #[test]
    fn a_hole_that_is_filled_is_no_gap() {
        let mut sequences = Sequences::default();
        for sequence in [1, 2, 5, 6, 3, 4] {
            sequences.count(&origin(1, 1, sequence), at(1));
        }
        assert_eq!(sequences.gaps(&origin(1, 1, 1).agent), 0);
    }

    #[test]
    fn what_an_agent_says_is_lost_is_missing_even_above_the_highest_and_only_once() {
        let mut sequences = Sequences::default();
        let (agent, gap) = (origin(1, 1, 1).agent, Gap { boot: Boot(1), from: Sequence(2), to: Sequence(9) });
        for sequence in [1, 4] {
            sequences.count(&origin(1, 1, sequence), at(1));
        }
        sequences.lose(&agent, gap);
        sequences.lose(&agent, gap);
        assert_eq!(sequences.gaps(&agent), 7, "2, 3 and 5 to 9");
        sequences.count(&origin(1, 1, 11), at(1));
        assert_eq!(sequences.gaps(&agent), 8);
        assert_eq!(sequences.count(&origin(1, 1, 4), at(1)), Counted::Repeated, "what had come is still known");
        sequences.lose(&agent, Gap { boot: Boot(2), from: Sequence(1), to: Sequence(3) });
        assert_eq!(sequences.gaps(&agent), 11, "a boot of which nothing came");
    }
}
