//! What was measured leaves for other tools, from a collector that runs and from the data of one that does not.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use collector::server;
use runtime::Shutdown;
use serde_json::Value;
use telemetry::{FailureKind, Label, Outcome, Series, Standing, Wall};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::door::{Door, batch, replies, series};

const WIDTH: Duration = Duration::from_secs(10);

fn cached() -> Series {
    Series { labels: [(Label::Cache, "hit".parse().unwrap())].into(), ..series("fra-1") }
}

/// Three windows, the last of them after a gap, some of it lost, and some confirming and by another label.
async fn measured(door: &Door) -> Wall {
    let first = (door.clock.wall() - Duration::from_mins(2)).slot(WIDTH);
    let mut partly = replies(&[40, 90]);
    partly.extend(replies(&[500, 500]).into_values().map(|lost| (Outcome::Failure(FailureKind::Timeout), lost)));
    let confirming = Series { standing: Standing::Confirming, ..series("fra-1") };
    let windows = [
        (series("fra-1"), replies(&[10, 20, 30]), 0),
        (series("fra-1"), partly, 1),
        (series("fra-1"), replies(&[1000]), 6),
        (confirming, replies(&[77]), 1),
        (cached(), replies(&[5]), 1),
    ];
    for (sequence, (of, seen, slot)) in windows.into_iter().enumerate() {
        let begin = first + WIDTH * slot;
        let body = batch(vec![(of, seen)], begin, begin + WIDTH);
        assert_eq!(door.post(&(sequence + 1).to_string(), None, body).await.0, StatusCode::OK);
    }
    door.mark().await;
    first
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The collector, by hand.
fn collector(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_isochrone-collector")).args(args).output().unwrap()
}

fn told(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn refused(output: &Output) -> String {
    assert!(!output.status.success() && output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn what_leaves_as_otlp_is_taken_by_another_collector_as_it_was() {
    let (door, other) = (Door::open(TempDir::new().unwrap()).await, Door::open(TempDir::new().unwrap()).await);
    let first = measured(&door).await;
    let text = door.text("/api/v1/export?format=otlp").await;
    // A line has one series.
    assert_eq!(lines(&text).len(), 3, "{text}");
    assert!(!text.contains("null"), "{text}");
    for line in text.lines() {
        let request = Request::post("/v1/metrics").header("content-type", "application/json");
        let (status, _, answer) = other.ask(request.body(Body::from(line.to_owned())).unwrap()).await;
        assert_eq!((status, String::from_utf8(answer).unwrap().as_str()), (StatusCode::OK, "{}"));
    }
    other.mark().await;
    let path = format!("/api/v1/paths/{}/history?from={first}", series("fra-1").path());
    let points = door.json(&path).await["points"].clone();
    assert_eq!(points.as_array().unwrap().iter().map(|it| it["count"].as_u64().unwrap()).sum::<u64>(), 7);
    assert_eq!(other.json(&path).await["points"], points);
}

#[tokio::test]
async fn a_range_and_a_tier_are_what_leaves_and_the_rest_does_not() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let first = measured(&door).await;
    let count = |text: &str| -> u64 {
        let points = |line: Value| {
            let points =
                &line["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]["exponentialHistogram"]["dataPoints"];
            points
                .as_array()
                .unwrap()
                .iter()
                .map(|it| it["count"].as_str().unwrap().parse::<u64>().unwrap())
                .sum::<u64>()
        };
        lines(text).into_iter().map(points).sum()
    };
    let all = door.text("/api/v1/export?format=otlp").await;
    assert_eq!(count(&all), 3 + 4 + 1 + 1 + 1);
    let (from, to) = (first + WIDTH, first + WIDTH * 2);
    assert_eq!(count(&door.text(&format!("/api/v1/export?format=otlp&from={from}&to={to}")).await), 4 + 1 + 1);
    let hour = first.slot(Duration::from_hours(1));
    assert_eq!(count(&door.text(&format!("/api/v1/export?format=otlp&from={hour}&tier=hour")).await), 10);
    for (query, status) in [
        ("", 400),
        ("?format=csv", 400),
        ("?format=otlp&tier=day", 400),
        ("?format=otlp&from=soon", 400),
        ("?format=otlp&from=1800000000&to=1700000000", 422),
    ] {
        let request = Request::get(format!("/api/v1/export{query}")).body(Body::empty()).unwrap();
        assert_eq!(door.ask(request).await.0.as_u16(), status, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_tells_the_same_of_a_collector_that_runs_and_of_one_that_was_stopped() {
    let mut door = Door::open(TempDir::new().unwrap()).await;
    let first = measured(&door).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (url, shutdown) = (format!("http://{}", listener.local_addr().unwrap()), Shutdown::new());
    let served = tokio::task::JoinSet::from_iter([server::serve(listener, door.router.clone(), shutdown.clone())]);
    let (from, dir) = (first.to_string(), door.dir.take().unwrap());
    let data = dir.path().to_str().unwrap();
    for format in ["otlp", "prometheus"] {
        let args = ["export", "--format", format, "--from", &from, "--collector", &url];
        let running = tokio::task::block_in_place(|| told(&collector(&args)));
        let while_it_runs = tokio::task::block_in_place(|| {
            refused(&collector(&["export", "--format", format, "--from", &from, "--data", data]))
        });
        assert!(while_it_runs.contains("a collector runs on"), "{while_it_runs}");
        fs::write(dir.path().join(format), running).unwrap();
    }
    let gone = tokio::task::block_in_place(|| {
        refused(&collector(&["export", "--format", "otlp", "--from", "2", "--to", "1", "--collector", &url]))
    });
    assert!(gone.contains("the range ends before it begins"), "{gone}");
    shutdown.cancel();
    served.join_all().await.into_iter().for_each(Result::unwrap);
    drop(door);
    for format in ["otlp", "prometheus"] {
        let stopped = told(&collector(&["export", "--format", format, "--from", &from, "--data", data]));
        assert!(stopped == fs::read_to_string(dir.path().join(format)).unwrap(), "{format}\n{stopped}");
    }
}

#[test]
fn what_cannot_be_exported_says_why_and_makes_nothing() {
    let dir = TempDir::new().unwrap();
    let nowhere = dir.path().join("nowhere");
    let said = refused(&collector(&["export", "--format", "otlp", "--data", nowhere.to_str().unwrap()]));
    assert!(said.contains("holds no data of a collector") && !nowhere.exists(), "{said}");
    let said = refused(&collector(&["export", "--format", "otlp", "--collector", "http://127.0.0.1:9"]));
    assert!(said.contains("ask the collector at http://127.0.0.1:9"), "{said}");
    for args in [
        &["export", "--format", "otlp"][..],
        &["export", "--format", "csv", "--data", "x"],
        &["export", "--format", "otlp", "--data", "x", "--collector", "http://127.0.0.1:9"],
    ] {
        assert_eq!(collector(args).status.code(), Some(64), "{args:?}");
    }
}

#[tokio::test]
async fn promtool_makes_blocks_of_it_that_hold_what_was_measured() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let first = measured(&door).await;
    let text = door.text("/api/v1/export?format=prometheus").await;
    let dir = TempDir::new().unwrap();
    let (file, blocks) = (dir.path().join("openmetrics"), dir.path().join("blocks"));
    fs::write(&file, &text).unwrap();
    promtool(&[Path::new("tsdb"), Path::new("create-blocks-from"), Path::new("openmetrics"), &file, &blocks]);
    // It looks for a write-ahead log, as a Prometheus would have one.
    fs::create_dir(blocks.join("wal")).unwrap();
    let dump = promtool(&[Path::new("tsdb"), Path::new("dump"), &blocks]);
    // Value and time in milliseconds, in their order.
    let points = |name: &str, labels: &[&str]| -> Vec<(f64, u64)> {
        let name = format!("\"{name}\"");
        let ours = dump.lines().filter(|line| line.contains(&name) && labels.iter().all(|label| line.contains(label)));
        let points = ours.map(|line| {
            let (value, time) = line.rsplit_once("} ").unwrap().1.split_once(' ').unwrap();
            (value.parse().unwrap(), time.parse().unwrap())
        });
        points.collect()
    };
    let at = |slot: u32| (first + WIDTH * slot).0 / 1_000_000;
    let regular = ["standing=\"regular\"", "agent=\"fra-1\"", "source=\"fra\"", "phase=\"rtt\""];
    let mine = |name: &str, more: &[&str]| {
        let all = points(name, &[&regular[..], more].concat());
        let hit: Vec<_> = points(name, &[&regular[..], more, &["cache=\"hit\""]].concat());
        all.into_iter().filter(|it| !hit.contains(it) || more.contains(&"cache=\"hit\"")).collect::<Vec<_>>()
    };
    let counts = mine("isochrone_probe_duration_seconds_count", &[]);
    let expected = [(0.0, at(0)), (3.0, at(1)), (5.0, at(2)), (5.0, at(6)), (6.0, at(7))];
    assert_eq!(counts, expected, "{dump}");
    let failures = mine("isochrone_probe_failures_total", &["error=\"timeout\""]);
    assert_eq!(failures.iter().map(|it| it.0 as u64).collect::<Vec<_>>(), [0, 0, 2, 2, 2]);
    let half = mine("isochrone_probe_duration_seconds_bucket", &["le=\"0.0441942\""]);
    assert_eq!(half.last().unwrap().0 as u64, 4, "10, 20, 30 and 40 ms");
    let (sum, _) = *mine("isochrone_probe_duration_seconds_sum", &[]).last().unwrap();
    assert!((sum / 1.19 - 1.0).abs() < 0.0025, "{sum}");
    assert!(text.ends_with("# EOF\n"));
}

fn promtool(args: &[&Path]) -> String {
    let output = Command::new("promtool").args(args).output();
    told(&output.expect("`cargo xtask test` installs Debian's prometheus, which brings promtool"))
}
