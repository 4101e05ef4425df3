//! What may be asked of a path: counted before anything is read.

use std::time::Duration;

use humantime::Duration as Spoken;
use telemetry::{PathId, Wall};

use super::key::HOUR;
use super::tier::Tier;
use crate::rings::SeriesId;

/// More than any screen has columns.
const MOST_STEPS: u128 = 11_000;
/// Of all series of the path, at the width of the tier: about a second of reading.
const MOST_WINDOWS: u128 = 1_000_000;
/// So many are given where no step is asked for, or fewer.
const USUAL_STEPS: u128 = 400;
const MINUTE: u64 = 60;
const STEPS: [Duration; 11] = [
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(MINUTE),
    Duration::from_secs(5 * MINUTE),
    Duration::from_secs(15 * MINUTE),
    Duration::from_hours(1),
    Duration::from_hours(3),
    Duration::from_hours(6),
    Duration::from_hours(12),
    Duration::from_hours(24),
    Duration::from_hours(24 * 7),
];

/// Steps are counted from the epoch, as slots are.
#[derive(Debug, Clone)]
pub struct Question {
    pub path: PathId,
    /// By which its series are known to the fold, of every standing: what is not stored yet is found by these.
    pub live: Vec<SeriesId>,
    pub from: Wall,
    pub to: Wall,
    pub step: Duration,
    pub tier: Tier,
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unanswerable {
    #[error("from {from} to {to}: the range ends before it begins")]
    Backwards { from: Wall, to: Wall },
    #[error("step: found \"{step}\", allowed: multiples of the windows' width, \"{width}\"")]
    Finer { step: Spoken, width: Spoken },
    #[error("step: found \"{step}\"; from {from} on, and not from {kept}, allowed: \"{least}\" or more")]
    Gone { step: Spoken, from: Wall, kept: Wall, least: Spoken },
    #[error(
        "step: found \"{step}\", of which the range has {steps}; allowed: at most {MOST_STEPS}, so \"{least}\" or more"
    )]
    TooMany { steps: u128, step: Spoken, least: Spoken },
    #[error(
        "step: found \"{step}\", for which {windows} windows of {series} series are read; allowed: at most {MOST_WINDOWS}, so a shorter \
         range, or steps of whole minutes or hours"
    )]
    TooMuch { step: Spoken, windows: u128, series: usize },
}

/// The first moment of which each tier still holds all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Floors {
    pub raw: Wall,
    pub minute: Wall,
    pub hour: Wall,
}

impl Floors {
    fn of(self, tier: Tier) -> Wall {
        match tier {
            Tier::Raw => self.raw,
            Tier::Minute => self.minute,
            Tier::Hour => self.hour,
        }
    }
}

