//! What may not grow without an end, and how it is told.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use collector::config::Config;
use collector::decode::Catalog;
use collector::entry::{Encoding, Entry, Envelope};
use collector::policy::Bounds;
use collector::snapshot;
use collector::state::State;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message as _;
use telemetry::{Boot, Origin, Sequence, Series, Wall};
use tempfile::TempDir;

use crate::door::{Door, batch, replies, series};

fn of_target(agent: &str, target: usize) -> Series {
    Series { target: format!("target-{target}").parse().unwrap(), ..series(agent) }
}

#[test]
fn a_new_series_beyond_its_agents_bound_is_counted_and_not_kept_and_a_restart_refuses_the_same() {
    let begin = Wall::from_secs(1_800_000_000);
    let mut policy = Config::load("../config/collector.toml".as_ref()).unwrap().policy;
    policy.bounds = Bounds { agents: 2, series_per_agent: 3 };
    let (mut state, mut catalog) = (State::default(), Catalog::new(7));
    state.apply(&Entry::Config { at: begin, policy: Arc::new(policy) });
    let mut sequence = 0;
    let mut send = |state: &mut State, agent: &str, targets: std::ops::Range<usize>| {
        sequence += 1;
        let origin = Origin { agent: agent.parse().unwrap(), boot: Boot(1), sequence: Sequence(sequence) };
        let received = begin + Duration::from_secs(sequence);
        let envelope = Envelope { origin: Some(origin), received, encoding: Encoding::Identity };
        let seen = targets.map(|target| (of_target(agent, target), replies(&[10]))).collect();
        let body = batch(seen, received - Duration::from_secs(1), received);
        state.apply(&Entry::Batch(catalog.read(envelope, &body).unwrap().0));
        (state.tally.points, state.tally.beyond_points)
    };
    assert_eq!(send(&mut state, "a", 0..5), (3, 2));
    assert_eq!(send(&mut state, "b", 0..1), (4, 2), "each agent has its own bound");
    state = snapshot::decode(&snapshot::encode(&state).unwrap()).unwrap();
    assert_eq!(send(&mut state, "a", 0..5), (7, 4), "what is known goes on");
    assert_eq!(send(&mut state, "c", 0..1), (7, 5), "a third agent is one too many");
    assert_eq!((state.rings.iter().count(), state.agents.iter().count()), (4, 2));
}

#[tokio::test]
async fn a_batch_of_more_points_than_allowed_is_refused_by_that_name() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let now = door.clock.wall();
    let send = |count: usize| {
        let seen = (0..count).map(|target| (of_target("fra-1", target), replies(&[10]))).collect();
        zstd::encode_all(batch(seen, now - Duration::from_secs(1), now).as_slice(), 3).unwrap()
    };
    let (status, problem) = door.post("1", Some("zstd"), send(501)).await;
    let told = (status, problem["code"].as_str(), problem["detail"].as_str());
    assert_eq!(told, (StatusCode::PAYLOAD_TOO_LARGE, Some("points"), Some("501 points, 500 are allowed in a batch")));
    assert_eq!(door.samples().await, 0);
    assert_eq!(door.post("2", Some("zstd"), send(500)).await.0, StatusCode::OK);
    assert_eq!(door.samples().await, 500);
}

#[test]
fn a_point_whose_attributes_are_too_long_is_named_and_the_other_999_are_taken() {
    let begin = Wall::from_secs(1_800_000_000);
    let seen = (0..1000).map(|target| (of_target("fra-1", target), replies(&[10]))).collect();
    let body = batch(seen, begin, begin + Duration::from_secs(1));
    let mut request = ExportMetricsServiceRequest::decode(body.as_slice()).unwrap();
    let metric = &mut request.resource_metrics[0].scope_metrics[0].metrics[0];
    let Some(Data::ExponentialHistogram(durations)) = &mut metric.data else { panic!("{}", metric.name) };
    let long = AnyValue { value: Some(any_value::Value::StringValue("x".repeat(10_000))) };
    durations.data_points[7].attributes.push(KeyValue {
        key: "note".to_owned(),
        value: Some(long),
        ..KeyValue::default()
    });
    let envelope = Envelope { origin: None, received: begin, encoding: Encoding::Identity };
    let (batch, refused) = Catalog::new(7).read(envelope, &request.encode_to_vec()).unwrap();
    assert_eq!((batch.points.len(), refused.points), (999, 1));
    assert!(
        refused.why.starts_with("isochrone.probe.duration: 10") && refused.why.ends_with("8192 are allowed"),
        "{}",
        refused.why
    );
}
