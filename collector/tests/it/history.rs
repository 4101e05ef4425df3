//! A year of every path, asked through the door.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::Value;
use telemetry::{FailureKind, Outcome, Series, Standing, Wall};
use tempfile::TempDir;

use crate::door::{Door, batch, replies, series};

const SECOND: Duration = Duration::from_secs(1);

/// Of all points: replies, losses, confirming probes.
fn totals(history: &Value) -> (u64, u64, u64) {
    let of = |name: &str| {
        let points = history["points"].as_array().unwrap_or_else(|| panic!("no history: {history}"));
        points.iter().map(|point| point[name].as_u64().unwrap()).sum()
    };
    (of("count"), of("lost"), of("confirms"))
}

fn history_of(series: &Series, query: &str) -> String {
    format!("/api/v1/paths/{}/history{query}", series.path())
}

async fn send(door: &Door, sequence: u64, standing: Standing, begin: Wall) {
    let of = Series { standing, ..series("fra-1") };
    let mut seen = replies(&[90, 91, 92]);
    seen.extend(replies(&[500]).into_values().map(|waits| (Outcome::Failure(FailureKind::Timeout), waits)));
    let (status, answer) = door.post(&sequence.to_string(), None, batch(vec![(of, seen)], begin, begin + SECOND)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}

#[tokio::test]
async fn what_was_taken_is_in_history_at_once_and_once_also_after_restarts() {
    let mut door = Door::open(TempDir::new().unwrap()).await;
    let (now, path) = (door.clock.wall() - SECOND, history_of(&series("fra-1"), ""));
    for round in 0..3 {
        send(&door, 3 * round + 1, Standing::Regular, now).await;
        send(&door, 3 * round + 2, Standing::Confirming, now).await;
        send(&door, 3 * round + 3, Standing::Suspect, now).await;
        send(&door, 1, Standing::Regular, now).await;
        door.mark().await;
        let expected = (3 * (round + 1), round + 1, 4 * (round + 1));
        assert_eq!(totals(&door.json(&path).await), expected, "before restart {round}");
        door = door.reopen().await;
        assert_eq!(totals(&door.json(&path).await), expected, "after restart {round}");
    }
    let history = door.json(&path).await;
    let point = &history["points"][0];
    assert_eq!((history["step_s"].as_f64(), history["tier"].as_str()), (Some(10.0), Some("raw")));
    let near = |name: &str, ms: f64| (point[name].as_f64().unwrap() / ms - 1.0).abs() < 0.0025;
    assert!(near("p50_ms", 91.0) && near("max_ms", 92.0), "{point}");
}

#[tokio::test]
async fn a_backlog_that_is_too_late_to_be_judged_is_in_history_and_nothing_else() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let now = door.clock.wall() - SECOND;
    send(&door, 1, Standing::Regular, now).await;
    send(&door, 2, Standing::Regular, now - Duration::from_hours(20)).await;
    // Nobody's spool is so old.
    send(&door, 3, Standing::Regular, now - Duration::from_hours(60)).await;
    assert_eq!(door.samples().await, 4);
    let day =
        history_of(&series("fra-1"), &format!("?from={}&step=1h", (now - Duration::from_hours(40)).0 / 1_000_000_000));
    let history = door.json(&day).await;
    assert_eq!(totals(&history), (6, 2, 0), "{history}");
    assert_eq!((history["tier"].as_str(), history["points"].as_array().unwrap().len()), (Some("hour"), 2));
}

#[tokio::test]
async fn what_comes_without_a_name_and_late_is_in_no_history() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let now = door.clock.wall() - SECOND;
    for begin in [now, now - Duration::from_hours(1)] {
        let body = batch(vec![(series("fra-1"), replies(&[90]))], begin, begin + SECOND);
        assert_eq!(door.post_unnamed(body.clone()).await.0, StatusCode::OK);
        assert_eq!(door.post_unnamed(body).await.0, StatusCode::OK);
    }
    door.mark().await;
    let hours = format!("?from={}&step=1h", (now - Duration::from_hours(3)).0 / 1_000_000_000);
    assert_eq!(totals(&door.json(&history_of(&series("fra-1"), &hours)).await), (1, 0, 0));
}

#[tokio::test]
async fn a_heatmap_counts_every_reply_once() {
    let door = Door::open(TempDir::new().unwrap()).await;
    send(&door, 1, Standing::Regular, door.clock.wall() - SECOND).await;
    door.mark().await;
    let heatmap = door.json(&format!("/api/v1/paths/{}/heatmap?step=1m", series("fra-1").path())).await;
    let [column] = heatmap["columns"].as_array().unwrap().as_slice() else { panic!("{heatmap}") };
    let counts: Vec<_> = column["counts"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).collect();
    let bounds: Vec<_> = heatmap["bounds_ms"].as_array().unwrap().iter().map(|bound| bound.as_f64().unwrap()).collect();
    assert_eq!((counts.iter().sum::<u64>(), counts.len() + 1), (3, bounds.len()));
    assert!(bounds[0] < 90.2 && bounds.last().is_some_and(|last| *last > 91.8), "{bounds:?}");
}

