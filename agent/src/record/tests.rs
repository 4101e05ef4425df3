use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use runtime::Mono;
use telemetry::FailureKind;

use super::*;
use crate::flights::Miss;
use crate::probe::Way;

const WIDTH: Duration = Duration::from_secs(10);
const LOST: Outcome = Outcome::Failure(FailureKind::Timeout);

/// Milliseconds after a moment at which a slot begins.
fn at(millis: u64) -> Wall {
    Wall(1_764_000_000_000_000_000 + millis * 1_000_000)
}

fn own(probes: usize) -> Vec<Aspect> {
    vec![aspect("rtt", &[]); probes]
}

fn aspect(phase: &'static str, labels: &[(Label, &str)]) -> Aspect {
    Aspect { phase, labels: labels.iter().map(|(label, value)| (*label, value.parse().unwrap())).collect() }
}

fn due(series: u32, millis: u64) -> Due {
    Due { probe: ProbeIndex(series), at: Mono(millis * 1_000_000), wall: at(millis) }
}

fn ended(due: Due, end: End) -> Ended {
    Ended { due, way: Some(Way(0)), standing: Standing::Regular, end }
}

fn counted(due: Due, outcome: Outcome) -> Ended {
    ended(due, End::Counted(outcome, Duration::from_millis(20)))
}

/// One series, a probe a second from 0.5 s on: `.` is a reply after 20 ms, `x` a loss told a second later. Answers the parts
/// as `(begin, end, replies, losses)`, in milliseconds, each with the moment when it was told.
fn strip(strip: &str) -> Vec<(u64, (u64, u64, usize, usize))> {
    let mut events = vec![(10_000, None, None)];
    for (second, probe) in strip.chars().enumerate() {
        let sent = second as u64 * 1000 + 500;
        let (ended, outcome) = if probe == '.' { (sent + 20, Outcome::Reply) } else { (sent + 1000, LOST) };
        events.push((sent, Some(due(0, sent)), None));
        events.push((ended, Some(due(0, sent)), Some(outcome)));
    }
    events.sort_by_key(|(moment, _, outcome)| (*moment, outcome.is_none()));
    let mut recorder = Recorder::new(own(1), WIDTH, at(0));
    let mut told = Vec::new();
    for (moment, due, outcome) in events {
        match (due, outcome) {
            (Some(due), Some(outcome)) => recorder.record(&counted(due, outcome)),
            (Some(due), None) => recorder.begin(due),
            (None, _) => {}
        }
        let millis = |wall: Wall| wall.since(at(0)).as_millis() as u64;
        told.extend(recorder.close(at(moment)).into_iter().map(|part| {
            let lost = part.samples.iter().filter(|(outcome, _)| *outcome == LOST).count();
            (moment, (millis(part.begin), millis(part.end), part.samples.len() - lost, lost))
        }));
    }
    told
}

#[test]
fn a_slot_is_told_once_when_it_is_over_and_its_last_probe_has_ended() {
    assert_eq!(strip("............"), [(10_000, (0, 10_000, 10, 0))]);
    assert_eq!(strip(".........x.."), [(10_500, (0, 10_000, 9, 1))]);
}

#[test]
fn one_loss_alone_does_not_close_a_slot() {
    assert_eq!(strip("...x........"), [(10_000, (0, 10_000, 9, 1))]);
}

#[test]
fn bad_news_is_told_at_the_second_failure_in_a_row_and_at_each_one_after() {
    let told = [
        (4_500, (0, 4_500, 2, 2)),
        (5_500, (0, 5_500, 0, 1)),
        (6_500, (0, 6_500, 0, 1)),
        (6_520, (0, 6_520, 1, 0)), // the good news
        (10_000, (0, 10_000, 3, 0)),
    ];
    assert_eq!(strip("..xxxx......"), told);
}

#[test]
fn a_row_of_failures_goes_on_across_the_end_of_a_slot() {
    let told = [(10_500, (0, 10_000, 8, 2)), (11_500, (10_000, 11_500, 0, 1)), (11_520, (10_000, 11_520, 1, 0))];
    assert_eq!(strip("........xxx."), told);
}

