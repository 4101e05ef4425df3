//! When each probe is due. Open loop: deadlines are absolute, a late send moves none of them.
//!
//! A probe is due at the moments whose wall time, as the clock stood at start, is its phase modulo its interval. The phase
//! comes from a hash of what the series is, so that sends never bunch on the second and a restart keeps the pace. From then
//! on deadlines are monotonic: when the wall clock is set, the pace stays and only the names of the slots change. A probe with a
//! cron expression is due by the wall clock instead.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use runtime::{Mono, Wall};
use telemetry::Series;
use telemetry::time::nanos;
use xxhash_rust::xxh3::Xxh3;

use crate::cron::{Fired, Firings, SPREAD};
use crate::now::Now;
use crate::plan::{Planned, ProbeIndex};

/// One probe that is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    pub probe: ProbeIndex,
    pub at: Mono,
    /// Decides the slot.
    pub wall: Wall,
}

/// How often, and where within the interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cadence {
    pub every: Duration,
    pub phase: Duration,
}

#[derive(Debug)]
pub struct Schedule {
    cadences: Vec<Cadence>,
    /// Of those that have a cron expression.
    firings: BTreeMap<ProbeIndex, Firings>,
    next: BinaryHeap<Reverse<(Mono, ProbeIndex)>>,
    skipped: BTreeMap<ProbeIndex, u64>,
}

impl Schedule {
    pub fn start(cadences: Vec<Cadence>, now: Now) -> Self {
        let first = |(index, cadence): (usize, &Cadence)| Reverse((cadence.first(now), ProbeIndex(index as u32)));
        let next = cadences.iter().enumerate().map(first).collect();
        Self { cadences, firings: BTreeMap::new(), next, skipped: BTreeMap::new() }
    }

    pub fn of_plan(probes: &[Planned], now: Now) -> Self {
        let cadence = |planned: &Planned| Cadence::of(&planned.subject.series, planned.every);
        let mut schedule = Self::start(probes.iter().map(cadence).collect(), now);
        for (planned, index) in probes.iter().zip(0..) {
            if let Some(cron) = &planned.cron {
                let offset = Cadence::of(&planned.subject.series, SPREAD).phase;
                schedule.firings.insert(ProbeIndex(index), Firings::new(cron.clone(), offset, now.wall));
            }
        }
        let aim = |Reverse((at, probe))| {
            Reverse((schedule.firings.get(&probe).map_or(at, |firings| firings.look(now)), probe))
        };
        schedule.next = std::mem::take(&mut schedule.next).into_iter().map(aim).collect();
        schedule
    }

    /// The next probe that is due by now. Of one that is overdue by whole intervals only the latest is sent: the others
    /// are told by [`Self::take_skipped`], since a burst would measure itself.
    pub fn pop(&mut self, now: Now) -> Option<Due> {
        while let Some(mut head) = self.next.peek_mut() {
            let Reverse((at, probe)) = *head;
            if at > now.mono {
                return None;
            }
            if let Some(firings) = self.firings.get_mut(&probe) {
                let Fired { due, skipped } = firings.take(at, now);
                *head = Reverse((firings.look(now), probe));
                if skipped > 0 {
                    *self.skipped.entry(probe).or_default() += skipped;
                }
                let Some((at, wall)) = due else { continue };
                return Some(Due { probe, at, wall });
            }
            let every = self.cadences[probe.0 as usize].every;
            let behind = nanos(now.mono.since(at)) / nanos(every);
            let at = Mono(at.0 + behind * nanos(every));
            *head = Reverse((at + every, probe));
            if behind > 0 {
                *self.skipped.entry(probe).or_default() += behind;
            }
            return Some(Due { probe, at, wall: now.wall_at(at) });
        }
        None
    }

    /// When to look again. `None`: never.
    pub fn next(&self) -> Option<Mono> {
        self.next.peek().map(|Reverse((at, _))| *at)
    }

    /// How many sends of which probe were skipped since this was last asked.
    pub fn take_skipped(&mut self) -> BTreeMap<ProbeIndex, u64> {
        std::mem::take(&mut self.skipped)
    }

    pub fn stop(&mut self) {
        self.next.clear();
    }
}

impl Cadence {
    pub fn of(series: &Series, every: Duration) -> Self {
        let Series { agent, target, probe, phase, family, labels, .. } = series;
        let mut hash = Xxh3::new();
        for part in [agent.as_str(), target.as_str(), probe.as_str(), phase.as_str(), family.as_str()] {
            hash.update(part.as_bytes());
            hash.update(b"/");
        }
        for value in labels.values() {
            hash.update(value.as_str().as_bytes());
            hash.update(b"/");
        }
        // The hash as a fraction of one, of the interval.
        let phase = (u128::from(hash.digest()) * u128::from(nanos(every))) >> 64;
        Self { every, phase: Duration::from_nanos(phase as u64) }
    }

