use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, sync_channel};

use nix::errno::Errno;
use proptest::collection::vec;
use proptest::prelude::*;
use runtime::Wall;
use runtime::meters::Meters;
use telemetry::{FailureKind, Outcome};

use super::*;
use crate::config::Config;
use crate::names::Addresses;
use crate::probe::{Heard, Launch, SendFault};
use crate::schedule::Cadence;

const START: Wall = Wall(1_764_000_000_000_000_000);
const LOST: Outcome = Outcome::Failure(FailureKind::Timeout);

/// What becomes of one probe.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Reply {
        millis: u64,
    },
    Lost,
    Unreachable,
    NotSent,
    /// Given to a task, which reports after so long or never.
    Task {
        millis: Option<u64>,
    },
}

/// The twin of the wire: a network made of data. Fates are dealt in turn.
struct Network {
    now: Mono,
    fates: Vec<Fate>,
    dealt: usize,
    sent: Vec<Order>,
    /// What the way to ourselves takes.
    floor: Duration,
    coming: Vec<(Mono, Report)>,
}

impl Network {
    fn new(fates: Vec<Fate>) -> Self {
        let floor = Duration::from_micros(30);
        Self { now: Mono(0), fates, dealt: 0, sent: Vec::new(), floor, coming: Vec::new() }
    }
}

impl Prober for Network {
    fn send(&mut self, order: Order) -> Result<Launch, SendFault> {
        let Order { token, errand, .. } = order;
        if errand == Errand::Floor {
            let heard = Heard::ByPacer { at: self.now + self.floor, kernel: None };
            self.coming.push((self.now + self.floor, Report::Answer { token, errand, outcome: Outcome::Reply, heard }));
            return Ok(Launch::OnTheWire(self.now));
        }
        self.sent.push(order);
        let fate = self.fates[self.dealt % self.fates.len()];
        self.dealt += 1;
        let after = Duration::from_millis;
        match fate {
            Fate::Reply { millis } => {
                let at = self.now + after(millis);
                let heard = Heard::ByPacer { at, kernel: None };
                self.coming.push((at, Report::Answer { token, errand, outcome: Outcome::Reply, heard }));
            }
            Fate::Lost => {}
            Fate::Unreachable => {
                let kind = FailureKind::Unreachable;
                self.coming.push((self.now, Report::Failed { token, kind, after: Duration::ZERO }));
            }
            Fate::NotSent => return Err(SendFault::Kernel(Errno::ENOBUFS)),
            Fate::Task { millis } => {
                self.coming.extend(millis.map(|millis| {
                    let heard = Heard::ByTask { rtt: after(millis) };
                    (self.now + after(millis), Report::Answer { token, errand, outcome: Outcome::Reply, heard })
                }));
                return Ok(Launch::Handed);
            }
        }
        Ok(Launch::OnTheWire(self.now))
    }

    fn heard(&mut self, heard: &mut Vec<Report>) {
        let now = self.now;
        heard.extend(self.coming.extract_if(.., |(at, _)| *at <= now).map(|(_, report)| report));
    }
}

struct Bench {
    pacer: Pacer,
    network: Network,
    handovers: Receiver<Handover>,
    meters: Meters,
    now: Now,
}

impl Bench {
    /// So many targets, a ping each second with a timeout of a second.
    fn new(targets: usize, fates: Vec<Fate>) -> Self {
        Self::confirming(0, targets, fates)
    }

    fn confirming(confirms: u32, targets: usize, fates: Vec<Fate>) -> Self {
        let all = vec![("192.0.2.1", "kind = \"icmp\"\n"); targets];
        Self::of(confirms, &all, fates)
    }

    /// One target, with that probe.
    fn probing(confirms: u32, address: &str, probe: &str, fates: Vec<Fate>) -> Self {
        Self::of(confirms, &[(address, probe)], fates)
    }