#[test]
fn a_missed_probe_is_in_no_window_and_holds_none_open() {
    let mut recorder = Recorder::new(own(1), WIDTH, at(0));
    recorder.begin(due(0, 1000));
    recorder.begin(due(0, 2000));
    recorder.record(&counted(due(0, 1000), Outcome::Reply));
    assert_eq!(recorder.close(at(10_500)), []);
    recorder.record(&ended(due(0, 2000), End::Missed(Miss::Unreported)));
    let parts = recorder.close(at(10_600));
    assert_eq!(parts.iter().map(|part| (part.end, part.samples.len())).collect::<Vec<_>>(), [(at(10_000), 1)]);
    assert_eq!(recorder.finish(at(20_000)), []);
}

#[test]
fn a_slot_left_ahead_by_a_clock_set_back_is_closed_at_once() {
    let mut recorder = Recorder::new(own(1), WIDTH, at(100_000));
    recorder.begin(due(0, 101_000));
    recorder.record(&counted(due(0, 101_000), Outcome::Reply));
    let parts = recorder.close(at(5_000));
    assert_eq!((parts.len(), parts[0].begin, parts[0].end), (1, at(100_000), at(110_000)));
}

fn phased(due: Due, samples: &[(Aspect, Outcome)]) -> Ended {
    let duration = Duration::from_millis(20);
    let sample = |(aspect, outcome): &(Aspect, Outcome)| Sample { aspect: aspect.clone(), outcome: *outcome, duration };
    ended(due, End::Phased(samples.iter().map(sample).collect(), None))
}

#[test]
fn the_phases_of_a_probe_are_series_of_their_own_and_only_the_failing_ones_are_urgent() {
    let mut recorder = Recorder::new(own(1), WIDTH, at(0));
    let [connect, tls] = ["connect", "tls"].map(|phase| aspect(phase, &[]));
    for second in [1, 2] {
        recorder.begin(due(0, second * 1000));
        recorder.record(&phased(due(0, second * 1000), &[(connect.clone(), Outcome::Reply), (tls.clone(), LOST)]));
    }
    let told = |parts: Vec<Part>| parts.iter().map(|part| (part.aspect.phase, part.samples.len())).collect::<Vec<_>>();
    assert_eq!(told(recorder.close(at(2500))), [("tls", 2)]);
    assert_eq!(told(recorder.close(at(10_000))), [("connect", 2)]);
}

#[test]
fn a_held_connection_that_breaks_and_the_new_one_that_fails_are_one_row_of_failures() {
    let mut recorder = Recorder::new(own(1), WIDTH, at(0));
    let [held, new] = ["reused", "new"].map(|connection| aspect("transfer", &[(Label::Connection, connection)]));
    for (millis, aspect, outcome) in [(1000, &held, Outcome::Reply), (2000, &held, LOST), (3000, &new, LOST)] {
        recorder.begin(due(0, millis));
        recorder.record(&phased(due(0, millis), &[(aspect.clone(), outcome)]));
    }
    let told: Vec<_> = recorder.close(at(3500)).into_iter().map(|part| part.samples.len()).collect();
    assert_eq!(told, [2, 1], "both at once");
}

#[test]
fn a_target_with_a_new_name_each_time_makes_a_bounded_number_of_series() {
    let mut recorder = Recorder::new(own(1), WIDTH, at(0));
    for number in 0..20 {
        recorder.begin(due(0, 1000));
        let node = aspect("hello", &[(Label::Node, &format!("node-{number}"))]);
        recorder.record(&phased(due(0, 1000), &[(node, Outcome::Reply)]));
    }
    let told = recorder.close(at(10_000));
    let nodes: Vec<_> =
        told.iter().map(|part| (part.aspect.labels[&Label::Node].as_str(), part.samples.len())).collect();
    assert_eq!(nodes, [("node-0", 1), ("node-1", 1), ("node-2", 1), ("other", 17)]);
}

