//! Is it really down? After a failure, or when a reply is later than usual, a probe is repeated at once: a few packets, recorded
//! apart. When most of them fail too, the suspicion is confirmed, and the bad news does not wait for the window's end.
//!
//! The packets go out from other ports in turn with the one that failed, so that one broken port does not pass for a dead target.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use runtime::Mono;
use telemetry::TargetId;

use crate::plan::ProbeIndex;
use crate::probe::{WAYS, Way};

const BURST: u8 = 5;
const APART: Duration = Duration::from_millis(20);
/// Of one probe: what was confirmed stays so for a while, and the probe itself goes on meanwhile.
const AGAIN: Duration = Duration::from_secs(5);
/// How many packets may go out at once when much fails together; then so many a second as the budget says.
const AT_ONCE: u32 = 250;
/// How many replies make a usual.
const ENOUGH: u8 = 8;
/// Later than usual: beyond its tail by half, and by this.
const BEYOND: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub struct Confirm {
    /// Of the agent.
    budget: Budget,
    /// Of each target, and which of them a probe goes to.
    targets: Vec<Budget>,
    target_of: Vec<usize>,
    usual: Vec<Usual>,
    bursts: HashMap<ProbeIndex, Burst>,
    sends: BinaryHeap<Reverse<(Mono, ProbeIndex, Way)>>,
}

/// The slowest replies of late: each makes it higher at once, the others let it sink.
#[derive(Debug, Clone, Copy, Default)]
struct Usual {
    tail: Duration,
    replies: u8,
}

#[derive(Debug, Clone, Copy)]
struct Burst {
    begun: Mono,
    ended: u8,
    failed: u8,
}

/// Packets that may still go out: so many a second, and some at once.
#[derive(Debug)]
struct Budget {
    a_second: u32,
    left: f64,
    at: Mono,
}

impl Confirm {
    /// For probes of these targets, with what may go to each of them in a second.
    pub fn new<'a>(probes: impl Iterator<Item = (&'a TargetId, u32)>, a_second: u32, now: Mono) -> Self {
        let (mut names, mut targets, mut target_of) = (HashMap::new(), Vec::new(), Vec::new());
        for (target, a_second) in probes {
            let place = *names.entry(target).or_insert_with(|| {
                targets.push(Budget::new(a_second, now));
                targets.len() - 1
            });
            target_of.push(place);
        }
        let usual = vec![Usual::default(); target_of.len()];
        let budget = Budget::new(a_second, now);
        Self { budget, targets, target_of, usual, bursts: HashMap::new(), sends: BinaryHeap::new() }
    }

    pub fn replied(&mut self, probe: ProbeIndex, rtt: Duration) {
        let Usual { tail, replies } = &mut self.usual[probe.0 as usize];
        *tail = rtt.max(*tail / 64 * 63);
        *replies = replies.saturating_add(1);
    }

    /// After so long a reply is overdue. `None`: nothing is usual yet.
    pub fn patience(&self, probe: ProbeIndex) -> Option<Duration> {
        let Usual { tail, replies } = self.usual[probe.0 as usize];
        (replies >= ENOUGH).then(|| tail + tail / 2 + BEYOND)
    }

    /// It failed, or is overdue: confirm it, if the budgets allow. Whether they did.
    pub fn doubt(&mut self, probe: ProbeIndex, Way(failed): Way, now: Mono) -> bool {
        if self.bursts.get(&probe).is_some_and(|burst| now.since(burst.begun) < AGAIN) {
            return true;
        }
        let target = &mut self.targets[self.target_of[probe.0 as usize]];
        if !target.has(BURST, now) || !self.budget.has(BURST, now) {
            return false;
        }
        target.left -= f64::from(BURST);
        self.budget.left -= f64::from(BURST);
        self.bursts.insert(probe, Burst { begun: now, ended: 0, failed: 0 });
        for turn in 0..BURST {
            // Every other packet from the port that failed, the rest spread over the others.
            let way = if turn % 2 == 1 { failed } else { (failed + 3 + 5 * turn / 2) % WAYS };
            self.sends.push(Reverse((now + APART * u32::from(turn), probe, Way(way))));
        }
        true
    }

    pub fn pop(&mut self, now: Mono) -> Option<(ProbeIndex, Way)> {
        let Reverse((at, probe, way)) = *self.sends.peek()?;
        (at <= now).then(|| {
            self.sends.pop();
            (probe, way)
        })
    }

    pub fn next(&self) -> Option<Mono> {
        self.sends.peek().map(|Reverse((at, ..))| *at)
    }

    /// A packet of a burst failed, came back, or could not be sent (`None`). Whether, it being the last, the suspicion is confirmed.
    pub fn ended(&mut self, probe: ProbeIndex, failed: Option<bool>) -> bool {
        let Some(burst) = self.bursts.get_mut(&probe) else { return false };
        burst.ended += 1;
        burst.failed += u8::from(failed == Some(true));
        burst.ended == BURST && burst.failed * 2 > BURST
    }

    pub fn stop(&mut self) {
        self.sends.clear();
    }
}

