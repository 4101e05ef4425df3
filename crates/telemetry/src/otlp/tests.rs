//! What is built is what is walked; what is not ours is refused, never a panic.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;

use super::build::{AgentHealth, Certificate, LosingPorts, Measured, Missed, Sender, Subject, encode};
use super::labels::{self, BadLabels};
use super::walk::{BadPoint, Malformed, Point, Value, Visitor, walk};
use crate::histogram::{Histogram, Scratch};
use crate::series::{Boot, Gap, Label, Sequence, Series, Standing};
use crate::time::{UnixSeconds, Wall};
use crate::window::{FailureKind, Outcome, Window};

#[derive(Default)]
struct Seen<'a> {
    resource: &'a [u8],
    points: Vec<Point<'a>>,
    bad: Vec<BadPoint>,
    others: usize,
}

impl<'a> Visitor<'a> for Seen<'a> {
    fn resource(&mut self, attributes: &'a [u8]) {
        self.resource = attributes;
    }

    fn point(&mut self, point: Point<'a>) {
        self.points.push(point);
    }

    fn bad_point(&mut self, _: &'a str, _: Cow<'a, [u8]>, fault: BadPoint) {
        self.bad.push(fault);
    }

    fn other(&mut self, _: &'a str) {
        self.others += 1;
    }
}

fn sender() -> Sender {
    let (agent, source) = ("fra-1".parse().unwrap(), "fra".parse().unwrap());
    Sender { agent, source, zone: None, version: "0.1.0".to_owned() }
}

fn measured(target: &str, outcomes: &[(Outcome, Vec<u64>)]) -> Measured {
    let series = Series {
        agent: sender().agent,
        source: sender().source,
        target: target.parse().unwrap(),
        labels: [(Label::Cache, "hit".parse().unwrap())].into(),
        ..crate::sample::series()
    };
    let histogram = |nanos: &Vec<u64>| Scratch::default().fold(nanos.iter().map(|&nanos| Duration::from_nanos(nanos)));
    let outcomes: BTreeMap<_, _> = outcomes.iter().map(|(outcome, nanos)| (*outcome, histogram(nanos))).collect();
    let window = Window { begin: Wall::from_secs(1000), end: Wall::from_secs(1010), outcomes };
    Measured {
        subject: Arc::new(Subject { series, address: "127.0.0.1".into(), port: Some(50_000), transport: "udp" }),
        window,
    }
}

fn encode_plain(windows: &[Measured]) -> Vec<u8> {
    encode(&sender(), windows, &AgentHealth { end: Wall::from_secs(1010), ..AgentHealth::default() })
}

fn walked(body: &[u8]) -> Seen<'_> {
    let mut seen = Seen::default();
    walk(body, &mut seen).unwrap();
    seen
}

/// Decodes with prost, lets `change` spoil the first probe point, encodes again.
fn spoiled(
    change: impl Fn(&mut opentelemetry_proto::tonic::metrics::v1::ExponentialHistogramDataPoint, &mut i32),
) -> Vec<u8> {
    let body = encode_plain(&[measured("iad-voice-1", &[(Outcome::Reply, vec![1_000_000])])]);
    let mut request = ExportMetricsServiceRequest::decode(body.as_slice()).unwrap();
    let metric = &mut request.resource_metrics[0].scope_metrics[0].metrics[0];
    let Some(Data::ExponentialHistogram(data)) = &mut metric.data else { panic!("the first metric is a histogram") };
    change(&mut data.data_points[0], &mut data.aggregation_temporality);
    request.encode_to_vec()
}