    fn first(self, now: Now) -> Mono {
        let every = nanos(self.every);
        let into = now.wall.0 % every;
        let wait = (nanos(self.phase) + every - into) % every;
        Mono(now.mono.0 + wait)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const START: Now = Now { mono: Mono(5_000_000), wall: Wall(1_764_000_000_123_456_789) };

    fn after(nanos: u64) -> Now {
        Now { mono: Mono(START.mono.0 + nanos), wall: Wall(START.wall.0 + nanos) }
    }

    fn series(target: &str) -> Series {
        Series { target: target.parse().unwrap(), ..telemetry::sample::series() }
    }

    fn cadences(count: usize, every: Duration) -> Vec<Cadence> {
        (0..count).map(|number| Cadence::of(&series(&format!("iad-voice-{number}")), every)).collect()
    }

    fn popped(schedule: &mut Schedule, now: Now) -> Vec<Due> {
        std::iter::from_fn(|| schedule.pop(now)).collect()
    }

    #[test]
    fn a_thousand_series_of_a_second_never_bunch() {
        let mut schedule = Schedule::start(cadences(1000, Duration::from_secs(1)), START);
        let crowds = (1..=100).map(|tick| popped(&mut schedule, after(tick * 10_000_000)).len());
        let crowds: Vec<_> = crowds.collect();
        assert_eq!(crowds.iter().sum::<usize>(), 1000);
        // Ten on average; chance alone reaches 25 once in some ten thousand.
        assert!(crowds.iter().all(|crowd| (1..25).contains(crowd)), "{crowds:?}");
    }

    #[test]
    fn a_restart_keeps_the_phase() {
        let every = Duration::from_secs(10);
        let first = |start: Now| Schedule::start(cadences(1, every), start).next().unwrap();
        let (before, later) = (first(START), first(after(73_000_000_000)));
        assert_eq!((later.0 - before.0) % nanos(every), 0);
    }

    #[test]
    fn a_probe_with_a_cron_expression_stands_beside_the_others_and_moves_none() {
        let text = |cron: &str| {
            format!(
                "region = \"fra\"\nagent = \"fra-1\"\ncollector = \"http://127.0.0.1:1\"\n[[target]]\nid = \"iad-1\"\n\
                 service = \"edge\"\nregion = \"iad\"\naddress = \"192.0.2.1:443\"\n[[target.probe]]\nkind = \"icmp\"\n\
                 [[target.probe]]\nkind = \"tcp\"\n{cron}"
            )
        };
        let sent = |cron: &str| {
            let config = crate::Config::parse("agent.toml", text(cron)).unwrap();
            let plan = crate::plan::Plan::new(&config, &crate::names::Addresses::new());
            let mut schedule = Schedule::of_plan(plan.probes(), START);
            let mut sent = [Vec::new(), Vec::new()];
            while let Some(at) = schedule.next().filter(|at| *at < after(600_000_000_000).mono) {
                let now = after(at.0 - START.mono.0);
                for due in popped(&mut schedule, now) {
                    sent[due.probe.0 as usize].push(due);
                }
            }
            assert!(schedule.take_skipped().is_empty());
            sent
        };
        let [usual, _] = sent("");
        let [beside, by_cron] = sent("cron = \"0 */2 * * * *\"\n");
        assert_eq!((usual.len(), &usual), (600, &beside));
        assert_eq!(by_cron.len(), 5, "{by_cron:?}");
        let two_minutes = 120_000_000_000;
        let offset = by_cron[0].wall.0 % two_minutes;
        assert!(offset < nanos(SPREAD));
        assert!(by_cron.windows(2).all(|two| two[1].wall.0 - two[0].wall.0 == two_minutes));
        assert!(by_cron.iter().all(|due| due.wall.0 - START.wall.0 == due.at.0 - START.mono.0));
    }

    #[test]
    fn when_the_wall_clock_is_set_the_pace_stays_and_the_slot_follows_the_wall() {
        let mut schedule = Schedule::start(cadences(1, Duration::from_secs(1)), START);
        let first = schedule.next().unwrap();
        let on_time = Now { mono: first, wall: Wall::from_secs(2_000_000_000) };
        let due = schedule.pop(on_time).unwrap();
        assert_eq!((due.at, due.wall), (first, Wall::from_secs(2_000_000_000)));
        assert_eq!(schedule.next(), Some(first + Duration::from_secs(1)));
    }

    proptest! {
        /// Ticks come when they come; a stall is a long one.
        #[test]
        fn every_deadline_is_sent_or_skipped_once_and_none_moves(
            every in 10_000_000_u64..2_000_000_000, count in 1..5_usize, ticks in vec(1..5_000_000_000_u64, 1..40),
        ) {
            let plan = cadences(count, Duration::from_nanos(every));
            let first: Vec<_> = plan.iter().map(|cadence| cadence.first(START).0).collect();
            let mut schedule = Schedule::start(plan, START);
            let (mut elapsed, mut sent, mut skipped) = (0, 0, 0);
            for tick in ticks {
                elapsed += tick;
                let now = after(elapsed);
                let dues = popped(&mut schedule, now);
                prop_assert!(dues.len() <= count, "a burst: {dues:?}");
                for due in &dues {
                    prop_assert_eq!((due.at.0 - first[due.probe.0 as usize]) % every, 0);
                    prop_assert!(now.mono.since(due.at) < Duration::from_nanos(every));
                    prop_assert_eq!(due.wall.0 - START.wall.0, due.at.0 - START.mono.0);
                }
                sent += dues.len() as u64;
                skipped += schedule.take_skipped().values().sum::<u64>();
                let deadlines = first.iter().filter(|&&first| first <= now.mono.0);
                let expected: u64 = deadlines.map(|first| (now.mono.0 - first) / every + 1).sum();
                prop_assert_eq!(sent + skipped, expected);
            }
        }
    }
}
