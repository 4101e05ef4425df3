//! The log's clock: it goes on with the stamps of the collector, and does not follow them when they leap.
//!
//! A stamp that is suddenly an hour away from the one before it is a pause, after which the stamps are right, or a clock that was set.
//! The log alone cannot tell; the agents can, since each says what time it is by its own clock. Until most of those who spoke lately
//! agree with the stamps, the log's clock goes on from where it was.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use telemetry::{AgentId, Wall};

use crate::clocks::{MOVED, Offset};
use crate::marks::EVERY;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LogClock {
    now: Wall,
    /// By which stamps are ahead of it.
    ahead: Offset,
    /// While that is not nothing: whether the stamps are right.
    doubt: Option<Doubt>,
    pub leaps: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Doubt {
    /// Whoever is there has spoken by then.
    until: Wall,
    /// Agents that spoke shortly before.
    voters: usize,
    /// Whether the newest batch of each since then agreed with its stamp.
    votes: BTreeMap<AgentId, bool>,
}

impl LogClock {
    /// At the newest mark. It never goes back.
    pub fn now(&self) -> Wall {
        self.now
    }

    /// What it said at that stamp. One that leaps is of about now: the next mark will tell.
    pub fn read(&self, stamp: Wall) -> Wall {
        if self.leaps_at(stamp) { self.now } else { self.less_ahead(stamp) }
    }

    /// The latest that it may have been: the stamp, while that may yet turn out to be right.
    pub fn latest(&self, stamp: Wall) -> Wall {
        let doubtful = self.doubt.is_some() || self.leaps_at(stamp);
        if doubtful { self.read(stamp).max(stamp) } else { self.read(stamp) }
    }

    /// Not everyone who is there has spoken: nobody's clock is to be judged by what it said at that stamp.
    pub fn is_unsure(&self, stamp: Wall) -> bool {
        self.leaps_at(stamp) || self.doubt.as_ref().is_some_and(|doubt| doubt.is_open(self.now))
    }

    /// Takes note of when an agent's batch was made, by the agent's clock, and of its stamp.
    pub fn hear(&mut self, agent: &AgentId, made: Wall, stamp: Wall) {
        if let Some(doubt) = &mut self.doubt {
            doubt.votes.insert(agent.clone(), !Offset::between(stamp, made).exceeds(MOVED));
        }
    }

    /// Goes on to that stamp. After a leap the `voters`, agents that spoke lately, have so much patience to speak.
    pub fn mark(&mut self, stamp: Wall, voters: usize, patience: Duration) {
        if self.now == Wall::default() {
            self.now = stamp;
            return;
        }
        let mut passed = Offset::between(self.less_ahead(stamp), self.now);
        if self.leaps_at(stamp) {
            self.leaps += 1;
            self.ahead = Offset::between(stamp, self.now + EVERY);
            let doubt = Doubt { until: self.now + patience, voters, votes: BTreeMap::new() };
            (self.doubt, passed) = (Some(doubt), Offset(0));
        }
        let now = self.now.max(self.less_ahead(stamp));
        self.doubt.take_if(|doubt| !self.ahead.exceeds(MOVED) || doubt.is_for_the_stamps(now));
        if self.doubt.is_none() {
            self.follow(passed);
        }
        self.now = self.now.max(self.less_ahead(stamp));
    }

    fn less_ahead(&self, stamp: Wall) -> Wall {
        Offset(self.ahead.0.saturating_neg()).applied_to(stamp)
    }

    fn leaps_at(&self, stamp: Wall) -> bool {
        self.now != Wall::default() && Offset::between(self.less_ahead(stamp), self.now).exceeds(MOVED)
    }

    /// Comes back to the stamps: at once where they are ahead, at half their pace where they are far behind, since what came under later times must
    /// not hide what comes now.
    fn follow(&mut self, passed: Offset) {
        let behind = self.ahead.0 < 0 && self.ahead.exceeds(MOVED);
        self.ahead = if behind { Offset(self.ahead.0 + passed.0.max(0) / 2) } else { Offset(0) };
    }
}

impl Doubt {
    fn is_open(&self, now: Wall) -> bool {
        now < self.until
    }

    /// Most agree with them, or there is nobody to contradict.
    fn is_for_the_stamps(&self, now: Wall) -> bool {
        let right = self.votes.values().filter(|right| **right).count();
        let all = self.votes.len().max(if self.is_open(now) { self.voters } else { 0 });
        all == 0 || right * 2 > all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: Wall = Wall::from_secs(1_800_000_000);
    const HOUR: u64 = 3600;

    fn at(seconds: u64) -> Wall {
        BEGIN + Duration::from_secs(seconds)
    }

    /// A mark each second, from the true second on; stamps show that much more, the agents that still live show the truth.
    fn run(clock: &mut LogClock, seconds: std::ops::Range<u64>, wrong: u64, agents: &[&str]) {
        for second in seconds {
            for agent in agents {
                clock.hear(&agent.parse().unwrap(), at(second), at(second + wrong));
            }
            clock.mark(at(second + wrong), 3, Duration::from_secs(30));
        }
    }

    #[test]
    fn a_clock_set_an_hour_forward_and_back_moves_nothing() {
        let (mut clock, all) = (LogClock::default(), ["a", "b", "c"]);
        run(&mut clock, 0..60, 0, &all);
        run(&mut clock, 60..600, HOUR, &all);
        assert_eq!((clock.now(), clock.read(at(599 + HOUR))), (at(599), at(599)));
        assert_eq!(clock.read(at(600)), at(599), "before the mark that shows the leap");
        run(&mut clock, 600..700, 0, &all);
        assert_eq!((clock.now(), clock.leaps, clock.is_unsure(at(699))), (at(699), 2, false));
    }

    #[test]
    fn after_a_pause_it_is_with_the_stamps_once_most_agents_are() {
        let mut clock = LogClock::default();
        run(&mut clock, 0..60, 0, &["a", "b", "c"]);
        run(&mut clock, HOUR..HOUR + 2, 0, &["a"]);
        assert!(clock.now() < at(62) && clock.is_unsure(at(HOUR + 1)));
        assert_eq!(clock.latest(at(HOUR)), at(HOUR), "what is news is not too early");
        run(&mut clock, HOUR + 2..HOUR + 3, 0, &["a", "b"]);
        assert_eq!((clock.now(), clock.is_unsure(at(HOUR + 2))), (at(HOUR + 2), false));
    }

    #[test]
    fn where_nobody_speaks_the_stamps_are_believed() {
        let mut clock = LogClock::default();
        run(&mut clock, 0..60, 0, &["a", "b", "c"]);
        run(&mut clock, HOUR..HOUR + 60, 0, &[]);
        assert_eq!(clock.now(), at(HOUR + 59));
        let mut alone = LogClock::default();
        for stamp in [at(0), at(HOUR)] {
            alone.mark(stamp, 0, Duration::from_secs(30));
        }
        assert_eq!(alone.now(), at(HOUR));
    }

    #[test]
    fn a_backlog_that_speaks_first_is_outvoted_by_what_comes_after_it() {
        let mut clock = LogClock::default();
        run(&mut clock, 0..60, 0, &["a"]);
        for second in 0..60 {
            clock.hear(&"a".parse().unwrap(), at(60 + second), at(HOUR + second));
            clock.mark(at(HOUR + second), 1, Duration::from_secs(30));
        }
        assert!(clock.now() < at(130));
        run(&mut clock, HOUR + 60..HOUR + 61, 0, &["a"]);
        assert_eq!(clock.now(), at(HOUR + 60));
    }

    #[test]
    fn a_clock_that_was_wrong_from_the_first_is_come_back_to_slowly_and_never_backwards() {
        let (mut clock, all) = (LogClock::default(), ["a", "b", "c"]);
        run(&mut clock, 0..60, HOUR, &all);
        let mut before = clock.now();
        for second in 60..60 + 3 * HOUR {
            run(&mut clock, second..second + 1, 0, &all);
            assert!(clock.now() >= before && clock.now().since(before) <= Duration::from_secs(1));
            before = clock.now();
        }
        assert_eq!((clock.now(), clock.leaps), (at(59 + 3 * HOUR), 1));
    }
}
