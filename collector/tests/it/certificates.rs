//! The end of a certificate, from an agent's batch to what the state says of it.

use std::sync::Arc;

use collector::decode::Catalog;
use collector::entry::{Encoding, Entry, Envelope};
use collector::snapshot;
use collector::state::State;
use telemetry::otlp::build::{AgentHealth, Certificate, Sender, Subject, encode};
use telemetry::{Series, UnixSeconds, Wall};

/// A batch that tells of a certificate of `iad-cdn`, seen then.
fn batch(not_after: i64, seen: Wall) -> Vec<u8> {
    let series = Series {
        target: "iad-cdn".parse().unwrap(),
        service: "cdn".parse().unwrap(),
        probe: "http".parse().unwrap(),
        phase: "transfer".parse().unwrap(),
        ..telemetry::sample::series()
    };
    let sender =
        Sender { agent: series.agent.clone(), source: series.source.clone(), zone: None, version: "0".to_owned() };
    let subject = Arc::new(Subject { series, address: "127.0.0.1".to_owned(), port: Some(443), transport: "tcp" });
    let certificates = vec![Certificate { subject, not_after: UnixSeconds(not_after), seen }];
    encode(&sender, &[], &AgentHealth { certificates, end: seen, ..AgentHealth::default() })
}

#[test]
fn the_end_of_a_certificate_is_kept_for_its_agent_target_and_probe_across_a_restart() {
    let (mut state, mut catalog, day) = (State::default(), Catalog::new(7), Wall::from_secs(1_764_000_000));
    let next_year: Wall = "2026-11-24T16:00:00Z".parse().unwrap();
    for (not_after, seen) in [(1_800_000_000, day), (1_900_000_000, next_year)] {
        let envelope = Envelope { origin: None, received: day, encoding: Encoding::Identity };
        let (batch, refused) = catalog.read(envelope, &batch(not_after, seen)).unwrap();
        assert_eq!((refused.points, batch.reports.len()), (0, 1), "{}", refused.why);
        state.apply(&Entry::Batch(batch));
    }
    let state = snapshot::decode(&snapshot::encode(&state).unwrap()).unwrap();
    let told: Vec<_> = state.certificates.iter().collect();
    let [(agent, target, probe, shown)] = told[..] else { panic!("{told:?}") };
    assert_eq!((agent.as_str(), target.as_str(), probe.as_str()), ("fra-1", "iad-cdn", "http"));
    assert_eq!((shown.not_after, shown.seen), (UnixSeconds(1_800_000_000), day), "one from next year hides no other");
}
