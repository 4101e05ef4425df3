//! More batches than can be taken: who is refused, what they are told, and what goes on meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::Response;
use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tonic::Code;
use tonic_types::StatusExt as _;
use tower::ServiceExt as _;

use crate::door::{Door, body_of, until};
use crate::otlp::Exporter;

/// How many may wait at the door of the tests.
const ROOM: usize = 20;

fn named(sequence: usize, body: impl Into<Body>) -> Request<Body> {
    Request::post("/v1/metrics")
        .header("content-type", "application/x-protobuf")
        .header("isochrone-agent", "fra-1")
        .header("isochrone-boot", "00000000-0000-0000-0000-000000000001")
        .header("isochrone-seq", sequence.to_string())
        .body(body.into())
        .unwrap()
}

fn refusal((status, headers, body): (StatusCode, HeaderMap, Vec<u8>)) -> (u16, String, Option<u32>) {
    let problem: Value = serde_json::from_slice(&body).unwrap();
    let after = headers.get("retry-after").map(|seconds| seconds.to_str().unwrap().parse().unwrap());
    (status.as_u16(), problem["code"].as_str().unwrap().to_owned(), after)
}

/// So many batches wait at a door where none is opened.
async fn fill(door: &Door, tasks: &mut JoinSet<Response>) {
    let now = door.clock.wall();
    for sequence in 1..=ROOM {
        let asked = door.router.clone().oneshot(named(sequence, body_of("fra-1", now, now)));
        tasks.spawn(async move { asked.await.unwrap() });
    }
    until("all wait", async || {
        let meters = door.text("/metrics").await;
        meters.contains(&format!("isochrone_ingest_waiting {ROOM}\n")).then_some(())
    })
    .await;
}

/// All on the one thread of this test: whoever did the work of a batch here would hold up the rest.
#[tokio::test]
async fn while_no_batch_is_opened_all_else_is_answered_and_what_has_no_room_is_told_when_to_come() {
    let mut door = Door::closed(TempDir::new().unwrap()).await;
    let mut waiting = JoinSet::new();
    fill(&door, &mut waiting).await;
    for path in ["/livez", "/readyz", "/api/v1/hints/fra/voice", "/api/v1/agents"] {
        let (status, ..) = door.ask(Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(status, StatusCode::OK, "{path}");
    }
    let late = body_of("fra-1", door.clock.wall(), door.clock.wall());
    let (status, code, after) = refusal(door.ask(named(ROOM + 1, late.clone())).await);
    assert_eq!((status, code.as_str()), (429, "overload"));
    assert!(after.is_some_and(|seconds| (1..=38).contains(&seconds)), "{after:?}");
    let meters = door.text("/metrics").await;
    assert!(meters.contains("isochrone_ingest_refused_total{reason=\"overload\"} 1"), "{meters}");

    door.unpack();
    while let Some(answer) = waiting.join_next().await {
        assert_eq!(answer.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(door.ask(named(ROOM + 1, late)).await.0, StatusCode::OK);
    assert_eq!(door.samples().await, 3 * (ROOM as u64 + 1));
}

#[tokio::test]
async fn over_grpc_the_time_to_come_again_is_told_as_otlps_clients_obey_it() {
    let mut door = Door::closed(TempDir::new().unwrap()).await;
    let mut waiting = JoinSet::new();
    fill(&door, &mut waiting).await;
    let exporter = Exporter::connect(&door).await;
    let now = door.clock.wall();
    let refused = exporter.export(None, &[], body_of("fra-2", now, now)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let after = refused.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!((1..=38).contains(&after.as_secs()), "{after:?}");

    door.unpack();
    while waiting.join_next().await.is_some() {}
    assert_eq!(exporter.export(None, &[], body_of("fra-2", now, now)).await.unwrap().0, 0);
    exporter.close().await;
}

#[tokio::test]
async fn whoever_is_refused_is_heard_out_first() {
    let mut door = Door::closed(TempDir::new().unwrap()).await;
    let mut waiting = JoinSet::new();
    fill(&door, &mut waiting).await;
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&heard);
    let chunks = stream::iter(0..50).map(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok::<_, std::io::Error>(Bytes::from_static(&[0; 1000]))
    });
    let (status, ..) = refusal(door.ask(named(ROOM + 1, Body::from_stream(chunks))).await);
    assert_eq!((status, heard.load(Ordering::Relaxed)), (429, 50));
    door.unpack();
    while waiting.join_next().await.is_some() {}
}

#[tokio::test(start_paused = true)]
async fn whoever_is_let_in_and_brings_nothing_loses_its_place() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let asked = door.ask(named(1, Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>())));
    let (status, code, _) = refusal(asked.await);
    assert_eq!((status, code.as_str()), (408, "body"));
    let meters = door.text("/metrics").await;
    assert!(meters.contains("isochrone_ingest_waiting 0\n"), "{meters}");
}