    fn of(confirms: u32, targets: &[(&str, &str)], fates: Vec<Fate>) -> Self {
        let target = |(number, (address, probe)): (usize, &(&str, &str))| {
            format!(
                "[[target]]\nid = \"iad-{number}\"\nservice = \"edge\"\nregion = \"iad\"\naddress = \"{address}\"\n\
                 [[target.probe]]\n{probe}"
            )
        };
        let targets: String = targets.iter().enumerate().map(target).collect();
        let text = format!("region = \"fra\"\nagent = \"fra-1\"\ncollector = \"http://127.0.0.1:1\"\n{targets}");
        let config = Config::parse("agent.toml", text).unwrap();
        let (outbox, handovers) = sync_channel(100_000);
        let (meters, now) = (Meters::new("test"), Now { mono: Mono(0), wall: START });
        let tally = Instruments::new(&meters);
        let plan = Plan::new(&config, &Addresses::new());
        let pacer = Pacer::new(plan, config.window, confirms, outbox, tally, now);
        Self { pacer, network: Network::new(fates), handovers, meters, now }
    }

    fn tick_at(&mut self, mono: Mono) {
        self.now = Now { mono, wall: START + mono.since(Mono(0)) };
        self.network.now = mono;
        self.pacer.tick(self.now, &mut self.network);
    }

    /// Ticks whenever the pacer or the network has something to do, as the loop around it would.
    fn run_until(&mut self, end: Mono) {
        loop {
            let heard = self.network.coming.iter().map(|(at, _)| *at).min();
            let next = [self.pacer.wake_at(self.now), heard].into_iter().flatten().min().unwrap();
            if next > end {
                return self.tick_at(end);
            }
            self.tick_at(next);
        }
    }

    fn handed_over(&self) -> Vec<Handover> {
        self.handovers.try_iter().collect()
    }

    fn metered(&self, line: &str) -> u64 {
        let text = self.meters.render();
        text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok()).unwrap_or_default()
    }
}

fn seconds(seconds: u64) -> Mono {
    Mono(seconds * 1_000_000_000)
}

fn counts(handovers: &[Handover]) -> BTreeMap<Outcome, usize> {
    let mut counts = BTreeMap::new();
    for (outcome, _) in handovers.iter().flat_map(|handover| &handover.parts).flat_map(|part| part.samples.iter()) {
        *counts.entry(outcome).or_default() += 1;
    }
    counts
}

#[test]
fn a_minute_of_slow_replies_is_six_windows_and_every_send_is_on_time() {
    let mut bench = Bench::new(1, vec![Fate::Reply { millis: 999 }]);
    bench.run_until(seconds(61));
    let handovers = bench.handed_over();
    assert_eq!(handovers.iter().map(|handover| handover.parts.len()).collect::<Vec<_>>(), [1; 6]);
    assert_eq!(counts(&handovers), BTreeMap::from([(Outcome::Reply, 60)]));
    assert!(handovers.iter().flat_map(|handover| &handover.lateness).all(Duration::is_zero));
}

#[test]
fn a_target_that_falls_silent_is_told_of_as_its_second_timeout_passes() {
    let mut bench = Bench::new(1, [vec![Fate::Reply { millis: 30 }; 13], vec![Fate::Lost; 100]].concat());
    bench.run_until(seconds(12));
    bench.handed_over();
    bench.run_until(seconds(30));
    let first =
        bench.handed_over().into_iter().find(|handover| counts(std::slice::from_ref(handover)).contains_key(&LOST));
    let told = first.unwrap().at.since(START);
    // The last reply was to the probe of the thirteenth second, so the two lost ones were due in the two seconds after.
    let cadence = Cadence::of(&bench.pacer.plan.probes()[0].subject.series, Duration::from_secs(1));
    let second_loss = Duration::from_secs(14) + cadence.phase;
    assert_eq!(told, second_loss + Duration::from_secs(1));
}

