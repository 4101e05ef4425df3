//! Whether this agent can be believed. It probes a reflector inside itself all the time: what that takes is the noise floor, below
//! which no measurement of ours means anything. While the floor is high, or sends are late, samples are suspect.

use std::time::Duration;

use runtime::Mono;
use telemetry::Outcome;

use crate::probe::{Report, Token};

/// How often the floor is measured.
pub const EVERY: Duration = Duration::from_millis(100);

/// A probe of ourselves that is not back by then is lost.
const GIVE_UP: Duration = Duration::from_secs(1);

/// Beyond this a delay of our own could pass for one of the network: it is twice what two regions may differ by and still be equals.
pub const LIMIT: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub struct Wellness {
    next: Mono,
    /// The floor's probe that is out, and since when.
    out: Option<(Token, Mono)>,
    /// The last one was slow, or failed.
    noisy: bool,
    /// A send of this tick was late.
    late: bool,
    floor: Vec<Duration>,
}

impl Wellness {
    pub fn new(now: Mono) -> Self {
        Self { next: now, out: None, noisy: false, late: false, floor: Vec::new() }
    }

    /// A tick begins. Whether the floor is to be measured.
    pub fn begin_tick(&mut self, now: Mono) -> bool {
        let due = self.next <= now;
        self.late = due && now.since(self.next) > LIMIT;
        if due {
            self.next = now + EVERY;
        }
        due && self.out.is_none_or(|(_, sent)| now.since(sent) >= GIVE_UP)
    }

    /// The floor's probe went out, or could not (`None`).
    pub fn asked(&mut self, sent: Option<(Token, Mono)>) {
        self.out = sent;
    }

    /// Something else went out so late.
    pub fn sent(&mut self, lateness: Duration) {
        self.late |= lateness > LIMIT;
    }

    /// Whether that was the answer to the floor's probe.
    pub fn hear(&mut self, report: &Report) -> bool {
        let Report::Answer { token, outcome, heard, .. } = report else { return false };
        let Some((_, sent)) = self.out.filter(|(out, _)| out == token) else { return false };
        self.out = None;
        let took = heard.round_trip(sent).filter(|_| *outcome == Outcome::Reply).map(|trip| trip.time);
        self.floor.extend(took);
        self.noisy = took.is_none_or(|took| took > LIMIT);
        true
    }

    pub fn is_unwell(&self, now: Mono) -> bool {
        let silent = self.out.is_some_and(|(_, sent)| now.since(sent) > LIMIT);
        self.late || self.noisy || silent
    }

    /// When the floor is to be measured next.
    pub fn next(&self) -> Mono {
        self.next
    }

    /// What was measured since this was last asked.
    pub fn take_floor(&mut self) -> Vec<Duration> {
        std::mem::take(&mut self.floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Errand;
    use crate::probe::Heard;

    const TOKEN: Token = Token(7);

    fn at(millis: u64) -> Mono {
        Mono(millis * 1_000_000)
    }

    fn answer(token: Token, millis: u64) -> Report {
        let heard = Heard::ByPacer { at: at(millis), kernel: None };
        Report::Answer { token, errand: Errand::Floor, outcome: Outcome::Reply, heard }
    }

    fn asked() -> Wellness {
        let mut wellness = Wellness::new(at(0));
        assert!(wellness.begin_tick(at(0)));
        wellness.asked(Some((TOKEN, at(0))));
        wellness
    }

    #[test]
    fn a_quick_answer_of_our_own_is_the_floor_and_all_is_well() {
        let mut wellness = asked();
        assert!(!wellness.hear(&answer(Token(8), 1)), "another's");
        assert!(wellness.hear(&answer(TOKEN, 1)));
        assert!(!wellness.is_unwell(at(1)));
        assert_eq!(wellness.take_floor(), [Duration::from_millis(1)]);
        assert_eq!(wellness.next(), at(100));
    }

    #[test]
    fn a_slow_answer_makes_us_unwell_until_a_quick_one() {
        let mut wellness = asked();
        assert!(wellness.hear(&answer(TOKEN, 30)));
        assert!(wellness.is_unwell(at(60)));
        assert!(wellness.begin_tick(at(100)));
        wellness.asked(Some((Token(8), at(100))));
        assert!(wellness.hear(&answer(Token(8), 101)));
        assert!(!wellness.is_unwell(at(101)));
    }

    #[test]
    fn no_answer_makes_us_unwell_while_it_is_awaited() {
        let mut wellness = asked();
        assert!(!wellness.is_unwell(at(5)));
        assert!(wellness.is_unwell(at(20)));
        assert!(!wellness.begin_tick(at(101)), "one at a time");
        assert!(wellness.begin_tick(at(1101)), "that one is lost");
    }

    #[test]
    fn a_late_send_makes_what_ends_in_its_tick_suspect() {
        let mut wellness = asked();
        wellness.hear(&answer(TOKEN, 1));
        wellness.begin_tick(at(50));
        wellness.sent(Duration::from_millis(30));
        assert!(wellness.is_unwell(at(50)));
        wellness.begin_tick(at(51));
        assert!(!wellness.is_unwell(at(51)));
        wellness.begin_tick(at(400));
        assert!(wellness.is_unwell(at(400)), "we slept through the floor's own turn");
    }
}
