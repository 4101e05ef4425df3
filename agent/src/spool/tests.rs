use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use journal::sim::{Fault, Keep, Operation, SimDisk};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

mod faults;

const ROOMY: Limits = Limits { bytes: 1 << 20, age: Duration::from_hours(24) };
const TIGHT: Limits = Limits { bytes: 100, age: Duration::from_hours(24) };

fn name(boot: u128, sequence: u64) -> Name {
    Name { boot: Boot(boot), sequence: Sequence(sequence) }
}

fn offer(spool: &mut impl Spool, bodies: &[&'static str]) -> Offered {
    spool.offer(bodies.iter().map(|body| Bytes::from(*body)).collect(), Vec::new(), Wall::from_secs(1000))
}

/// Takes all that waits, as the collector would.
fn drained(spool: &mut impl Spool) -> Vec<(Name, Bytes)> {
    let mut all = Vec::new();
    while let Some(Batch { name, body }) = spool.oldest() {
        spool.forget(name);
        all.push((name, body));
    }
    all
}

#[derive(Debug, Clone)]
enum Step {
    Offer(Vec<usize>),
    Forget(u64),
    TakeOldest,
    /// The power goes before so many more operations of the disk; then another process opens what is left.
    Crash {
        after: u64,
        seed: u64,
    },
}

fn steps(crashes: bool) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => vec(1..40_usize, 1..4).prop_map(Step::Offer),
        1 => (0..40_u64).prop_map(Step::Forget),
        2 => Just(Step::TakeOldest),
        u32::from(crashes) => (0..12_u64, any::<u64>()).prop_map(|(after, seed)| Step::Crash { after, seed }),
    ];
    vec(step, 1..100)
}

fn body(sequence: u64, length: usize) -> Bytes {
    Bytes::from(vec![sequence as u8; length])
}

proptest! {
    #[test]
    fn a_spool_in_memory_is_a_queue_that_drops_its_oldest_and_never_reuses_a_sequence(steps in steps(false)) {
        let mut spool = Memory::new(Boot(1), TIGHT);
        let (mut model, mut last) = (BTreeMap::new(), 0);
        for step in steps {
            match step {
                Step::Offer(lengths) => {
                    let bodies: Vec<_> = (last + 1..).zip(&lengths).map(|(number, length)| body(number, *length)).collect();
                    let told = spool.offer(bodies.clone(), Vec::new(), Wall(0));
                    model.extend((last + 1..).zip(bodies));
                    last += lengths.len() as u64;
                    let mut dropped = 0;
                    while model.values().map(Bytes::len).sum::<usize>() > 100 {
                        model.pop_first();
                        dropped += 1;
                    }
                    prop_assert_eq!(told, Offered { dropped, unwritten: 0 }, "drops are told as they happen");
                }
                Step::Forget(sequence) => {
                    spool.forget(name(1, sequence));
                    model.remove(&sequence);
                }
                Step::TakeOldest => {
                    let expected = model.pop_first().map(|(number, body)| Batch { name: name(1, number), body });
                    prop_assert_eq!(spool.oldest(), expected.clone());
                    if let Some(batch) = expected {
                        spool.forget(batch.name);
                    }
                }
                Step::Crash { .. } => unreachable!("memory has no disk"),
            }
            let bytes = model.values().map(|body| body.len() as u64).sum();
            prop_assert_eq!(spool.depth(), Depth { batches: model.len() as u64, bytes });
        }
    }

    /// Whatever the power cut keeps: what was offered before it and not forgotten is there afterwards, under its first name
    /// and with its first bytes; what was forgotten may come again, what never was offered does not.
    #[test]
    fn what_was_offered_and_not_taken_outlives_any_crash_or_is_named_by_a_gap(
        steps in steps(true),
        limits in prop_oneof![Just(ROOMY), Just(Limits { bytes: 2000, ..ROOMY })],
    ) {
        let disk = SimDisk::default();
        let mut boot = 1;
        let mut spool = Stored::open(disk.clone(), Boot(boot), limits);
        let (mut last, mut waiting, mut ever) = (0, BTreeMap::new(), BTreeMap::new());
        for step in steps {
            match step {
                Step::Offer(lengths) => {
                    let numbers = last + 1..=last + lengths.len() as u64;
                    let bodies: Vec<_> = numbers.clone().zip(lengths).map(|(number, length)| body(number, length)).collect();
                    let offered = spool.offer(bodies.clone(), Vec::new(), Wall(last));
                    last = *numbers.end();
                    let batches = numbers.map(|number| name(boot, number)).zip(bodies);
                    ever.extend(batches.clone());
                    prop_assert!(offered.dropped == 0 || limits.bytes == 2000);
                    if offered.unwritten == 0 {
                        waiting.extend(batches);
                    }
                }
                Step::Forget(sequence) => {
                    spool.forget(name(boot, sequence));
                    waiting.remove(&name(boot, sequence));
                }
                Step::TakeOldest => {
                    if let Some(batch) = spool.oldest() {
                        prop_assert_eq!(ever.get(&batch.name), Some(&batch.body));
                        spool.forget(batch.name);
                        waiting.remove(&batch.name);
                    }
                }
                Step::Crash { after, seed } => {
                    disk.fail(None, after, Fault::PowerLoss);
                    let lost = spool.offer(vec!["dying".into()], Vec::new(), Wall(last));
                    ever.insert(name(boot, last + 1), Bytes::from("dying"));
                    if lost.unwritten == 0 {
                        waiting.insert(name(boot, last + 1), Bytes::from("dying"));
                    }
                    drop(spool);
                    disk.crash(Keep::Seeded(seed), Keep::Seeded(seed >> 1));
                    (boot, last) = (boot + 1, 0);
                    spool = Stored::open(disk.clone(), Boot(boot), limits);
                }
            }
        }
        let gaps = spool.gaps();
        let is_lost = |name: &Name| {
            gaps.iter().any(|gap| gap.boot == name.boot && (gap.from..=gap.to).contains(&name.sequence))
        };
        prop_assert!(gaps.is_empty() || limits.bytes == 2000);
        let left: BTreeMap<_, _> = drained(&mut spool).into_iter().collect();
        for (name, body) in &waiting {
            let there = left.get(name) == Some(body);
            prop_assert!(there != is_lost(name), "{:?} is there: {}, and is lost: {}", name, there, is_lost(name));
        }
        for (name, body) in &left {
            prop_assert_eq!(ever.get(name), Some(body), "{:?} was never offered so", name);
        }
    }
}

