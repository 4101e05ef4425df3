//! What may not grow without an end, and how it is told.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use collector::config::Config;
use collector::decode::Catalog;
use collector::entry::{Encoding, Entry, Envelope};
use collector::policy::Bounds;
use collector::sequences::BOOTS;
use collector::snapshot;
use collector::state::State;
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message as _;
use telemetry::{Boot, Origin, Sequence, Series, Wall};
use tempfile::TempDir;

use crate::door::{Door, WAITING, batch, body_of, replies, series};

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

#[tokio::test]
async fn whoever_sends_a_new_series_beyond_the_bounds_is_told_which_and_by_which() {
    let door = Door::open(TempDir::new().unwrap()).await;
    door.adopt(|policy| policy.bounds = Bounds { agents: 2, series_per_agent: 3 }).await;
    let now = door.clock.wall();
    let send = async |agent: &str, targets: std::ops::Range<usize>| {
        let seen = targets.map(|target| (of_target(agent, target), replies(&[10]))).collect();
        let (status, answer) = door.post_unnamed(batch(seen, now, now)).await;
        door.mark().await;
        assert_eq!(status, StatusCode::OK);
        let told = ExportMetricsServiceResponse::decode(&*answer).unwrap().partial_success.unwrap_or_default();
        (told.rejected_data_points, told.error_message)
    };
    assert_eq!(send("fra-1", 0..3).await, (0, String::new()));
    assert_eq!(send("fra-2", 0..5).await, (0, String::new()), "nothing was beyond when it came");
    let why = "isochrone.probe.duration: [limits] series_per_agent = 3 keeps out target-3 voice/rtt ipv4";
    assert_eq!(send("fra-1", 0..5).await, (2, why.to_owned()));
    let why = "isochrone.probe.duration: [limits] agents = 2 keeps out target-0 voice/rtt ipv4";
    assert_eq!(send("fra-3", 0..1).await, (1, why.to_owned()));
    assert_eq!(door.snapshots.state().tally.beyond_points, 2 + 2 + 1, "what was told is what the fold did");
    door.adopt(|_| {}).await;
    assert_eq!(send("fra-3", 0..1).await, (0, String::new()), "there is room again");
}

#[tokio::test]
async fn an_agent_that_starts_again_and_again_is_refused_by_name_and_nothing_that_was_counted_is_counted_again() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let now = door.clock.wall();
    let of_boot = |boot: usize| {
        Request::post("/v1/metrics")
            .header("content-type", "application/x-protobuf")
            .header("isochrone-agent", "fra-1")
            .header("isochrone-boot", format!("00000000-0000-0000-0000-{boot:012}"))
            .header("isochrone-seq", "1")
            .body(Body::from(body_of("fra-1", now, now)))
            .unwrap()
    };
    for boot in 1..=BOOTS {
        assert_eq!(door.ask(of_boot(boot)).await.0, StatusCode::OK);
        if boot % WAITING.batches == 0 {
            door.mark().await;
        }
    }
    door.mark().await;
    let (status, headers, problem) = door.ask(of_boot(BOOTS + 1)).await;
    let problem: serde_json::Value = serde_json::from_slice(&problem).unwrap();
    assert_eq!((status, &problem["code"]), (StatusCode::TOO_MANY_REQUESTS, &"boots".into()), "{problem}");
    assert_eq!(headers["retry-after"], "60");
    let meters = door.text("/metrics").await;
    assert!(meters.contains("isochrone_ingest_refused_total{reason=\"boots\"} 1"), "{meters}");
    for boot in [1, BOOTS] {
        assert_eq!(door.ask(of_boot(boot)).await.0, StatusCode::OK, "what is known is acknowledged again");
    }
    assert_eq!(door.samples().await, 3 * BOOTS as u64);
}
