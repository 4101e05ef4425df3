use std::net::SocketAddr;

use telemetry::{FailureKind, Outcome};

use super::*;
use crate::flights::{End, Noise};
use crate::names::Addresses;
use crate::probe::why::Why;
use crate::probe::{Heard, Launch, Report};

/// Answers every second probe after a millisecond; its first comes back late instead of never.
#[derive(Default)]
struct EverySecond {
    now: Mono,
    sent: u64,
    coming: Vec<(Mono, Report)>,
}

impl Prober for EverySecond {
    fn send(&mut self, Order { token, errand, .. }: Order) -> Result<Launch, SendFault> {
        self.sent += 1;
        let after = Duration::from_millis(match self.sent {
            2.. if self.sent.is_multiple_of(2) => 1,
            1 => 250,
            _ => return Ok(Launch::OnTheWire(self.now)),
        });
        let at = self.now + after;
        let heard = Heard::ByPacer { at, kernel: None };
        self.coming.push((at, Report::Answer { token, errand, outcome: Outcome::Reply, heard }));
        Ok(Launch::OnTheWire(self.now))
    }

    fn heard(&mut self, heard: &mut Vec<Report>) {
        let now = self.now;
        heard.extend(self.coming.extract_if(.., |(at, _)| *at <= now).map(|(_, report)| report));
    }
}

fn trial(count: u32) -> Trial {
    let (every, timeout) = (Duration::from_millis(100), Duration::from_millis(200));
    let to: SocketAddr = "192.0.2.1:50000".parse().unwrap();
    let kind = ProbeKind::Tcp;
    let probe = Probe { kind, every, timeout, cron: None };
    Trial { endpoint: to.to_string().parse().unwrap(), probe, count: Some(count) }
}

#[test]
fn a_trial_sends_what_was_asked_for_at_its_pace_and_ends_with_the_last_timeout() {
    let trial = trial(5);
    let plan = Plan::new(&trial.config(), &Addresses::new());
    let at = |mono: Mono| Now { mono, wall: runtime::Wall(1_764_000_000_000_000_000 + mono.0) };
    let (mut wire, start) = (EverySecond::default(), Mono(0));
    let mut course = Course::new(&trial, plan, at(start));
    loop {
        course.tick(at(wire.now), &mut wire);
        if course.is_over() {
            break;
        }
        let heard = wire.coming.iter().map(|(at, _)| *at).min();
        wire.now = [course.wake_at(), heard].into_iter().flatten().min().unwrap();
    }
    assert_eq!(wire.now, start + Duration::from_millis(600), "the fifth went out at 400 ms and had 200 ms");
    let told = serde_json::to_value(&course.summary).unwrap();
    let expected = serde_json::json!({
        "kind": "tcp", "address": "192.0.2.1:50000",
        "sent": 5, "received": 2, "lost": 3, "late": 1, "errors": { "timeout": 3 },
        "phases": { "connect": {
            "count": 2, "min_ms": 1.0, "p50_ms": 1.0, "p95_ms": 1.0, "p99_ms": 1.0, "max_ms": 1.0
        } },
        "labels": {}
    });
    assert_eq!(told, expected);
}

#[test]
fn quantiles_are_those_of_the_samples_and_jitter_follows_rfc_3550() {
    let mut summary = Summary::new("voice", &trial(1).endpoint);
    for millis in 1..=100 {
        summary.ended("rtt", &End::Counted(Outcome::Reply, Duration::from_millis(millis)));
    }
    let told = serde_json::to_value(&summary).unwrap();
    let expected = serde_json::json!({
        "count": 100, "min_ms": 1.0, "p50_ms": 50.0, "p95_ms": 95.0, "p99_ms": 99.0, "max_ms": 100.0
    });
    assert_eq!(told["phases"]["rtt"], expected);
    // Each differs from the one before by 1 ms, and J comes nearer to it by a sixteenth: 1 - (15/16)^99.
    assert_eq!(told["jitter_ms"], 0.998);
}

#[test]
fn a_voice_trial_says_how_a_call_would_sound_and_others_do_not() {
    let mos = |kind| {
        let mut summary = Summary::new(kind, &trial(1).endpoint);
        (0..10).for_each(|_| summary.ended("rtt", &End::Counted(Outcome::Reply, Duration::from_millis(100))));
        summary.conclude(&Why::default());
        serde_json::to_value(&summary).unwrap()["mos"].clone()
    };
    // By hand: d = 70 ms, R = 93.2 - 1.68 = 91.52.
    assert_eq!(mos("voice"), 4.374);
    assert!(mos("icmp").is_null());
}