proptest! {
    #[test]
    fn a_batch_walks_as_it_was_built(windows in vec((1..9_u8, vec(1_000..5_000_000_000_u64, 1..20), 0..4_usize), 1..8)) {
        let built: Vec<_> = windows.iter().map(|(number, replies, lost)| {
            let failures = vec![1_000_000_000; *lost];
            let mut outcomes = vec![(Outcome::Reply, replies.clone())];
            outcomes.extend((*lost > 0).then_some((Outcome::Failure(FailureKind::Timeout), failures)));
            measured(&format!("iad-voice-{number}"), &outcomes)
        }).collect();
        let body = encode_plain(&built);
        let seen = walked(&body);
        let resource = labels::resource(seen.resource).unwrap();
        prop_assert_eq!((resource.agent, resource.source), (sender().agent, sender().source));

        let expected: Vec<_> = built.iter().flat_map(|measured| {
            measured.window.outcomes.iter().map(|(outcome, histogram)| (measured.subject.series.clone(), *outcome, histogram.clone()))
        }).collect();
        let met: Vec<_> = seen.points.iter().filter(|point| point.metric == super::PROBE_DURATION).map(|point| {
            let (series, outcome) = labels::series(&point.attributes, &sender().agent, &sender().source).unwrap();
            let Value::Histogram(histogram) = &point.value else { panic!("a duration is a histogram") };
            (series, outcome, histogram.clone())
        }).collect();
        prop_assert_eq!(met, expected);
        prop_assert!(seen.bad.is_empty());
    }

    #[test]
    fn bytes_that_are_no_batch_never_panic(body in vec(any::<u8>(), 0..300)) {
        _ = walk(&body, &mut Seen::default());
        _ = labels::resource(&body);
        _ = labels::series(&body, &sender().agent, &sender().source);
    }

    #[test]
    fn a_batch_with_a_flipped_byte_never_panics(at in 0..400_usize, bits in 1..=255_u8) {
        let mut body = encode_plain(&[measured("iad-voice-1", &[(Outcome::Reply, vec![1_000_000, 2_000_000])])]);
        let length = body.len();
        body[at % length] ^= bits;
        _ = walk(&body, &mut Seen::default());
    }
}

#[test]
fn a_batch_cut_short_is_malformed() {
    let body = encode_plain(&[measured("iad-voice-1", &[(Outcome::Reply, vec![1_000_000])])]);
    assert_eq!(walk(&body[..body.len() - 1], &mut Seen::default()), Err(Malformed));
}

#[test]
fn each_bad_point_is_refused_for_its_own_reason() {
    let cases: [(BadPoint, Vec<u8>); 8] = [
        (BadPoint::Count, spoiled(|point, _| point.count += 1)),
        (BadPoint::Negative, spoiled(|point, _| point.negative = point.positive.clone())),
        (BadPoint::Buckets, spoiled(|point, _| point.positive.as_mut().unwrap().bucket_counts = vec![1; 20_000])),
        (BadPoint::Scale, spoiled(|point, _| point.scale = 21)),
        (BadPoint::Range, spoiled(|point, _| point.positive.as_mut().unwrap().offset = 1_000_000)),
        (BadPoint::Range, spoiled(|point, _| point.positive.as_mut().unwrap().offset = -1_000_000)),
        (BadPoint::Time, spoiled(|point, _| point.time_unix_nano = 1)),
        (BadPoint::Cumulative, spoiled(|_, temporality| *temporality = 2)),
    ];
    for (expected, body) in cases {
        let seen = walked(&body);
        assert_eq!(seen.bad, [expected]);
        assert!(seen.points.iter().all(|point| point.metric != super::PROBE_DURATION));
    }
}

#[test]
fn attributes_that_do_not_stand_together_are_gathered() {
    let body = spoiled(|point, _| point.attributes.truncate(1));
    let seen = walked(&body);
    let point = seen.points.first().unwrap();
    // The same attribute twice, another field between: as an encoder in another language may write it.
    let mut apart = point.attributes.to_vec();
    apart.extend([0x19, 1, 0, 0, 0, 0, 0, 0, 0]);
    apart.extend_from_slice(&point.attributes);
    assert_eq!(super::walk::attributes(&apart, 1).unwrap(), [&point.attributes[..], &point.attributes[..]].concat());
}

#[test]
fn the_agents_own_health_is_read_beside_the_probes() {
    let lateness = Scratch::default().fold([Duration::from_micros(80)]);
    let end = Wall::from_secs(1010);
    let begin = Wall::from_secs(1000);
    let noise_floor = Scratch::default().fold([Duration::from_micros(30); 2]);
    let health = AgentHealth {
        lateness,
        noise_floor,
        spool_batches: 3,
        spool_bytes: 4096,
        begin,
        end,
        ..AgentHealth::default()
    };
    let body = encode(&sender(), &[], &health);
    let seen = walked(&body);
    let value = |metric: &str| seen.points.iter().find(|point| point.metric == metric).map(|point| point.value.clone());
    assert_eq!(value(super::AGENT_SPOOL_BATCHES), Some(Value::Number(3.0)));
    assert_eq!(value(super::AGENT_SPOOL_BYTES), Some(Value::Number(4096.0)));
    let Some(Value::Histogram(lateness)) = value(super::AGENT_LATENESS) else { panic!("lateness is a histogram") };
    let Some(Value::Histogram(floor)) = value(super::AGENT_NOISE_FLOOR) else { panic!("the floor is a histogram") };
    assert_eq!((lateness.count(), floor.count()), (1, 2));
    assert_eq!(Histogram::default().count(), 0);
}

