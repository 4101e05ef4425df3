use std::net::SocketAddr;

use telemetry::{FailureKind, Outcome};

use super::*;
use crate::flights::End;
use crate::plan::Addresses;
use crate::probe::{Heard, Launch, Report, SendFault};

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
    Trial { endpoint: to.to_string().parse().unwrap(), probe: Probe { kind, every, timeout }, count }
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
fn what_failed_is_told_by_reason_and_never_as_a_phase() {
    let mut summary = Summary::new("tcp", &trial(1).endpoint);
    summary.ended("connect", &End::Counted(Outcome::Failure(FailureKind::Refused), Duration::ZERO));
    assert!(!summary.is_success());
    insta::assert_snapshot!(summary.to_string(), @r"
    tcp 192.0.2.1:50000: 0 sent, 0 received, 1 lost, 0 late
    1 lost: refused
    ");
}