#[test]
fn a_stall_of_ours_is_missed_sends_not_lost_probes_and_no_burst() {
    let mut bench = Bench::new(3, vec![Fate::Reply { millis: 5 }]);
    bench.run_until(seconds(20));
    let sent = bench.network.dealt;
    bench.tick_at(Mono(25_300_000_000));
    assert_eq!(bench.network.dealt - sent, 3, "one for each series");
    let skipped = bench.metered("isochrone_agent_probe_missed_total{reason=\"skipped\"}");
    assert!((12..=15).contains(&skipped), "{skipped}");
    bench.run_until(seconds(40));
    let handovers = bench.handed_over();
    assert_eq!(counts(&handovers).get(&LOST), None);
    let late = handovers.iter().flat_map(|handover| &handover.lateness).max().unwrap();
    assert!(*late > Duration::ZERO && *late < Duration::from_secs(1), "{late:?}");
}

#[test]
fn what_the_kernel_would_not_send_is_missed_and_in_no_window() {
    let mut bench = Bench::new(1, vec![Fate::NotSent, Fate::Unreachable]);
    bench.run_until(seconds(20));
    bench.pacer.finish(bench.now);
    let handovers = bench.handed_over();
    assert_eq!(counts(&handovers), BTreeMap::from([(Outcome::Failure(FailureKind::Unreachable), 10)]));
    let missed = handovers.iter().filter_map(|handover| handover.missed.get(&(ProbeIndex(0), "kernel")));
    assert_eq!(missed.sum::<u64>(), 10);
    assert_eq!(bench.metered("isochrone_agent_probe_missed_total{reason=\"kernel\"}"), 10);
}

#[test]
fn what_is_missed_is_told_at_each_slots_end_also_where_nothing_was_ever_sent() {
    let mut bench = Bench::new(1, vec![Fate::NotSent]);
    bench.run_until(seconds(30));
    let missed = |handovers: &[Handover]| -> Vec<_> {
        assert_eq!(counts(handovers), BTreeMap::new());
        handovers.iter().map(|handover| (handover.at.since(START), handover.missed.clone())).collect()
    };
    let ten = BTreeMap::from([((ProbeIndex(0), "kernel"), 10)]);
    let told = missed(&bench.handed_over());
    assert_eq!(told, [10, 20, 30].map(|end| (Duration::from_secs(end), ten.clone())));
    bench.run_until(seconds(35));
    bench.pacer.finish(bench.now);
    let at_the_end = missed(&bench.handed_over());
    assert_eq!(at_the_end, [(Duration::from_secs(35), BTreeMap::from([((ProbeIndex(0), "kernel"), 5)]))]);
}

/// Of which standing, with which outcome, and how many.
fn by_standing(handovers: &[Handover]) -> BTreeMap<(Standing, Outcome), usize> {
    let mut counts = BTreeMap::new();
    for part in handovers.iter().flat_map(|handover| &handover.parts) {
        for (outcome, _) in part.samples.iter() {
            *counts.entry((part.standing, outcome)).or_default() += 1;
        }
    }
    counts
}

#[test]
fn a_target_that_falls_silent_is_confirmed_and_told_of_before_the_first_timeout() {
    let mut bench = Bench::confirming(100, 1, [vec![Fate::Reply { millis: 30 }; 12], vec![Fate::Lost; 100]].concat());
    bench.run_until(seconds(20));
    let handovers = bench.handed_over();
    let told = handovers
        .iter()
        .find(|handover| by_standing(std::slice::from_ref(*handover)).contains_key(&(Standing::Confirming, LOST)));
    let cadence = Cadence::of(&bench.pacer.plan.probes()[0].subject.series, Duration::from_secs(1));
    let first_loss = Duration::from_secs(12) + cadence.phase;
    // Overdue after 30 ms by half and 10 ms; five packets 20 ms apart; as long again for the last of them.
    let expected = first_loss + Duration::from_millis(55 + 80 + 55);
    assert_eq!(told.unwrap().at.since(START), expected);
    assert_eq!(bench.metered("isochrone_agent_confirm_total{fate=\"confirmed\"}"), 2, "again after five seconds");
    let lost = by_standing(&handovers).get(&(Standing::Confirming, LOST)).copied();
    assert_eq!(lost, Some(10), "apart from what counts as loss");
}