#[derive(Debug, Clone)]
enum Step {
    Send(u32),
    End(prop::sample::Index, Option<Outcome>),
    Close,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![Just(Some(Outcome::Reply)), Just(Some(LOST)), Just(None)];
    let step = prop_oneof![
        4 => (0..3_u32).prop_map(Step::Send),
        4 => (any::<prop::sample::Index>(), outcome).prop_map(|(which, outcome)| Step::End(which, outcome)),
        2 => Just(Step::Close),
        2 => (1..12_000_u64).prop_map(Step::Wait),
    ];
    vec(step, 1..150)
}

type Counts = BTreeMap<(u32, Wall, Outcome), usize>;

proptest! {
    #[test]
    fn windows_add_up_to_the_outcomes_in_whatever_order_they_come_and_close(steps in steps()) {
        let mut recorder = Recorder::new(own(3), WIDTH, at(0));
        let (mut out, mut parts, mut now) = (Vec::new(), Vec::new(), 0);
        let mut expected = Counts::new();
        let mut end = |recorder: &mut Recorder, due: Due, outcome: Option<Outcome>| {
            if let Some(outcome) = outcome {
                *expected.entry((due.probe.0, due.wall.slot(WIDTH), outcome)).or_default() += 1;
                recorder.record(&counted(due, outcome));
            } else {
                recorder.record(&ended(due, End::Missed(Miss::Stopped)));
            }
        };
        for step in steps {
            match step {
                Step::Send(series) => {
                    recorder.begin(due(series, now));
                    out.push(due(series, now));
                }
                Step::End(which, outcome) if !out.is_empty() => {
                    let due = out.swap_remove(which.index(out.len()));
                    end(&mut recorder, due, outcome);
                }
                Step::End(..) => {}
                Step::Wait(millis) => now += millis,
                Step::Close => parts.extend(recorder.close(at(now))),
            }
            now += 1;
        }
        for due in out {
            end(&mut recorder, due, None);
        }
        parts.extend(recorder.finish(at(now)));

        let mut counts = Counts::new();
        let mut ends = BTreeMap::new();
        for part in &parts {
            prop_assert!(!part.samples.is_empty());
            prop_assert!(part.begin < part.end && part.end <= part.begin + WIDTH);
            let told = ends.insert((part.probe, part.begin), part.end);
            prop_assert!(told.is_none_or(|told| told < part.end), "two parts of a slot end at the same moment");
            for (outcome, _) in part.samples.iter() {
                *counts.entry((part.probe.0, part.begin, outcome)).or_default() += 1;
            }
        }
        prop_assert_eq!(counts, expected);
    }
}

#[test]
fn suspect_and_confirming_samples_stand_in_windows_of_their_own_and_make_no_row_of_failures() {
    let mut recorder = Recorder::new(own(1), WIDTH, at(0));
    for (second, standing) in [(1, Standing::Regular), (2, Standing::Suspect), (3, Standing::Confirming)] {
        let due = due(0, second * 1000);
        recorder.begin(due);
        recorder.record(&Ended { standing, ..counted(due, LOST) });
    }
    assert_eq!(recorder.close(at(5000)), [], "one failure that counts is not bad news");
    let parts = recorder.close(at(10_000));
    let told: Vec<_> = parts.iter().map(|part| (part.standing, part.samples.len())).collect();
    assert_eq!(told, [(Standing::Regular, 1), (Standing::Suspect, 1), (Standing::Confirming, 1)]);
}

#[test]
fn what_is_confirmed_does_not_wait() {
    let mut recorder = Recorder::new(own(1), WIDTH, at(0));
    let due = due(0, 1000);
    recorder.begin(due);
    recorder.record(&Ended { standing: Standing::Confirming, ..counted(due, LOST) });
    assert_eq!(recorder.close(at(1500)), []);
    recorder.hurry(ProbeIndex(0));
    assert_eq!(recorder.close(at(1600)).len(), 1);
}