#[test]
fn what_failed_is_told_by_reason_and_never_as_a_phase() {
    let mut summary = Summary::new("tcp", &trial(1).endpoint);
    summary.ended("connect", &End::Counted(Outcome::Failure(FailureKind::Refused), Duration::ZERO));
    assert!(!summary.is_success());
    insta::assert_snapshot!(summary.text(80), @r"
    tcp 192.0.2.1:50000: 0 sent, 0 received, 1 lost (100 %), 0 late
    1 lost: refused
    ");
}

/// Of a run as long as one that somebody watches for an hour.
fn long_run() -> Summary {
    let mut summary = Summary::new("voice", &trial(1).endpoint);
    summary.sent = 18_000;
    for turn in 0..17_990 {
        summary.ended("rtt", &End::Counted(Outcome::Reply, Duration::from_micros(19_000 + turn % 4000)));
    }
    for _ in 0..9 {
        summary.ended("rtt", &End::Counted(Outcome::Failure(FailureKind::Timeout), Duration::from_secs(1)));
    }
    summary.noise(Noise::Late);
    summary.noise(Noise::Double);
    summary.missed(Miss::Stopped);
    summary
}

#[test]
fn the_line_leaves_out_from_the_right_what_does_not_fit() {
    let (summary, hour) = (long_run(), Duration::from_hours(1));
    let full = "3600 s  18000 sent  17990 received  9 lost  1 late  1 missed  last 20.99 ms  p50 20.80  p99 22.95";
    assert_eq!(summary.line(hour, 200), full);
    assert_eq!(summary.line(hour, full.len() + 2), full);
    assert_eq!(summary.line(hour, 79), "3600 s  18000 sent  17990 received  9 lost  1 late  1 missed  last 20.99 ms");
    assert_eq!(summary.line(hour, 20), "3600 s  18000 sent");
    assert_eq!(summary.line(hour, 3), "");
}

#[test]
fn the_text_has_every_count_with_its_reason_and_fits_the_terminal() {
    insta::assert_snapshot!(long_run().text(80));
    let narrow = long_run().text(40);
    insta::assert_snapshot!(narrow);
    assert!(narrow.lines().skip(5).all(|line| line.chars().count() <= 40), "the table and the drawing");
}

#[test]
fn what_can_never_be_sent_is_not_tried_for_ever() {
    let endless = Trial { count: None, ..trial(1) };
    let plan = Plan::new(&endless.config(), &Addresses::new());
    let at = Now { mono: Mono(0), wall: runtime::Wall(1_764_000_000_000_000_000) };
    let mut course = Course::new(&endless, plan, at);
    course.tick(at, &mut NoSocket);
    assert!(course.is_over());
    assert_eq!(
        course.summary.text(80),
        "tcp 192.0.2.1:50000: 0 sent, 0 received, 0 lost, 0 late\n\
         1 missed: no socket for this kind and family could be opened\n"
    );
}

#[test]
fn a_trial_that_is_stopped_counts_what_was_out_neither_as_received_nor_as_lost() {
    let endless = Trial { count: None, ..trial(1) };
    let plan = Plan::new(&endless.config(), &Addresses::new());
    let at = |mono: Mono| Now { mono, wall: runtime::Wall(1_764_000_000_000_000_000 + mono.0) };
    let (mut wire, mut course) = (EverySecond::default(), Course::new(&endless, plan, at(Mono(0))));
    course.tick(at(wire.now), &mut wire);
    wire.now += Duration::from_millis(100);
    course.tick(at(wire.now), &mut wire);
    assert!(!course.is_over());
    course.abandon();
    let told = serde_json::to_value(&course.summary).unwrap();
    assert_eq!((&told["sent"], &told["lost"], &told["missed"]["stopped"]), (&2.into(), &0.into(), &2.into()), "{told}");
}

struct NoSocket;

impl Prober for NoSocket {
    fn send(&mut self, _: Order) -> Result<Launch, SendFault> {
        Err(SendFault::NoSocket)
    }

    fn heard(&mut self, _: &mut Vec<Report>) {}
}