#[tokio::test]
async fn the_matrix_of_a_past_minute_has_its_figures_and_no_states() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let then = (door.clock.wall() - Duration::from_hours(5)).slot(Duration::from_mins(1));
    send(&door, 1, Standing::Regular, then).await;
    send(&door, 2, Standing::Suspect, then).await;
    send(&door, 3, Standing::Regular, door.clock.wall() - SECOND).await;
    door.mark().await;
    let of = async |at: Wall, window: &str| {
        let matrix = door.json(&format!("/api/v1/matrix?service=voice&window={window}&at={at}")).await;
        let place =
            |names: &str, name: &str| matrix[names].as_array().unwrap().iter().position(|it| it == name).unwrap();
        let cell = place("sources", "fra") * matrix["regions"].as_array().unwrap().len() + place("regions", "iad");
        assert_eq!(matrix["state"][cell], "unknown");
        (matrix["samples"][cell].as_u64().unwrap(), matrix["loss"][cell].as_f64())
    };
    assert_eq!(of(then + Duration::from_secs(59), "1m").await, (4, Some(0.25)));
    assert_eq!(of(then + Duration::from_mins(1), "30s").await, (0, None));
    assert_eq!(of(then + Duration::from_mins(2), "5m").await, (4, Some(0.25)));
}

#[tokio::test]
async fn a_question_of_too_many_windows_is_refused_and_a_coarser_one_answered() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let now = door.clock.wall() - SECOND;
    for agent in 0..60 {
        let body = batch(vec![(series(&format!("fra-{agent}")), replies(&[90]))], now, now + SECOND);
        assert_eq!(door.post_unnamed(body).await.0, StatusCode::OK);
    }
    door.mark().await;
    let from = (now - Duration::from_hours(47)).0 / 1_000_000_000;
    for view in ["history", "heatmap"] {
        let path = format!("/api/v1/paths/{}/{view}?from={from}", series("fra-1").path());
        let (status, headers, body) =
            door.ask(Request::get(format!("{path}&step=50s")).body(Body::empty()).unwrap()).await;
        let problem: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status.as_u16(), problem["code"].as_str()), (422, Some("range")), "{problem}");
        assert_eq!(headers["content-type"], "application/problem+json");
        assert!(problem["detail"].as_str().unwrap().contains("windows of 60 series"), "{problem}");
        assert_eq!(door.json(&format!("{path}&step=1m")).await["tier"], "minute");
    }
}

#[tokio::test]
async fn the_longest_reply_shows_whatever_the_step() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let now = door.clock.wall() - SECOND;
    for (sequence, back) in [30, 20, 10].into_iter().enumerate() {
        let seen = replies(&if sequence == 1 { vec![20, 987, 21] } else { vec![20; 500] });
        let begin = now - SECOND * back;
        let body = batch(vec![(series("fra-1"), seen)], begin, begin + SECOND);
        assert_eq!(door.post(&(sequence + 1).to_string(), None, body).await.0, StatusCode::OK);
    }
    door.mark().await;
    for step in ["10s", "1m", "1h", "24h"] {
        let history = door.json(&history_of(&series("fra-1"), &format!("?step={step}"))).await;
        let longest = history["points"].as_array().unwrap().iter().map(|point| point["max_ms"].as_f64().unwrap());
        let longest = longest.fold(0.0, f64::max);
        assert!((longest / 987.0 - 1.0).abs() < 0.0017, "{longest} ms in steps of {step}");
    }
}

#[tokio::test]
async fn what_cannot_be_asked_is_told() {
    let door = Door::open(TempDir::new().unwrap()).await;
    send(&door, 1, Standing::Regular, door.clock.wall() - SECOND).await;
    door.mark().await;
    let asked = [
        ("?step=7s", 422, "range"),
        ("?from=2026-01-01T00:00:00Z&to=2025-01-01T00:00:00Z", 422, "range"),
        ("?from=1700000000&to=1790000000&step=1h", 422, "range"),
        ("?step=often", 400, "query"),
        ("?from=yesterday", 400, "query"),
    ];
    for (query, status, code) in asked {
        let request = Request::get(history_of(&series("fra-1"), query)).body(Body::empty()).unwrap();
        let (told, _, body) = door.ask(request).await;
        let problem: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((told.as_u16(), problem["code"].as_str()), (status, Some(code)), "{query}: {problem}");
    }
    let never = Series { target: "iad-voice-9".parse().unwrap(), ..series("fra-1") };
    assert_eq!(door.json(&history_of(&never, "")).await["code"], "path");
    assert_eq!(door.json("/api/v1/paths/nonsense/history").await["status"], 404);
}

#[test]
fn killed_while_it_stores_rolls_up_and_drops_history_is_the_log() {
    let this = std::env::current_exe().unwrap();
    let program = this.ancestors().nth(2).unwrap_or(Path::new("")).join("examples/killed_history");
    let told = Command::new(&program).args(["kill", "--kills", "20"]).output();
    let told = told.unwrap_or_else(|error| panic!("{}: {error}: build the examples too", program.display()));
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
}
