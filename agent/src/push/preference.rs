//! Which of several collectors gets the next batch: the first that takes any, in the order of the configuration.
//!
//! One that cannot be reached, or fails, is left at once; one that is busy is obeyed a few times first. The better ones are tried
//! again with batches that are due anyway, the less often the longer they fail.

use std::time::Duration;

use telemetry::Mono;

/// How often in a row a collector may ask for time before another is asked.
const BUSY: u32 = 3;
/// Until a better one is tried again: doubled from the first to the last of these, and shortened by up to half.
pub(super) const FIRST_RETURN: Duration = Duration::from_secs(30);
pub(super) const LAST_RETURN: Duration = Duration::from_mins(10);

/// Why a collector did not take a batch that it may take later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It is not there, or something there fails.
    Failing,
    /// It asks for time.
    Busy,
}

/// What to do with a batch that was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Another collector is asked at once.
    Another,
    /// Whoever could be asked was; wait, as long as was asked for and some more.
    Wait(Option<Duration>),
}

/// Batches go to another collector than before, by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    pub from: usize,
    pub to: usize,
    pub why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The one before is in trouble.
    Left(Trouble),
    /// It stands before the one before.
    Preferred,
}

#[derive(Debug)]
pub struct Preference {
    collectors: usize,
    /// Which took a batch last.
    settled: usize,
    /// Which gets the next one.
    at: usize,
    /// How many were left in this round.
    left: usize,
    busy: u32,
    /// The longest that was asked for in this round.
    asked: Option<Duration>,
    trouble: Trouble,
    back: Duration,
    back_at: Mono,
}

impl Why {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Left(Trouble::Failing) => "failing",
            Self::Left(Trouble::Busy) => "busy",
            Self::Preferred => "preferred",
        }
    }
}

impl Preference {
    pub fn new(collectors: usize) -> Self {
        Self {
            collectors,
            settled: 0,
            at: 0,
            left: 0,
            busy: 0,
            asked: None,
            trouble: Trouble::Failing,
            back: FIRST_RETURN,
            back_at: Mono(0),
        }
    }

    /// Whom to send the next batch to.
    pub fn choose(&mut self, now: Mono) -> usize {
        if self.settled > 0 && self.at == self.settled && self.left == 0 && now >= self.back_at {
            self.at = 0;
        }
        self.at
    }

    /// Whoever was chosen had the last word on a batch. `chance` is from 0 to 1.
    pub fn took(&mut self, now: Mono, chance: f64) -> Option<Move> {
        let (from, to) = (self.settled, self.at);
        let tried_in_vain = from == to && self.left > 0;
        (self.settled, self.left, self.busy, self.asked) = (to, 0, 0, None);
        if to != from {
            self.back = FIRST_RETURN;
        } else if tried_in_vain {
            self.back = (self.back * 2).min(LAST_RETURN);
        }
        if to != from || tried_in_vain {
            self.back_at = now + self.back.mul_f64(1.0 - chance / 2.0);
        }
        let why = if to < from { Why::Preferred } else { Why::Left(self.trouble) };
        (to != from).then_some(Move { from, to, why })
    }

