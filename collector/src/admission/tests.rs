use std::collections::BTreeMap;

use super::*;

const EVEN: f64 = 0.5;

fn at(millis: u64) -> Mono {
    Mono(millis * 1_000_000)
}

/// Of `batches` batches of 9 KiB, and as much again when they are open.
fn with_room_for(batches: usize) -> Admission {
    Admission::new(Room { batches, bytes: batches * BATCH })
}

const WIRE: usize = 9 << 10;
const BATCH: usize = WIRE * 2;

/// Full, and so many batches a second were folded and came anew for ten seconds, up to [`at`] 10 s.
fn busy(admission: &mut Admission, batches: u64) {
    while admission.enter(WIRE, at(0), EVEN).is_ok() {}
    for turn in 1..=10 * batches {
        let now = at(turn * 1000 / batches);
        admission.fold(BATCH, now);
        admission.enter(WIRE, now, EVEN).unwrap();
    }
}

#[test]
fn what_waits_is_bounded_by_number_and_by_bytes() {
    let mut admission = Admission::new(Room { batches: 2, bytes: 1000 });
    admission.enter(100, at(0), EVEN).unwrap();
    admission.enter(100, at(0), EVEN).unwrap();
    let told = admission.enter(1, at(0), EVEN).unwrap_err();
    assert_eq!((told.batches, told.bytes), (2, 400));
    admission.leave(200);
    admission.enter(401, at(0), EVEN).unwrap_err();
    admission.enter(400, at(0), EVEN).unwrap();
    assert_eq!(admission.waiting(), Room { batches: 2, bytes: 1000 });
}

#[test]
fn a_batch_that_nothing_waits_before_is_let_in_however_large() {
    let mut admission = Admission::new(Room { batches: 2, bytes: 1000 });
    let held = admission.enter(5000, at(0), EVEN).unwrap();
    let held = admission.settle(held, 5000, 90_000, at(0), EVEN).unwrap();
    admission.enter(1, at(0), EVEN).unwrap_err();
    admission.fold(held, at(10));
    assert_eq!(admission.waiting(), Room { batches: 0, bytes: 0 });
}

#[test]
fn one_that_inflates_beyond_the_room_is_refused_and_the_next_are_expected_to() {
    let mut admission = Admission::new(Room { batches: 1000, bytes: 10_000 });
    let all: Vec<_> = (0..5).map(|_| admission.enter(1000, at(0), EVEN).unwrap()).collect();
    assert!(admission.enter(1, at(0), EVEN).is_err());
    admission.settle(all[0], 1000, 9000, at(0), EVEN).unwrap_err();
    admission.leave(all[0]);
    let held = admission.settle(all[1], 1000, 400, at(0), EVEN).unwrap();
    assert_eq!((held, admission.waiting().bytes), (1400, 7400));
    assert!(admission.enter(1300, at(0), EVEN).is_err(), "twice as much would have fitted in");
}

#[test]
fn who_is_refused_comes_again_when_what_waits_will_have_been_taken() {
    for (per_second, least, most) in [(10, 9, 12), (100, 1, 2), (2, 30, 30)] {
        let mut admission = with_room_for(100);
        busy(&mut admission, per_second);
        let told = admission.enter(WIRE, at(10_000), EVEN).unwrap_err();
        assert!((least..=most).contains(&told.retry_after_s), "{per_second} a second: {told:?}");
    }
}

#[test]
fn a_fold_that_stands_still_is_soon_known_to() {
    let mut admission = with_room_for(100);
    busy(&mut admission, 100);
    let told = |admission: &mut Admission, now| admission.enter(WIRE, at(now), EVEN).unwrap_err().retry_after_s;
    assert!(told(&mut admission, 10_000) <= 2);
    assert_eq!(told(&mut admission, 25_000), 30);
}

#[test]
fn idle_time_is_not_slowness() {
    let mut admission = with_room_for(100);
    busy(&mut admission, 100);
    for _ in 0..100 {
        admission.fold(BATCH, at(10_000));
    }
    while admission.enter(WIRE, at(3_600_000), EVEN).is_ok() {}
    let told = admission.enter(WIRE, at(3_600_000), EVEN).unwrap_err();
    assert!(told.retry_after_s <= 2, "{told:?}");
}

#[test]
fn those_refused_at_once_are_called_back_no_faster_than_they_can_be_taken() {
    let mut admission = with_room_for(100);
    busy(&mut admission, 100);
    let mut called: BTreeMap<u32, usize> = BTreeMap::new();
    for caller in 0..1000 {
        let chance = f64::from(caller * 7 % 1000) / 1000.0;
        let told = admission.enter(WIRE, at(10_000), chance).unwrap_err();
        *called.entry(told.retry_after_s).or_default() += 1;
    }
    assert!(called.values().all(|callers| *callers <= 130), "100 can be taken in a second: {called:?}");
    assert!(called.len() >= 10 && called.keys().all(|seconds| (1..=15).contains(seconds)), "{called:?}");
}