impl Budget {
    fn new(a_second: u32, now: Mono) -> Self {
        Self { a_second, left: Self::at_once(a_second), at: now }
    }

    fn at_once(a_second: u32) -> f64 {
        f64::from(AT_ONCE.min(a_second * 10))
    }

    fn has(&mut self, packets: u8, now: Mono) -> bool {
        let earned = now.since(self.at).as_secs_f64() * f64::from(self.a_second);
        self.left = (self.left + earned).min(Self::at_once(self.a_second));
        self.at = now;
        self.left >= f64::from(packets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBE: ProbeIndex = ProbeIndex(0);

    fn at(millis: u64) -> Mono {
        Mono(millis * 1_000_000)
    }

    /// For so many probes, each of a target of its own.
    fn confirming(probes: usize, a_second: u32) -> Confirm {
        let targets: Vec<TargetId> = (0..probes).map(|number| format!("iad-{number}").parse().unwrap()).collect();
        Confirm::new(targets.iter().map(|target| (target, 10)), a_second, at(0))
    }

    fn popped(confirm: &mut Confirm, now: Mono) -> Vec<Way> {
        std::iter::from_fn(|| confirm.pop(now)).map(|(_, way)| way).collect()
    }

    #[test]
    fn a_burst_is_five_packets_apart_and_not_all_from_the_port_that_failed() {
        let mut confirm = confirming(1, 100);
        assert!(confirm.doubt(PROBE, Way(7), at(1000)));
        assert_eq!(popped(&mut confirm, at(1000)).len(), 1);
        assert_eq!(confirm.next(), Some(at(1020)));
        let rest = popped(&mut confirm, at(1080));
        assert_eq!((rest.len(), confirm.next()), (4, None));
        assert_eq!(rest.iter().filter(|way| **way == Way(7)).count(), 2);
    }

    #[test]
    fn most_of_a_burst_must_fail_and_what_could_not_be_sent_confirms_nothing() {
        let burst = |ends: [Option<bool>; 5]| {
            let mut confirm = confirming(1, 100);
            assert!(confirm.doubt(PROBE, Way(0), at(0)));
            ends.map(|end| confirm.ended(PROBE, end))
        };
        let (lost, back) = (Some(true), Some(false));
        assert_eq!(burst([lost; 5]), [false, false, false, false, true]);
        assert_eq!(burst([back, back, lost, lost, lost]), [false, false, false, false, true]);
        assert_eq!(burst([lost, lost, back, back, back]), [false; 5]);
        assert_eq!(burst([lost, lost, None, None, None]), [false; 5]);
    }

    #[test]
    fn one_probe_is_confirmed_once_in_a_while_and_all_of_them_within_the_budget() {
        let mut confirm = confirming(1000, 100);
        let bursts = (0..1000).filter(|probe| confirm.doubt(ProbeIndex(*probe), Way(0), at(0))).count();
        assert_eq!(bursts, 50);
        let packets = popped(&mut confirm, at(500)).len();
        assert!(confirm.doubt(ProbeIndex(0), Way(0), at(500)), "under way");
        assert_eq!((packets, popped(&mut confirm, at(900)).len()), (250, 0));
        assert!(confirm.doubt(ProbeIndex(0), Way(0), at(6000)));
        assert_eq!(popped(&mut confirm, at(6080)).len(), 5);
        assert!(!confirming(1, 0).doubt(PROBE, Way(0), at(0)), "none are allowed");
    }

    #[test]
    fn what_goes_to_one_target_is_bounded_apart() {
        let (one, other) = ("iad-1".parse().unwrap(), "iad-2".parse().unwrap());
        let probes = std::iter::repeat_n((&one, 1), 10).chain([(&other, 1)]);
        let mut confirm = Confirm::new(probes, 1000, at(0));
        let doubts: Vec<_> = (0..11).map(|probe| confirm.doubt(ProbeIndex(probe), Way(0), at(0))).collect();
        assert_eq!(doubts.iter().filter(|sent| **sent).count(), 3, "two bursts, ten packets, to the first");
        assert!(doubts[10]);
        assert!(confirm.doubt(ProbeIndex(5), Way(0), at(5000)));
    }

    #[test]
    fn patience_follows_the_slowest_replies_of_late() {
        let mut confirm = confirming(1, 100);
        assert_eq!(confirm.patience(PROBE), None);
        let millis = Duration::from_millis;
        (0..8).for_each(|_| confirm.replied(PROBE, millis(100)));
        assert_eq!(confirm.patience(PROBE), Some(millis(160)));
        confirm.replied(PROBE, millis(200));
        assert_eq!(confirm.patience(PROBE), Some(millis(310)));
        (0..500).for_each(|_| confirm.replied(PROBE, millis(100)));
        assert_eq!(confirm.patience(PROBE).map(|patience| patience < millis(165)), Some(true));
    }
}