#[test]
fn another_process_sends_what_was_not_taken_under_its_first_name() {
    let disk = SimDisk::default();
    let mut first = Stored::open(disk.clone(), Boot(1), ROOMY);
    offer(&mut first, &["one", "two"]);
    offer(&mut first, &["three"]);
    first.forget(name(1, 2));
    drop(first);
    let mut second = Stored::open(disk.clone(), Boot(2), ROOMY);
    offer(&mut second, &["four"]);
    let all =
        [(name(1, 1), "one"), (name(1, 3), "three"), (name(2, 1), "four")].map(|(name, body)| (name, body.into()));
    assert_eq!(drained(&mut second), all);
    drop(second);
    assert_eq!(drained(&mut Stored::open(disk, Boot(3), ROOMY)), [], "what was taken is not sent again");
}

/// Room for some records of 300 bytes and more, each in a segment of its own.
const SMALL: Limits = Limits { bytes: 1600, age: Duration::from_hours(24) };

fn gap(boot: u128, from: u64, to: u64) -> Gap {
    Gap { boot: Boot(boot), from: Sequence(from), to: Sequence(to) }
}

fn fill(spool: &mut impl Spool, batches: usize, told: &[Gap]) -> u64 {
    (0..batches).map(|_| spool.offer(vec![vec![0; 300].into()], told.to_vec(), Wall::from_secs(1000)).dropped).sum()
}

#[test]
fn the_oldest_segment_goes_first_and_a_gap_names_its_batches_until_a_batch_that_told_it_is_taken() {
    let disk = SimDisk::default();
    let mut spool = Stored::open(disk.clone(), Boot(1), SMALL);
    let lost = fill(&mut spool, 6, &[]);
    assert!((1..6).contains(&lost), "{lost}");
    assert_eq!(spool.gaps(), [gap(1, 1, lost)]);
    assert_eq!(spool.oldest().unwrap().name, name(1, lost + 1));
    drop(spool);
    disk.crash(Keep::Nothing, Keep::Nothing);

    let mut spool = Stored::open(disk.clone(), Boot(2), SMALL);
    assert_eq!(spool.gaps(), [gap(1, 1, lost)], "known after a restart");
    assert_eq!(spool.oldest().unwrap().name, name(1, lost + 1));
    let more = fill(&mut spool, 1, &[gap(1, 1, lost)]);
    assert!(more > 0);
    spool.forget(name(2, 1));
    assert_eq!(spool.gaps(), [gap(1, 1, lost + more)], "it has grown since it was told");
    drained(&mut spool);
    let told = spool.gaps();
    assert_eq!(spool.offer(vec!["telling".into()], told, Wall::from_secs(1000)).dropped, 0);
    spool.forget(name(2, 2));
    assert_eq!(spool.gaps(), []);
}

#[test]
fn what_is_older_than_a_day_goes_but_the_newest() {
    let (mut memory, mut stored) = (Memory::new(Boot(1), ROOMY), Stored::open(SimDisk::default(), Boot(1), ROOMY));
    let spools: [&mut dyn Spool; 2] = [&mut memory, &mut stored];
    for spool in spools {
        spool.offer(vec!["old".into()], Vec::new(), Wall::from_secs(1000));
        let next_day = Wall::from_secs(1000 + 86_401);
        assert_eq!(spool.offer(vec!["new".into()], Vec::new(), next_day).dropped, 1);
        assert_eq!((spool.gaps(), spool.depth().batches), (vec![gap(1, 1, 1)], 1));
        let clock_set_back = Wall::from_secs(500);
        assert_eq!(spool.offer(vec!["newer".into()], Vec::new(), clock_set_back).dropped, 0);
    }
}