    /// Whoever was chosen did not take it.
    pub fn failed(&mut self, trouble: Trouble, asked: Option<Duration>) -> Then {
        if self.at == self.settled {
            self.trouble = trouble;
        }
        self.busy = if trouble == Trouble::Busy { self.busy + 1 } else { 0 };
        let is_obeyed = trouble == Trouble::Busy && self.at == self.settled && self.left == 0 && self.busy < BUSY;
        if is_obeyed || self.collectors == 1 {
            return Then::Wait(asked);
        }
        self.busy = 0;
        self.left += 1;
        self.asked = self.asked.max(asked);
        if self.left < self.collectors {
            self.at = (self.at + 1) % self.collectors;
            return Then::Another;
        }
        (self.at, self.left) = (0, 0);
        Then::Wait(self.asked.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVEN: f64 = 0.0;

    /// Batches are due once a second; of each collector a strip says what it does then: `.` takes, `x` fails, `b` is busy. What comes
    /// out is who took each batch, `-` where nobody did.
    fn check(strips: &[&str]) -> (String, Vec<Move>) {
        let (mut preference, mut moves, mut took) = (Preference::new(strips.len()), Vec::new(), String::new());
        for second in 0..strips[0].len() {
            let now = Mono::default() + Duration::from_secs(second as u64);
            loop {
                let place = preference.choose(now);
                let then = match strips[place].as_bytes()[second] {
                    b'.' => {
                        moves.extend(preference.took(now, EVEN));
                        took += &place.to_string();
                        break;
                    }
                    b'x' => preference.failed(Trouble::Failing, None),
                    _ => preference.failed(Trouble::Busy, Some(Duration::from_secs(1))),
                };
                if let Then::Wait(_) = then {
                    took.push('-');
                    break;
                }
            }
        }
        (took, moves)
    }

    #[test]
    fn one_that_fails_is_left_at_once_for_the_next() {
        let (took, moves) = check(&["..xxx", "....."]);
        assert_eq!(took, "00111");
        assert_eq!(moves, [Move { from: 0, to: 1, why: Why::Left(Trouble::Failing) }]);
        assert_eq!(check(&["xx", "xx", ".."]).0, "22");
    }

    #[test]
    fn one_that_is_busy_is_obeyed_twice_and_then_left() {
        let (took, moves) = check(&["bbbbb", "....."]);
        assert_eq!(took, "--111");
        assert_eq!(moves, [Move { from: 0, to: 1, why: Why::Left(Trouble::Busy) }]);
        assert_eq!(check(&["bb.bb.", "......"]).0, "--0--0");
    }

    #[test]
    fn one_alone_is_waited_for() {
        assert_eq!(check(&["xbxbbbb."]), ("-------0".to_owned(), Vec::new()));
    }

    #[test]
    fn where_all_fail_it_begins_again_with_the_preferred() {
        assert_eq!(check(&["xx.", "xxx"]).0, "--0");
        assert_eq!(check(&["x...", ".x..", "...."]).0, "1222");
    }

    #[test]
    fn the_longest_that_anyone_asked_for_is_waited() {
        let mut preference = Preference::new(2);
        assert_eq!(preference.failed(Trouble::Failing, Some(Duration::from_secs(7))), Then::Another);
        let then = preference.failed(Trouble::Failing, Some(Duration::from_secs(5)));
        assert_eq!(then, Then::Wait(Some(Duration::from_secs(7))));
        assert_eq!(preference.failed(Trouble::Failing, None), Then::Another);
        assert_eq!(preference.failed(Trouble::Failing, None), Then::Wait(None));
    }

    #[test]
    fn the_preferred_is_come_back_to_after_a_while() {
        let preferred = "x".repeat(20) + &".".repeat(60);
        let (took, moves) = check(&[&preferred, &".".repeat(80)]);
        assert_eq!(took, "1".repeat(30) + &"0".repeat(50));
        assert_eq!(moves.last(), Some(&Move { from: 1, to: 0, why: Why::Preferred }));
    }

    #[test]
    fn one_that_goes_on_failing_is_tried_the_less_often_and_costs_no_batch() {
        let mut preference = Preference::new(2);
        let (mut tried, mut now) = (Vec::new(), Mono::default());
        for _ in 0..7200 {
            if preference.choose(now) == 0 {
                tried.push(now.since(Mono(0)).as_secs());
                assert_eq!(preference.failed(Trouble::Failing, None), Then::Another);
            }
            assert_eq!(preference.choose(now), 1);
            preference.took(now, EVEN);
            now += Duration::from_secs(1);
        }
        assert_eq!(tried[..6], [0, 30, 90, 210, 450, 930]);
        assert!(tried[6..].windows(2).all(|pair| pair[1] - pair[0] == LAST_RETURN.as_secs()), "{tried:?}");
    }
}