#[test]
fn a_gap_is_read_with_its_boot_and_its_first_and_last_sequence() {
    let gap = |from, to| Gap { boot: Boot(7), from: Sequence(from), to: Sequence(to) };
    let gaps = vec![gap(3, 41), gap(50, 50), gap(0, 1), gap(9, 8)];
    let body = encode(&sender(), &[], &AgentHealth { gaps, ..AgentHealth::default() });
    let seen = walked(&body);
    let points: Vec<_> = seen.points.iter().filter(|point| point.metric == super::AGENT_SPOOL_GAP).collect();
    assert_eq!((&points[0].value, &points[1].value), (&Value::Number(39.0), &Value::Number(1.0)));
    let read: Vec<_> = points.iter().map(|point| labels::gap(&point.attributes)).collect();
    assert_eq!(read, [Ok(gap(3, 41)), Ok(gap(50, 50)), Err(BadLabels::Gap), Err(BadLabels::Gap)]);
}

#[test]
fn the_end_of_a_certificate_is_read_with_its_target_and_the_time_of_the_handshake() {
    let (Measured { subject, .. }, seen) = (measured("iad-cdn", &[]), Wall::from_secs(1005));
    let certificates = vec![Certificate { subject: subject.clone(), not_after: UnixSeconds(-1), seen }];
    let body = encode(&sender(), &[], &AgentHealth { certificates, ..AgentHealth::default() });
    let told = walked(&body).points.into_iter().find(|point| point.metric == super::TLS_NOT_AFTER).unwrap();
    assert_eq!((told.end, &told.value), (seen, &Value::Number(-1.0)));
    let (series, outcome) = labels::series(&told.attributes, &subject.series.agent, &subject.series.source).unwrap();
    let expected = (&subject.series.target, &subject.series.probe, Outcome::Reply);
    assert_eq!((&series.target, &series.probe, outcome), expected);
}

#[test]
fn what_samples_may_be_used_for_is_told_with_them() {
    for standing in [Standing::Regular, Standing::Confirming, Standing::Suspect] {
        let mut measured = measured("iad-voice-1", &[(Outcome::Reply, vec![1_000_000])]);
        Arc::make_mut(&mut measured.subject).series.standing = standing;
        let body = encode_plain(&[measured.clone()]);
        let seen = walked(&body);
        let point = seen.points.iter().find(|point| point.metric == super::PROBE_DURATION).unwrap();
        let Series { agent, source, .. } = &measured.subject.series;
        assert_eq!(labels::series(&point.attributes, agent, source).unwrap().0, measured.subject.series);
    }
}

#[test]
fn what_was_missed_is_a_number_beside_the_durations_and_none_of_them() {
    let subject = measured("iad-voice-1", &[]).subject;
    let missed = vec![Missed { subject, reason: "kernel", count: 7 }];
    let (begin, end) = (Wall::from_secs(1000), Wall::from_secs(1010));
    let body = encode(&sender(), &[], &AgentHealth { missed, begin, end, ..AgentHealth::default() });
    let points = walked(&body).points;
    let told = points.iter().find(|point| point.metric == super::PROBE_MISSED).unwrap();
    assert_eq!((told.begin, told.end, &told.value), (begin, end, &Value::Number(7.0)));
    assert!(points.iter().all(|point| point.metric != super::PROBE_DURATION));
}

#[test]
fn a_share_of_losing_ports_is_read_with_its_series() {
    let (Measured { subject, .. }, seen) = (measured("iad-voice-1", &[]), Wall::from_secs(1005));
    let losing_ports = vec![LosingPorts { subject: subject.clone(), share: 0.0625, seen }];
    let body = encode(&sender(), &[], &AgentHealth { losing_ports, ..AgentHealth::default() });
    let told = walked(&body).points.into_iter().find(|point| point.metric == super::PORTS_LOSING).unwrap();
    assert_eq!((told.end, &told.value), (seen, &Value::Number(0.0625)));
    let (series, _) = labels::series(&told.attributes, &subject.series.agent, &subject.series.source).unwrap();
    assert_eq!(series.path(), subject.series.path());
}