#[test]
fn gaps_are_one_where_nothing_waits_between_them() {
    let mut spool = Memory::new(Boot(1), Limits { bytes: 10, ..ROOMY });
    spool.offer(vec!["a".into(), "b".into(), "c".into(), "d".into()], Vec::new(), Wall(0));
    spool.forget(name(1, 2));
    spool.offer(vec!["0123456".into()], Vec::new(), Wall(0));
    assert_eq!(spool.gaps(), []);
    spool.offer(vec!["0123456".into()], Vec::new(), Wall(0));
    assert_eq!(spool.gaps(), [gap(1, 1, 5)], "2 was taken");
}

#[test]
fn one_batch_above_the_bound_is_kept_all_the_same() {
    let tiny = Limits { bytes: 10, ..TIGHT };
    let mut spool = Memory::new(Boot(1), tiny);
    assert_eq!(offer(&mut spool, &["small"]).dropped, 0);
    assert_eq!(offer(&mut spool, &["larger than ten"]).dropped, 1);
    assert_eq!(spool.oldest().unwrap().name, name(1, 2));
    let mut spool = Stored::open(SimDisk::default(), Boot(1), tiny);
    offer(&mut spool, &["larger than ten"]);
    assert_eq!(spool.oldest().unwrap().name, name(1, 1));
}

#[test]
fn a_full_disk_sends_batches_to_memory_and_they_go_to_the_disk_when_it_has_room() {
    let disk = SimDisk::default();
    let mut spool = Stored::open(disk.clone(), Boot(1), ROOMY);
    offer(&mut spool, &["one"]);
    disk.set_capacity(0);
    assert_eq!(offer(&mut spool, &["two", "three"]).unwritten, 2);
    assert_eq!(spool.depth().batches, 3);
    disk.heal();
    assert_eq!(offer(&mut spool, &["four"]).unwritten, 0);
    drop(spool);
    disk.crash(Keep::Nothing, Keep::Nothing);
    let left = drained(&mut Stored::open(disk, Boot(2), ROOMY));
    assert_eq!(left.iter().map(|(name, _)| name.sequence.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

#[test]
fn a_failed_fsync_loses_nothing_and_the_disk_is_opened_again() {
    let disk = SimDisk::default();
    let mut spool = Stored::open(disk.clone(), Boot(1), ROOMY);
    offer(&mut spool, &["one"]);
    disk.fail(Some(Operation::Sync), 0, Fault::Broken);
    assert_eq!(offer(&mut spool, &["two"]).unwritten, 1);
    assert_eq!(spool.oldest().unwrap().name, name(1, 2), "what is on the disk that fails waits for it");
    let later = Wall::from_secs(2000);
    assert_eq!(spool.offer(vec!["three".into()], Vec::new(), later).unwritten, 0);
    drop(spool);
    disk.crash(Keep::Nothing, Keep::Nothing);
    let left = drained(&mut Stored::open(disk, Boot(2), ROOMY));
    assert_eq!(left.iter().map(|(name, _)| name.sequence.0).collect::<BTreeSet<_>>(), BTreeSet::from([1, 2, 3]));
    assert_eq!(left.len(), 3, "none twice");
}

#[test]
fn a_damaged_spool_is_set_aside_once_and_the_agent_begins_another() {
    let data = tempfile::tempdir().unwrap();
    let damage = || {
        let mut spool = replay::open(data.path(), Boot(1), ROOMY).unwrap();
        offer(&mut spool, &["one"]);
        offer(&mut spool, &["two"]);
        drop(spool);
        let file = data.path().join("spool/00000000000000000000.segment");
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[80] ^= 1;
        std::fs::write(&file, bytes).unwrap();
    };
    damage();
    let mut spool = replay::open(data.path(), Boot(2), ROOMY).unwrap();
    assert_eq!(spool.depth(), Depth::default());
    assert_eq!(offer(&mut spool, &["three"]).unwritten, 0);
    assert!(data.path().join("spool.damaged/00000000000000000000.segment").exists());
    drop(spool);
    damage();
    let mut spool = replay::open(data.path(), Boot(3), ROOMY).unwrap();
    assert_eq!(offer(&mut spool, &["four"]).unwritten, 1, "the second one is not thrown away for the first");
}

#[tokio::test]
async fn a_waiting_reader_is_told_of_a_batch_and_of_the_end() {
    let spool = Shared::new(Memory::new(Boot(1), ROOMY));
    let offer = async { spool.offer(vec!["one".into()], Vec::new(), Wall(0)) };
    let (batch, offered) = tokio::join!(spool.next(Lane::Newest), offer);
    assert_eq!((batch.unwrap().name, offered), (name(1, 1), Offered::default()));
    spool.forget(name(1, 1)).await;
    let (end, ()) = tokio::join!(spool.next(Lane::Oldest), async { spool.close() });
    assert_eq!(end, None);
}
