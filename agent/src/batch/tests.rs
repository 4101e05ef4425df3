use std::borrow::Cow;
use std::sync::mpsc::sync_channel;

use runtime::meters::Meters;
use telemetry::FailureKind;
use telemetry::otlp::walk::{BadPoint, Point, Value, Visitor, walk};
use telemetry::otlp::{AGENT_LATENESS, AGENT_SPOOL_BATCHES, PROBE_DURATION, PROBE_MISSED, TLS_NOT_AFTER};

use super::*;
use crate::names::Addresses;
use crate::plan::ProbeIndex;
use crate::spool::{Limits, Memory};

#[derive(Default)]
struct Seen {
    probes: Vec<(Wall, Wall, u64)>,
    lateness: Vec<(Wall, Wall, u64)>,
    spool: Vec<f64>,
    certificates: Vec<(Wall, f64)>,
    missed: Vec<(Wall, Wall, f64)>,
}

impl<'a> Visitor<'a> for Seen {
    fn resource(&mut self, _: &'a [u8]) {}

    fn point(&mut self, point: Point<'a>) {
        let Point { metric, begin, end, value, .. } = point;
        match (metric, value) {
            (PROBE_DURATION, Value::Histogram(histogram)) => self.probes.push((begin, end, histogram.count())),
            (AGENT_LATENESS, Value::Histogram(histogram)) => self.lateness.push((begin, end, histogram.count())),
            (AGENT_SPOOL_BATCHES, Value::Number(batches)) => self.spool.push(batches),
            (TLS_NOT_AFTER, Value::Number(end_of_it)) => self.certificates.push((end, end_of_it)),
            (PROBE_MISSED, Value::Number(count)) => self.missed.push((begin, end, count)),
            _ => {}
        }
    }

    fn bad_point(&mut self, metric: &'a str, _: Cow<'a, [u8]>, fault: BadPoint) {
        panic!("{metric}: {fault}");
    }

    fn other(&mut self, metric: &'a str) {
        panic!("{metric}");
    }
}

fn assembler() -> Assembler {
    let text = "region = \"fra\"\nagent = \"fra-1\"\ncollector = \"http://127.0.0.1:1\"\n[[target]]\nid = \"iad-1\"\n\
                service = \"voice\"\nregion = \"iad\"\naddress = \"192.0.2.1\"\n[[target.probe]]\nkind = \"icmp\"\n";
    let config = crate::Config::parse("agent.toml", text.to_owned()).unwrap();
    let (agent, source) = (config.agent.clone(), config.region.clone());
    let sender = Sender { agent, source, zone: None, version: "0".to_owned() };
    Assembler::new(Plan::new(&config, &Addresses::new()), sender, Wall::from_secs(100))
}

fn part(begin: u64) -> Part {
    let (reply, lost) = (Outcome::Reply, Outcome::Failure(FailureKind::Timeout));
    let millis = Duration::from_millis;
    let samples = [(reply, millis(20)), (lost, millis(1000)), (reply, millis(30))].into_iter().collect();
    let aspect = Arc::new(Aspect { phase: "rtt", labels: telemetry::Labels::new() });
    let (begin, end) = (Wall::from_secs(begin), Wall::from_secs(begin + 10));
    Part { probe: ProbeIndex(0), aspect, standing: Standing::Regular, begin, end, samples }
}

fn handover(begins: &[u64], at: u64) -> Handover {
    let parts = begins.iter().map(|&begin| part(begin)).collect();
    let lateness = vec![Duration::from_micros(80); begins.len()];
    Handover { parts, lateness, at: Wall::from_secs(at), ..Handover::default() }
}

fn seen(bodies: &[Vec<u8>]) -> Seen {
    let mut seen = Seen::default();
    for body in bodies {
        walk(body, &mut seen).unwrap();
    }
    seen
}

#[test]
fn a_part_becomes_one_point_for_each_outcome() {
    let mut assembler = assembler();
    let bodies: Vec<_> = assembler.assemble(handover(&[100], 110), Depth::default(), &[]).collect();
    let (begin, end) = (Wall::from_secs(100), Wall::from_secs(110));
    assert_eq!(seen(&bodies).probes, [(begin, end, 2), (begin, end, 1)]);
}

#[test]
fn many_windows_are_several_batches_and_the_lateness_is_told_once() {
    let depth = Depth { batches: 2, bytes: 9 };
    let mut assembler = assembler();
    let bodies: Vec<_> = assembler.assemble(handover(&[100, 110, 120, 130, 140, 150, 160], 170), depth, &[]).collect();
    assert_eq!(bodies.len(), 3);
    let seen = seen(&bodies);
    assert_eq!(seen.probes.len(), 14);
    assert_eq!(seen.lateness.iter().map(|(_, _, count)| *count).collect::<Vec<_>>(), [7, 0, 0]);
    assert_eq!(seen.spool, [2.0; 3]);
}

#[test]
fn what_was_missed_is_told_once_with_many_windows_and_without_any() {
    let missed = |count| BTreeMap::from([((ProbeIndex(0), "kernel"), count)]);
    let mut assembler = assembler();
    let mut told = |begins: &[u64], at, missed| {
        let handover = Handover { missed, ..handover(begins, at) };
        let bodies: Vec<_> = assembler.assemble(handover, Depth::default(), &[]).collect();
        (bodies.len(), seen(&bodies).missed)
    };
    let span = |begin, end, count| (Wall::from_secs(begin), Wall::from_secs(end), count);
    assert_eq!(told(&[100, 110, 120, 130], 140, missed(3)), (2, vec![span(100, 140, 3.0)]));
    assert_eq!(told(&[], 150, missed(10)), (1, vec![span(140, 150, 10.0)]));
    assert_eq!(told(&[], 160, BTreeMap::new()), (0, Vec::new()));
}

#[test]
fn the_agents_health_covers_the_time_since_the_batch_before_even_across_a_clock_set_back() {
    let mut assembler = assembler();
    let mut bodies: Vec<_> = assembler.assemble(handover(&[100], 110), Depth::default(), &[]).collect();
    bodies.extend(assembler.assemble(handover(&[100], 120), Depth::default(), &[]));
    bodies.extend(assembler.assemble(handover(&[50], 60), Depth::default(), &[]));
    let spans: Vec<_> = seen(&bodies).lateness.into_iter().map(|(begin, end, _)| (begin, end)).collect();
    let span = |begin, end| (Wall::from_secs(begin), Wall::from_secs(end));
    assert_eq!(spans, [span(100, 110), span(110, 120), span(60, 60)]);
}

#[tokio::test]
async fn what_is_handed_over_together_is_one_batch_and_the_end_closes_the_spool() {
    let (outbox, handovers) = sync_channel(10);
    let spool = Shared::new(Memory::new(telemetry::Boot(1), Limits::default()));
    outbox.try_send(handover(&[100], 110)).unwrap();
    outbox.try_send(handover(&[100], 111)).unwrap();
    drop(outbox);
    let tally = Instruments::new(&Meters::new("test"));
    run(&handovers, assembler(), &spool, Clock::start(), &tally).unwrap();
    let batch = spool.next(crate::spool::Lane::Oldest).await.unwrap();
    let body = zstd::decode_all(&batch.body[..]).unwrap();
    assert_eq!(seen(&[body]).probes.len(), 4);
    spool.forget(batch.name).await;
    assert_eq!(spool.next(crate::spool::Lane::Oldest).await, None);
}

#[tokio::test]
async fn while_a_batch_waits_what_comes_after_it_makes_one() {
    let (outbox, handovers) = sync_channel(10);
    let spool = Shared::new(Memory::new(telemetry::Boot(1), Limits::default()));
    spool.offer(vec![b"waits".as_slice().into()], Vec::new(), Clock::start().wall());
    let sending = std::thread::spawn(move || {
        let (_open, silence) = sync_channel::<()>(0);
        for at in [110, 120, 130] {
            outbox.send(handover(&[100], at)).unwrap();
            silence.recv_timeout(GATHER * 3).unwrap_err();
        }
    });
    let tally = Instruments::new(&Meters::new("test"));
    run(&handovers, assembler(), &spool, Clock::start(), &tally).unwrap();
    sending.join().unwrap();
    assert_eq!(spool.depth().batches, 2);
    let newest = spool.next(crate::spool::Lane::Newest).await.unwrap();
    assert_eq!(seen(&[zstd::decode_all(&newest.body[..]).unwrap()]).probes.len(), 6);
}

#[test]
fn a_certificate_is_told_of_when_it_is_new_when_it_changes_and_every_ten_minutes() {
    let mut assembler = assembler();
    let mut told = |at: u64, shown: Option<i64>| {
        let shown = shown.map(|not_after| {
            (ProbeIndex(0), Shown { not_after: telemetry::UnixSeconds(not_after), at: Wall::from_secs(at - 1) })
        });
        let handover = Handover { certificates: shown.into_iter().collect(), ..handover(&[at - 10], at) };
        seen(&assembler.assemble(handover, Depth::default(), &[]).collect::<Vec<_>>()).certificates
    };
    assert_eq!(told(1000, Some(5000)), [(Wall::from_secs(999), 5000.0)], "new");
    assert_eq!(told(1010, Some(5000)), []);
    assert_eq!(told(1020, Some(9000)), [(Wall::from_secs(1019), 9000.0)], "another one");
    assert_eq!(told(1610, Some(9000)), []);
    assert_eq!(told(1620, None), [(Wall::from_secs(1609), 9000.0)], "ten minutes later, as it was last seen");
    assert_eq!(told(1630, Some(9000)), []);
    assert_eq!(told(1500, None), [(Wall::from_secs(1629), 9000.0)], "the wall clock was set back");
}

#[test]
fn a_batch_takes_no_more_memory_than_its_bytes() {
    let body = vec![7; 1 << 20];
    let compressed = compress(&body).unwrap();
    assert_eq!(compressed.capacity(), compressed.len());
}
