//! Between agents and collector: requests and answers are lost, doubled, delayed so that they overtake each other, and some agents are cut
//! off for a while.

use std::collections::BTreeSet;
use std::time::Duration;

use journal::sim::Dice;

pub(crate) struct Network {
    /// Of a hundred requests, and of a hundred answers.
    lost: usize,
    doubled: usize,
    /// Those that are so late that others overtake them.
    late: usize,
    apart: BTreeSet<usize>,
}

impl Network {
    pub(crate) fn drawn(dice: &mut Dice) -> Self {
        Self { lost: dice.roll(35), doubled: dice.roll(25), late: dice.roll(20), apart: BTreeSet::new() }
    }

    /// From here on nothing is lost.
    pub(crate) fn calm(&mut self) {
        *self = Self { lost: 0, doubled: 0, late: 0, apart: BTreeSet::new() };
    }

    pub(crate) fn part(&mut self, agent: usize) {
        self.apart.insert(agent);
    }

    pub(crate) fn join(&mut self, agent: usize) {
        self.apart.remove(&agent);
    }

    /// After how long a request arrives, each time that it does.
    pub(crate) fn request(&self, agent: usize, dice: &mut Dice) -> Vec<Duration> {
        let copies = 1 + usize::from(dice.roll(100) < self.doubled);
        (0..copies).filter_map(|_| self.carry(agent, dice)).collect()
    }

    pub(crate) fn answer(&self, agent: usize, dice: &mut Dice) -> Option<Duration> {
        self.carry(agent, dice)
    }

    fn carry(&self, agent: usize, dice: &mut Dice) -> Option<Duration> {
        let arrives = dice.roll(100) >= self.lost && !self.apart.contains(&agent);
        let late = dice.roll(100) < self.late;
        let most = if late { 30_000 } else { 80 };
        let after = Duration::from_millis(1 + dice.roll(most) as u64);
        arrives.then_some(after)
    }
}
