//! A thousand agents that come back in the same second: the agents' own patience against the collector's own admission, in
//! simulated time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use agent::push::Patience;
use collector::admission::{Admission, Room};
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use telemetry::Mono;

const AGENTS: usize = 1000;
/// Of each: what it gathered while the collector was away.
const BACKLOG: usize = 3;
const WIRE: usize = 20 << 10;
const ROOM: usize = 200;
/// Batches that the fold takes in a second.
const PACE: u64 = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Fold,
    Comes(usize),
}

/// What was seen in each second.
#[derive(Debug, Default)]
struct Seen {
    attempts: BTreeMap<u64, usize>,
    taken: BTreeMap<u64, usize>,
}

fn settle(seed: u64) -> Seen {
    let mut chance = Pcg64Mcg::seed_from_u64(seed);
    let mut admission = Admission::new(Room { batches: ROOM, bytes: usize::MAX });
    let mut patience: Vec<_> = (0..AGENTS).map(|_| Patience::default()).collect();
    let mut left = [BACKLOG; AGENTS];
    let mut waiting = VecDeque::new();
    let mut seen = Seen::default();
    let within = |chance: &mut Pcg64Mcg| Mono::default() + Duration::from_secs(1).mul_f64(chance.random());
    let mut events: BinaryHeap<_> =
        (0..AGENTS).map(|agent| Reverse((within(&mut chance), Event::Comes(agent)))).collect();
    while let Some(Reverse((now, event))) = events.pop() {
        let second = now.0 / 1_000_000_000;
        match event {
            Event::Comes(agent) => {
                *seen.attempts.entry(second).or_default() += 1;
                match admission.enter(WIRE, now, chance.random()) {
                    Ok(held) => {
                        if waiting.is_empty() {
                            events.push(Reverse((now + Duration::from_secs(1) / PACE as u32, Event::Fold)));
                        }
                        waiting.push_back((agent, held));
                    }
                    Err(told) => {
                        let asked = Duration::from_secs(told.retry_after_s.into());
                        let wait = patience[agent].wait(Some(asked), chance.random());
                        events.push(Reverse((now + wait, Event::Comes(agent))));
                    }
                }
            }
            Event::Fold => {
                let (agent, held) = waiting.pop_front().unwrap();
                admission.fold(held, now);
                *seen.taken.entry(second).or_default() += 1;
                (left[agent], patience[agent]) = (left[agent] - 1, Patience::default());
                if left[agent] > 0 {
                    events.push(Reverse((now, Event::Comes(agent))));
                }
                if !waiting.is_empty() {
                    events.push(Reverse((now + Duration::from_secs(1) / PACE as u32, Event::Fold)));
                }
            }
        }
    }
    seen
}

#[test]
fn a_thousand_agents_that_come_back_in_one_second_are_all_taken_and_make_no_second_wave() {
    for seed in 1..=5 {
        let Seen { attempts, taken } = settle(seed);
        assert_eq!(taken.values().sum::<usize>(), AGENTS * BACKLOG);
        let first = attempts[&0];
        let later = attempts.iter().skip(1).map(|(_, attempts)| *attempts).max().unwrap();
        assert!(first >= AGENTS && later <= AGENTS / 2, "seed {seed}: {first} at first, later {later}: {attempts:?}");
        // As fast as the fold takes them, and not much later.
        let least = (AGENTS * BACKLOG) as u64 / PACE;
        let last = *taken.last_key_value().unwrap().0;
        assert!(last <= least * 2, "seed {seed}: the last in second {last}, {least} s of work: {taken:?}");
    }
}
