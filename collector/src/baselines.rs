//! What is usual for a path: the median of the week behind it.
//!
//! Once an hour, each at a time of its own, a path that drives its cell is looked at: a few figures of its last ten minutes are
//! kept. The medians of a week of looks are what is usual. An outage of some hours moves them by nothing, however bad it was;
//! what all of the last [`LASTS`] looks show is a new route: what was before is forgotten.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use telemetry::time::nanos;
use telemetry::{PathId, Wall};
use utoipa::ToSchema;

use crate::policy::Policy;
use crate::rings::{Rings, Seen};
use crate::slowness::margin_ms;

const EVERY: Duration = Duration::from_hours(1);
const WEEK: Duration = Duration::from_hours(7 * 24);
/// How much is looked at, and how long after its end: agents push every ten seconds.
const LENGTH: Duration = Duration::from_mins(10);
const RIPE: Duration = Duration::from_mins(1);
/// Fewer replies say nothing of a path.
const REPLIES: u64 = 60;
/// Fewer looks say nothing of what is usual.
const LOOKS: usize = 3;
/// As many looks in a row, all shifted to the same side, are no incident.
const LASTS: usize = 4;
/// More loss than before by this much is a fault, whatever the round trip does.
const LOSSIER: f64 = 0.01;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Baselines {
    paths: BTreeMap<PathId, Baseline>,
    /// The slot in which it was last seen who is due.
    seen: Wall,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Baseline {
    /// Oldest first, none older than a week.
    looks: Vec<Look>,
    tried: Wall,
    usual: Option<Usual>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Look {
    at: Wall,
    p50_ms: f32,
    p90_ms: f32,
    loss: f32,
}

/// What a path usually shows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Usual {
    pub p50_ms: f64,
    pub p90_ms: f64,
    /// Round-trip loss, 0–1.
    pub loss: f64,
    /// How many hours it is made of.
    pub hours: usize,
}

impl Baselines {
    /// Looks at those that are due.
    pub fn learn(&mut self, rings: &Rings, policy: &Policy, now: Wall) {
        let slot = now.slot(policy.window);
        if slot == self.seen {
            return;
        }
        self.seen = slot;
        let until = (now - RIPE).slot(policy.window);
        for (path, series) in rings.paths() {
            let drives = series.first().is_some_and(|id| policy.is_primary(&rings.get(*id).series));
            if drives && self.paths.entry(path).or_default().is_due(path, now) {
                let seen = rings.merge(series.iter().copied(), until - LENGTH, until);
                self.paths.entry(path).or_default().look(&seen, now);
            }
        }
        self.paths.retain(|_, baseline| now.since(baseline.tried) <= WEEK);
    }

    pub fn usual(&self, path: PathId) -> Option<Usual> {
        self.paths.get(&path)?.usual
    }
}

impl Baseline {
    /// Once in each hour that begins at the path's own minute.
    fn is_due(&self, path: PathId, now: Wall) -> bool {
        let phase = Duration::from_nanos(path.0 % nanos(EVERY));
        (now + phase).slot(EVERY) != (self.tried + phase).slot(EVERY)
    }

    fn look(&mut self, seen: &Seen, now: Wall) {
        self.tried = now;
        if let Some(look) = Look::of(seen, now) {
            self.add(look);
        }
    }

    fn add(&mut self, look: Look) {
        self.looks.retain(|kept| look.at.since(kept.at) < WEEK);
        self.looks.push(look);
        let last = self.looks.len().saturating_sub(LASTS);
        if is_new_route(self.looks.split_at(last)) {
            self.looks.drain(..last);
        }
        self.usual = Usual::of(&self.looks);
    }
}

fn is_new_route((before, last): (&[Look], &[Look])) -> bool {
    let Some(usual) = Usual::of(before) else { return false };
    let side = |look: &Look| look.side(&usual).filter(|_| f64::from(look.loss) <= usual.loss + LOSSIER);
    let first = last.first().and_then(side);
    first.is_some() && last.iter().all(|look| side(look) == first)
}

impl Look {
    fn of(seen: &Seen, at: Wall) -> Option<Self> {
        let quantile = |q| seen.quantile_ms(q).map(|ms| ms as f32);
        let (p50_ms, p90_ms) = (quantile(0.5)?, quantile(0.9)?);
        let loss = seen.loss()? as f32;
        (seen.replies.count() >= REPLIES).then_some(Self { at, p50_ms, p90_ms, loss })
    }

    /// To which side of the usual it lies clearly.
    fn side(&self, usual: &Usual) -> Option<Ordering> {
        let shift = f64::from(self.p50_ms) - usual.p50_ms;
        (shift.abs() > margin_ms(usual.p50_ms)).then(|| shift.total_cmp(&0.0))
    }
}

impl Usual {
    fn of(looks: &[Look]) -> Option<Self> {
        let of = |figure: fn(&Look) -> f32| median(looks.iter().map(figure).map(f64::from));
        (looks.len() >= LOOKS).then_some(())?;
        Some(Self {
            p50_ms: of(|look| look.p50_ms)?,
            p90_ms: of(|look| look.p90_ms)?,
            loss: of(|look| look.loss)?,
            hours: looks.len(),
        })
    }
}

/// The upper one of two in the middle.
pub fn median(all: impl Iterator<Item = f64>) -> Option<f64> {
    let mut all: Vec<_> = all.collect();
    let middle = all.len() / 2;
    (!all.is_empty()).then(|| *all.select_nth_unstable_by(middle, f64::total_cmp).1)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    const BEGIN: Wall = Wall::from_secs(1_800_000_000);

    /// A look an hour.
    fn baseline(looks: impl IntoIterator<Item = (f32, f32)>) -> Baseline {
        let mut baseline = Baseline::default();
        for (hour, (p50_ms, loss)) in (0..).zip(looks) {
            baseline.add(Look { at: BEGIN + EVERY * hour, p50_ms, p90_ms: p50_ms + 5.0, loss });
        }
        baseline
    }

    fn p50_after(looks: &[(f32, f32)]) -> u32 {
        baseline(looks.iter().copied()).usual.unwrap().p50_ms as u32
    }

    proptest! {
        #[test]
        fn incidents_of_less_than_four_hours_move_nothing(
            figures in vec((48.0..52_f32, 0.0..0.005_f32), 40..200),
            incidents in vec((any::<Index>(), 1..LASTS, 60.0..2000_f32), 0..4),
        ) {
            let mut looks = figures.clone();
            for (at, hours, p50_ms) in incidents {
                // Hours apart from each other, or two would be one that lasts.
                let at = at.index(looks.len() / (2 * LASTS)) * 2 * LASTS;
                looks[at..at + hours].fill((p50_ms, 0.0));
            }
            let usual = baseline(looks).usual.unwrap();
            prop_assert!((48.0..52.0).contains(&usual.p50_ms) && usual.loss < 0.005, "{usual:?}");
        }
    }

    #[test]
    fn nothing_is_usual_before_three_looks() {
        assert_eq!(baseline([(50.0, 0.0); 2]).usual, None);
        assert_eq!(baseline([(50.0, 0.0); 3]).usual, Some(Usual { p50_ms: 50.0, p90_ms: 55.0, loss: 0.0, hours: 3 }));
    }

    #[test]
    fn a_shift_that_lasts_four_hours_is_the_new_baseline_to_either_side() {
        for shifted in [90_u8, 20] {
            let looks = [&[(50.0, 0.0); 100][..], &[(shifted.into(), 0.001); 4]].concat();
            assert_eq!(p50_after(&looks[..103]), 50);
            assert_eq!(p50_after(&looks), u32::from(shifted));
        }
    }

    #[test]
    fn a_shift_with_loss_or_to_both_sides_or_within_the_margin_is_none() {
        let usual = [(50.0, 0.0); 100];
        let others = [[(90.0, 0.05); 4], [(90.0, 0.0), (90.0, 0.0), (90.0, 0.0), (20.0, 0.0)], [(64.0, 0.0); 4]];
        for last in others {
            assert_eq!(p50_after(&[&usual[..], &last].concat()), 50);
        }
    }

    #[test]
    fn where_loss_is_usual_a_shift_with_as_much_is_a_new_route() {
        let looks = [&[(50.0, 0.03); 100][..], &[(90.0, 0.035); 4]].concat();
        assert_eq!(p50_after(&looks), 90);
    }

    #[test]
    fn what_is_older_than_a_week_is_forgotten() {
        let drift = |hour: u16| (50.0 + f32::from(hour) * 0.01, 0.0);
        let usual = baseline((0..1000).map(drift)).usual.unwrap();
        assert_eq!(usual.hours, 168);
        assert!((usual.p50_ms - (50.0 + 916.0 * 0.01)).abs() < 1e-3, "{usual:?}");
    }

    #[test]
    fn a_path_is_due_once_in_every_hour_at_a_time_of_its_own() {
        let dues = |path: u64| {
            let (mut baseline, mut dues) = (Baseline::default(), Vec::new());
            for second in (0..3 * 3600).step_by(10) {
                let now = BEGIN + Duration::from_secs(second);
                if baseline.is_due(PathId(path), now) {
                    baseline.tried = now;
                    dues.push(second);
                }
            }
            dues
        };
        assert_eq!(dues(0), [0, 3600, 7200]);
        assert_eq!(dues(nanos(Duration::from_mins(10))), [0, 3000, 6600, 10200]);
    }
}