#[test]
fn one_lost_packet_is_doubted_and_not_told_of_early() {
    let fates =
        [vec![Fate::Reply { millis: 30 }; 12], vec![Fate::Lost], vec![Fate::Reply { millis: 30 }; 500]].concat();
    let mut bench = Bench::confirming(100, 1, fates);
    bench.run_until(seconds(31));
    let handovers = bench.handed_over();
    assert!(handovers.iter().all(|handover| handover.at.0 % 10_000_000_000 < 1_100_000_000), "each at a slot's end");
    let counts = by_standing(&handovers);
    assert_eq!(counts.get(&(Standing::Regular, LOST)), Some(&1));
    assert_eq!(counts.get(&(Standing::Confirming, Outcome::Reply)), Some(&5));
    assert_eq!(counts.get(&(Standing::Confirming, LOST)), None);
}

#[test]
fn without_a_budget_nothing_is_sent_to_confirm_and_that_is_counted() {
    let mut bench = Bench::confirming(0, 1, vec![Fate::Lost]);
    bench.run_until(seconds(10));
    assert_eq!(bench.network.dealt, 10);
    assert_eq!(bench.metered("isochrone_agent_confirm_total{fate=\"over-budget\"}"), 9);
}

#[test]
fn what_ends_while_our_own_floor_is_high_is_suspect_and_doubts_nothing() {
    let mut bench = Bench::confirming(100, 1, [vec![Fate::Reply { millis: 30 }; 15], vec![Fate::Lost; 5]].concat());
    bench.run_until(seconds(10));
    bench.network.floor = Duration::from_millis(40);
    bench.run_until(seconds(20));
    bench.network.floor = Duration::from_micros(30);
    bench.run_until(seconds(31));
    let handovers = bench.handed_over();
    let counts = by_standing(&handovers);
    assert!(counts[&(Standing::Suspect, Outcome::Reply)] >= 4, "{counts:?}");
    assert!(counts[&(Standing::Suspect, LOST)] >= 4, "{counts:?}");
    assert!(counts.get(&(Standing::Regular, LOST)).is_none_or(|lost| *lost <= 1), "{counts:?}");
    let floor: Vec<_> = handovers.iter().flat_map(|handover| &handover.noise_floor).collect();
    assert_eq!(floor.iter().filter(|took| ***took == Duration::from_millis(40)).count(), 100);
}

#[test]
fn after_a_stall_of_ours_what_ends_at_once_is_suspect() {
    let mut bench = Bench::new(1, vec![Fate::Reply { millis: 999 }]);
    bench.run_until(seconds(10));
    bench.tick_at(Mono(12_700_000_000));
    bench.run_until(seconds(21));
    let counts = by_standing(&bench.handed_over());
    assert_eq!(counts.get(&(Standing::Suspect, Outcome::Reply)), Some(&1), "{counts:?}");
}

#[test]
fn probes_of_one_target_take_turns_over_all_source_ports() {
    let mut bench = Bench::new(1, vec![Fate::Reply { millis: 5 }]);
    bench.run_until(seconds(16));
    let mut ways: Vec<_> = bench.network.sent.iter().map(|order| order.way.0).collect();
    ways.sort_unstable();
    assert_eq!(ways, (0..16).collect::<Vec<_>>());
}

