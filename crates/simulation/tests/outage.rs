//! The collector is away for three days.

use std::time::Duration;

use agent::spool::Limits;
use simulation::outage::{Left, Outage, live};

const DAY: Duration = Duration::from_hours(24);

/// A batch in five minutes, so that it is lived quickly; `cargo xtask bench sim` lives it at the pace of an agent.
fn away(bytes: u64, restarts: usize) -> Outage {
    let limits = Limits { bytes, age: DAY };
    Outage { lasts: 3 * DAY, every: Duration::from_mins(5), series: 1, limits, restarts }
}

#[test]
fn a_day_is_kept_and_a_gap_names_the_two_before() {
    let left = live(1, away(8 << 20, 0)).unwrap();
    assert_eq!((left.made, left.kept), (3 * 288, 289), "those of the last day, both its ends included");
    assert_eq!((left.gaps.len(), left.oldest), (1, DAY));
}

#[test]
fn where_a_day_is_too_much_as_much_is_kept_as_may_be() {
    let Left { made, kept, most_bytes, oldest, gaps } = live(2, away(64 << 10, 0)).unwrap();
    assert!(kept > 20 && kept < 280 && oldest < DAY, "{kept} of {made}, {oldest:?}");
    assert!(most_bytes > 60 << 10, "{most_bytes}");
    assert_eq!(gaps.len(), 1);
}

#[test]
fn restarts_in_between_neither_lose_nor_hide_anything() {
    for (seed, bytes) in (0..3).flat_map(|seed| [(seed, 8 << 20), (seed, 64 << 10)]) {
        let left = live(seed, away(bytes, 9)).unwrap();
        assert!(left.gaps.len() > 1, "of several boots: {left:?}");
    }
}
