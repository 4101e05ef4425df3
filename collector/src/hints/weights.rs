//! How a source's sessions are shared among the regions that are as good as the first.

use std::collections::BTreeMap;
use std::time::Duration;

use telemetry::RegionName;

/// All weights of a hint together.
pub(super) const WHOLE: u32 = 100;
/// Nobody stampedes: a weight moves by at most so much in so long.
const STEP: u32 = 4;
pub(super) const STEP_EVERY: Duration = Duration::from_mins(5);

pub(super) type Weights = BTreeMap<RegionName, u32>;

/// Shares in proportion to capacity, whole numbers that add up to 100 (largest remainder).
pub(super) fn by_capacity<'a>(tier: impl IntoIterator<Item = (&'a RegionName, f64)>) -> Weights {
    let tier: Vec<_> = tier.into_iter().collect();
    let capacity: f64 = tier.iter().map(|(_, capacity)| capacity).sum();
    let exact = |share: f64| share / capacity * f64::from(WHOLE);
    let mut weights: Weights = tier.iter().map(|(name, share)| ((*name).clone(), exact(*share) as u32)).collect();
    let mut rest = WHOLE.saturating_sub(weights.values().sum());
    let mut by_remainder: Vec<_> = tier.iter().map(|(name, share)| (exact(*share).fract(), *name)).collect();
    by_remainder.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    for (_, name) in by_remainder {
        if let Some(weight) = weights.get_mut(name).filter(|_| rest > 0) {
            *weight += 1;
            rest -= 1;
        }
    }
    weights.retain(|_, weight| *weight > 0);
    weights
}

/// One step from `now` towards `goal`.
pub(super) fn step(now: &Weights, goal: &Weights) -> Weights {
    let names: std::collections::BTreeSet<_> = now.keys().chain(goal.keys()).cloned().collect();
    let at = |weights: &Weights, name: &RegionName| weights.get(name).copied().unwrap_or(0);
    let falls = |name: &RegionName| at(now, name).saturating_sub(at(goal, name)).min(STEP);
    let rises = |name: &RegionName| at(goal, name).saturating_sub(at(now, name)).min(STEP);
    // What is given up and what is taken must be the same, so that the whole stays whole.
    let moved = names.iter().map(falls).sum::<u32>().min(names.iter().map(rises).sum());
    let (mut give, mut take) = (moved, moved);
    names
        .into_iter()
        .map(|name| {
            let (fall, rise) = (falls(&name).min(give), rises(&name).min(take));
            give -= fall;
            take -= rise;
            let weight = at(now, &name) - fall + rise;
            (name, weight)
        })
        .filter(|(_, weight)| *weight > 0)
        .collect()
}

/// Without the regions that had to be left: their share goes to the rest of the tier by capacity.
pub(super) fn without_lost(now: &Weights, goal: &Weights, stays: impl Fn(&RegionName) -> bool) -> Weights {
    let mut left: Weights =
        now.iter().filter(|(name, _)| stays(name)).map(|(name, weight)| (name.clone(), *weight)).collect();
    let lost = WHOLE.saturating_sub(left.values().sum());
    if lost == 0 || goal.is_empty() {
        return now.clone();
    }
    let spread = by_capacity(goal.iter().map(|(name, weight)| (name, f64::from(*weight))));
    let mut given = 0;
    for (name, share) in &spread {
        let part = share * lost / WHOLE;
        *left.entry(name.clone()).or_default() += part;
        given += part;
    }
    if let Some(name) = spread.iter().max_by_key(|(_, share)| **share).map(|(name, _)| name.clone()) {
        *left.entry(name).or_default() += lost - given;
    }
    left.retain(|_, weight| *weight > 0);
    left
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_map;
    use proptest::prelude::*;

    use super::*;

    fn some_weights() -> impl Strategy<Value = Weights> {
        btree_map("[a-e]", 1.0..500.0_f64, 1..5).prop_map(|capacities| {
            let capacities: BTreeMap<RegionName, f64> =
                capacities.into_iter().map(|(name, capacity)| (name.parse().unwrap(), capacity)).collect();
            by_capacity(capacities.iter().map(|(name, capacity)| (name, *capacity)))
        })
    }

    proptest! {
        #[test]
        fn weights_always_add_up_and_never_leap(now in some_weights(), goal in some_weights()) {
            prop_assert_eq!(goal.values().sum::<u32>(), WHOLE);
            let next = step(&now, &goal);
            prop_assert_eq!(next.values().sum::<u32>(), WHOLE);
            for name in now.keys().chain(next.keys()) {
                let (before, after) = (now.get(name).copied().unwrap_or(0), next.get(name).copied().unwrap_or(0));
                prop_assert!(before.abs_diff(after) <= STEP);
            }
        }

        #[test]
        fn steps_arrive(now in some_weights(), goal in some_weights()) {
            let end = (0..WHOLE).fold(now, |weights, _| step(&weights, &goal));
            prop_assert_eq!(end, goal);
        }

        #[test]
        fn a_lost_region_keeps_nothing_and_the_whole_stays(now in some_weights(), goal in some_weights()) {
            let lost: RegionName = "a".parse().unwrap();
            let mut goal = goal;
            goal.remove(&lost);
            prop_assume!(!goal.is_empty());
            let next = without_lost(&now, &goal, |name| *name != lost);
            prop_assert_eq!(next.values().sum::<u32>(), WHOLE);
            prop_assert!(!next.contains_key(&lost));
        }
    }
}
