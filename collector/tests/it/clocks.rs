//! Clocks that are off, from an agent's batches to what is shown of it and of what it measured.

use std::time::Duration;

use axum::http::StatusCode;
use telemetry::Wall;
use tempfile::TempDir;

use crate::door::{Door, batch_made, body_of, replies, series};

const HOUR: Duration = Duration::from_hours(1);

/// What an agent whose clock stands at `end` sends.
fn at(end: Wall) -> Vec<u8> {
    body_of("fra-1", end - Duration::from_secs(1), end)
}

#[tokio::test]
async fn what_an_agent_measures_by_a_clock_an_hour_ahead_is_moved_to_now_and_told() {
    let door = Door::open(TempDir::new().unwrap()).await;
    assert_eq!(door.post("1", None, at(door.clock.wall() + HOUR)).await.0, StatusCode::OK);
    assert_eq!(door.samples().await, 3);
    let agent = &door.json("/api/v1/agents").await["items"][0];
    let offset_ms = agent["clock_offset_ms"].as_f64().unwrap();
    assert!((-3_600_000.0..-3_500_000.0).contains(&offset_ms), "{offset_ms}");
    assert_eq!(agent["clock"], "moved");
    let age_s = door.json("/api/v1/paths?window=15m").await["items"][0]["age_s"].as_f64().unwrap();
    assert!(age_s < 100.0, "{age_s}");
    assert_eq!(door.snapshots.state().tally.moved_points, 1);
    // Its clock is set right.
    assert_eq!(door.post("2", None, at(door.clock.wall())).await.0, StatusCode::OK);
    assert_eq!(door.samples().await, 6);
}

#[tokio::test]
async fn what_was_measured_before_a_clock_was_set_back_and_sent_after_is_counted_once_and_is_no_news() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let (now, end) = (door.clock.wall(), door.clock.wall() + HOUR);
    let batch = batch_made(now, vec![(series("fra-1"), replies(&[90, 91, 92]))], end - Duration::from_secs(1), end);
    assert_eq!(door.post("1", None, batch).await.0, StatusCode::OK);
    assert_eq!(door.samples().await, 3);
    let tally = door.snapshots.state().tally;
    assert_eq!((tally.moved_points, tally.early_points), (1, 0));
    door.mark().await;
    let path = &door.json("/api/v1/paths?window=15m").await["items"][0];
    assert!(path["age_s"].as_f64().unwrap() < 100.0, "{path}");
    assert_eq!(door.json("/api/v1/agents").await["items"][0]["clock"], "right");
}

#[tokio::test]
async fn what_comes_through_someone_else_and_is_an_hour_ahead_is_counted_as_early_and_not_taken() {
    let door = Door::open(TempDir::new().unwrap()).await;
    assert_eq!(door.post_unnamed(at(door.clock.wall() + HOUR)).await.0, StatusCode::OK);
    assert_eq!(door.samples().await, 0);
    assert_eq!(door.snapshots.state().tally.early_points, 1);
    assert!(door.json("/api/v1/agents").await["items"][0]["clock_offset_ms"].is_null(), "it may have waited anywhere");
}

#[tokio::test]
async fn a_clock_that_is_right_is_shown_so_and_its_points_stay_where_they_are() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let earlier = door.clock.wall() - Duration::from_millis(1500);
    assert_eq!(door.post("1", None, at(earlier)).await.0, StatusCode::OK);
    door.mark().await;
    let agent = &door.json("/api/v1/agents").await["items"][0];
    assert!(agent["clock_offset_ms"].as_f64().unwrap() >= 1500.0, "{agent}");
    assert_eq!(door.snapshots.state().tally.moved_points, 0);
}