#[test]
fn a_train_is_a_sample_for_each_packet_in_the_slot_it_was_due_in() {
    let probe =
        "kind = \"voice\"\nevery = \"1h\"\ndiscovery_every = \"1h\"\ntrain_every = \"10s\"\ntrain_packets = 20\n";
    let mut bench = Bench::probing(0, "192.0.2.1:50000", probe, vec![Fate::Reply { millis: 30 }, Fate::Lost]);
    bench.run_until(seconds(31));
    let parts: Vec<_> = bench.handed_over().into_iter().flat_map(|handover| handover.parts).collect();
    let of = |phase| parts.iter().filter(move |part| part.aspect.phase == phase);
    let trains: Vec<_> = of("train").map(|part| part.samples.len()).collect();
    assert!(trains.len() >= 2 && trains.iter().all(|packets| *packets == 20), "{trains:?}");
    assert_eq!(of("jitter").map(|part| part.samples.len()).collect::<Vec<_>>(), vec![1; trains.len()]);
    let sent: Vec<_> = bench.network.sent.iter().map(|order| order.way).collect();
    assert!(sent.chunks(20).take(trains.len()).all(|train| train.iter().all(|way| *way == train[0])), "one port each");
}

#[test]
fn what_comes_of_a_train_when_it_is_over_is_late_a_double_or_a_strangers() {
    let probe =
        "kind = \"voice\"\nevery = \"1h\"\ndiscovery_every = \"1h\"\ntrain_every = \"10s\"\ntrain_packets = 2\n";
    let mut bench = Bench::probing(0, "192.0.2.1:50000", probe, vec![Fate::Lost]);
    while bench.network.sent.len() < 2 {
        bench.tick_at(bench.now.mono + Duration::from_millis(5));
    }
    let [first, second] = bench.network.sent[..] else { panic!("more than a train") };
    let elsewhere = Errand::VoicePing("192.0.2.66:50000".parse().unwrap());
    // The first one is answered in time and then again, the second only after more than twice its timeout.
    for (order, from, millis) in [
        (first, elsewhere, 1),
        (first, first.errand, 2),
        (first, first.errand, 9000),
        (second, elsewhere, 9000),
        (second, second.errand, 9001),
    ] {
        let at = bench.now.mono + Duration::from_millis(millis);
        let heard = Heard::ByPacer { at, kernel: None };
        let answer = Report::Answer { token: order.token, errand: from, outcome: Outcome::Reply, heard };
        bench.network.coming.push((at, answer));
    }
    bench.run_until(bench.now.mono + Duration::from_millis(9500));
    let noise = |reason: &str| bench.metered(&format!("isochrone_agent_noise_total{{reason=\"{reason}\"}}"));
    assert_eq!(["stranger", "late", "double"].map(noise), [2, 1, 1]);
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![
        4 => (0..2000_u64).prop_map(|millis| Fate::Reply { millis }),
        2 => Just(Fate::Lost),
        1 => Just(Fate::Unreachable),
        1 => Just(Fate::NotSent),
        1 => prop::option::of(0..2000_u64).prop_map(|millis| Fate::Task { millis }),
    ];
    vec(fate, 1..30)
}

proptest! {
    /// Ticks come when they come; the network does what it wants.
    #[test]
    fn every_probe_is_in_one_window_or_missed(fates in fates(), targets in 1..4_usize, gaps in vec(1..3_000_u64, 1..60)) {
        let mut bench = Bench::new(targets, fates);
        let mut moment = 0;
        for gap in gaps {
            moment += gap;
            bench.tick_at(Mono(moment * 1_000_000));
        }
        bench.pacer.finish(bench.now);
        let handovers = bench.handed_over();
        let windows: usize = counts(&handovers).values().sum();
        let told = |reason| handovers.iter().flat_map(|it| &it.missed).filter(move |((_, why), _)| *why == reason);
        let mut missed = 0;
        for reason in ["kernel", "unreported", "stopped", "skipped"] {
            let metered = bench.metered(&format!("isochrone_agent_probe_missed_total{{reason=\"{reason}\"}}"));
            prop_assert_eq!(metered, told(reason).map(|(_, count)| count).sum::<u64>());
            missed += if reason == "skipped" { 0 } else { metered };
        }
        prop_assert_eq!(windows as u64 + missed, bench.network.dealt as u64);
    }
}