impl Question {
    /// Steps are as asked for, or as suit the range; the range is widened to whole ones.
    pub fn new(
        path: PathId,
        live: Vec<SeriesId>,
        (from, to): (Wall, Wall),
        step: Option<Duration>,
        (width, floors): (Duration, Floors),
    ) -> Result<Self, Unanswerable> {
        if to < from {
            return Err(Unanswerable::Backwards { from, to });
        }
        let steps = |step: Duration| to.since(from).as_nanos() / step.as_nanos().max(1);
        let windows = |step: Duration| {
            let tier = Tier::of_step(step);
            let each = tier.width().unwrap_or(width).as_nanos().max(1);
            to.since(from.max(floors.of(tier))).as_nanos() / each * live.len().max(1) as u128
        };
        let is_little = |step: &Duration| windows(*step) <= MOST_WINDOWS;
        // What is older than everything has no coarser steps to be told in.
        let is_kept = |step: &Duration| match Tier::of_step(*step) {
            Tier::Hour => true,
            tier => floors.of(tier) <= from,
        };
        let step = match step {
            Some(step) if !step.as_nanos().is_multiple_of(width.as_nanos()) => {
                return Err(Unanswerable::Finer { step: step.into(), width: width.into() });
            }
            Some(step) if steps(step) > MOST_STEPS => {
                let least = STEPS.into_iter().find(|step| steps(*step) <= MOST_STEPS).unwrap_or(step);
                return Err(Unanswerable::TooMany { steps: steps(step), step: step.into(), least: least.into() });
            }
            Some(step) if !is_kept(&step) => {
                let least = STEPS.into_iter().find(is_kept).unwrap_or(HOUR);
                let kept = floors.of(Tier::of_step(step));
                return Err(Unanswerable::Gone { step: step.into(), from, kept, least: least.into() });
            }
            Some(step) => step,
            None => {
                let whole = |step: &Duration| step.as_nanos().is_multiple_of(width.as_nanos());
                let mut suit = STEPS.into_iter().filter(whole).filter(|step| steps(*step) <= USUAL_STEPS);
                let coarsest = suit.clone().next_back().unwrap_or_else(|| width.max(Duration::from_hours(24 * 7)));
                suit.find(|step| is_kept(step) && is_little(step)).unwrap_or(coarsest)
            }
        };
        if !is_little(&step) {
            return Err(Unanswerable::TooMuch { step: step.into(), windows: windows(step), series: live.len() });
        }
        let to = (to + step).slot(step).max(to.slot(step) + step);
        Ok(Self { path, live, from: from.slot(step), to, step, tier: Tier::of_step(step) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: Duration = Duration::from_secs(10);
    const FROM: Wall = Wall::from_secs(1_800_000_007);

    fn ask(length: Duration, step: Option<Duration>) -> Result<Question, Unanswerable> {
        ask_of(Floors::default(), length, step)
    }

    fn ask_of(floors: Floors, length: Duration, step: Option<Duration>) -> Result<Question, Unanswerable> {
        Question::new(PathId(1), Vec::new(), (FROM, FROM + length), step, (WIDTH, floors))
    }

    #[test]
    fn a_step_suits_the_range_and_the_range_is_widened_to_whole_steps() {
        let steps = [(1, 10), (5, 60), (24, 300), (24 * 30, 3 * 3600), (24 * 365, 24 * 3600)];
        for (hours, step) in steps {
            let question = ask(Duration::from_hours(hours), None).unwrap();
            assert_eq!(question.step.as_secs(), step, "{hours} h");
            assert_eq!(question.from, question.from.slot(question.step));
            assert_eq!(question.to, question.to.slot(question.step));
            assert!(question.from <= FROM && question.to > FROM + Duration::from_hours(hours));
        }
    }

    #[test]
    fn what_is_not_kept_in_fine_steps_is_told_in_coarse_ones_or_says_so() {
        let floors = Floors { raw: FROM + WIDTH, ..Floors::default() };
        let day = Duration::from_hours(1);
        let question = ask_of(floors, day, None).unwrap();
        assert_eq!((question.step, question.tier), (Duration::from_mins(1), Tier::Minute));
        let gone = ask_of(floors, day, Some(WIDTH)).unwrap_err();
        assert_eq!(
            gone.to_string(),
            "step: found \"10s\"; from 2027-01-15T08:00:07.000Z on, and not from 2027-01-15T08:00:17.000Z, allowed: \"1m\" \
             or more",
        );
    }

    #[test]
    fn what_cannot_be_answered_says_what_could() {
        let finer = ask(Duration::from_hours(1), Some(Duration::from_secs(5))).unwrap_err();
        assert_eq!(finer.to_string(), "step: found \"5s\", allowed: multiples of the windows' width, \"10s\"");
        let many = ask(Duration::from_hours(24 * 365), Some(WIDTH)).unwrap_err();
        assert_eq!(
            many.to_string(),
            "step: found \"10s\", of which the range has 3153600; allowed: at most 11000, so \"1h\" or more",
        );
        let live = SeriesId::some(50);
        let of_many = |step, floors| {
            let range = (FROM, FROM + Duration::from_hours(24 * 40));
            Question::new(PathId(1), live.clone(), range, Some(step), (WIDTH, floors))
        };
        let step = Duration::from_secs(330);
        assert_eq!(
            of_many(step, Floors::default()).unwrap_err().to_string(),
            "step: found \"5m 30s\", for which 17280000 windows of 50 series are read; allowed: at most 1000000, so a shorter range, or \
             steps of whole minutes or hours",
        );
        assert!(of_many(Duration::from_hours(1), Floors::default()).is_ok());
        let backwards =
            Question::new(PathId(1), Vec::new(), (FROM, FROM - WIDTH), None, (WIDTH, Floors::default())).unwrap_err();
        assert!(matches!(backwards, Unanswerable::Backwards { .. }));
    }
}
