//! The door: what ingest takes and refuses, and what the hints answer.

use std::io::Read as _;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use telemetry::{Label, Labels, Standing};
use tempfile::TempDir;

use crate::door::{Door, Events, batch, body, gzip, replies, series};

#[tokio::test]
async fn a_batch_is_counted_once_however_often_it_comes_and_whatever_restarts() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let batch = zstd::encode_all(body(door.clock).as_slice(), 3).unwrap();
    assert_eq!(door.post("1", Some("zstd"), batch.clone()).await.0, StatusCode::OK);
    assert_eq!(door.post("1", Some("zstd"), batch.clone()).await.0, StatusCode::OK);
    assert_eq!(door.samples().await, 3);
    let door = door.reopen().await;
    assert_eq!(door.post("1", Some("zstd"), batch.clone()).await.0, StatusCode::OK);
    assert_eq!(door.samples().await, 3);
    assert_eq!(door.post("2", Some("zstd"), batch).await.0, StatusCode::OK);
    assert_eq!(door.samples().await, 6);
}

#[tokio::test]
async fn what_is_not_a_batch_is_refused_for_its_own_reason_and_changes_nothing() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let good = body(door.clock);
    let bomb = zstd::encode_all(vec![0; 1_000_000].as_slice(), 3).unwrap();
    let cases = [
        ("1", None, b"garbage".to_vec(), 400, "malformed"),
        ("1", Some("zstd"), good.clone(), 400, "inflate"),
        ("1", Some("gzip"), good.clone(), 400, "inflate"),
        ("1", Some("br"), good.clone(), 415, "encoding"),
        ("1", Some("zstd"), bomb, 413, "inflated-size"),
        ("1", Some("gzip"), gzip(&vec![0; 1_000_000]), 413, "inflated-size"),
        ("0", None, good.clone(), 400, "header"),
        ("one", None, good.clone(), 400, "header"),
        ("1", None, Vec::new(), 400, "resource"),
    ];
    for (sequence, encoding, body, status, code) in cases {
        let (found, problem) = door.post(sequence, encoding, body).await;
        assert_eq!((found.as_u16(), problem["code"].as_str()), (status, Some(code)), "{problem}");
    }
    let (status, problem) = door.post("1", None, vec![0; 150_000]).await;
    assert_eq!((status, problem["code"].as_str()), (StatusCode::PAYLOAD_TOO_LARGE, Some("wire-size")));
    assert_eq!(door.samples().await, 0);
    assert_eq!(door.post("1", None, good).await.0, StatusCode::OK);
    let (status, problem) = door.post("1", None, body(door.clock)).await;
    assert_eq!((status, problem["code"].as_str()), (StatusCode::CONFLICT, Some("conflict")));
    assert_eq!(door.samples().await, 3);
}

#[tokio::test]
async fn a_path_is_one_and_shows_its_labels_apart() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let labelled = |cache: &[&str]| {
        let labels: Labels = cache.iter().map(|cache| (Label::Cache, cache.parse().unwrap())).collect();
        telemetry::Series { labels, ..series("fra-1") }
    };
    let now = door.clock.wall();
    let seen = [(labelled(&["hit"]), &[10, 11][..]), (labelled(&["miss"]), &[90]), (labelled(&[]), &[20])];
    let seen = seen.map(|(series, ms)| (series, replies(ms))).to_vec();
    assert_eq!(door.post("1", None, batch(seen, now, now)).await.0, StatusCode::OK);
    door.mark().await;
    let paths = door.json("/api/v1/paths?window=15m").await;
    let [path] = paths["items"].as_array().unwrap().as_slice() else { panic!("one path: {paths}") };
    assert_eq!((&path["id"], &path["samples"]), (&"14f948e2edaa77ec".into(), &4.into()));
    let variants = path["variants"].as_array().unwrap().iter();
    let told = variants.map(|it| (&it["labels"], it["samples"].as_u64(), it["p50_ms"].as_f64().map(f64::round)));
    let told: Vec<_> = told.collect();
    let expected = [
        (&json!({}), Some(1), Some(20.0)),
        (&json!({"cache": "hit"}), Some(2), Some(10.0)),
        (&json!({"cache": "miss"}), Some(1), Some(90.0)),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn what_is_confirming_or_suspect_is_shown_apart_and_in_no_figure() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let of = |standing| telemetry::Series { standing, ..series("fra-1") };
    let now = door.clock.wall();
    let seen = [(Standing::Regular, &[20][..]), (Standing::Confirming, &[500; 5]), (Standing::Suspect, &[900, 900])];
    let seen = seen.map(|(standing, ms)| (of(standing), replies(ms))).to_vec();
    assert_eq!(door.post("1", None, batch(seen, now, now)).await.0, StatusCode::OK);
    door.mark().await;
    let paths = door.json("/api/v1/paths?window=15m").await;
    let [path] = paths["items"].as_array().unwrap().as_slice() else { panic!("one path: {paths}") };
    let figures = ["samples", "confirms", "suspects"].map(|name| path[name].as_u64().unwrap());
    assert_eq!((figures, path["p99_ms"].as_f64().map(f64::round)), ([1, 5, 2], Some(20.0)));
    let variants = path["variants"].as_array().unwrap().iter();
    let told: Vec<_> = variants.map(|it| (it["standing"].as_str().unwrap(), it["samples"].as_u64().unwrap())).collect();
    assert_eq!(told, [("regular", 1), ("confirming", 5), ("suspect", 2)]);
}

#[tokio::test]
async fn a_path_of_which_nothing_counts_is_shown_all_the_same() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let now = door.clock.wall();
    let suspect = telemetry::Series { standing: Standing::Suspect, ..series("fra-1") };
    let seen = vec![(suspect, replies(&[20, 21]))];
    assert_eq!(door.post("1", None, batch(seen, now, now)).await.0, StatusCode::OK);
    door.mark().await;
    let paths = door.json("/api/v1/paths?window=15m").await;
    let [path] = paths["items"].as_array().unwrap().as_slice() else { panic!("one path: {paths}") };
    assert_eq!((&path["samples"], &path["suspects"], &path["p50_ms"]), (&json!(0), &json!(2), &Value::Null));
    assert_eq!(path["variants"][0]["samples"], 2);
}

#[tokio::test]
async fn a_voice_path_says_how_a_call_would_sound_and_others_do_not() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let icmp = telemetry::Series { probe: "icmp".parse().unwrap(), ..series("fra-1") };
    let (now, calm) = (door.clock.wall(), replies(&[100, 100, 100]));
    let seen = vec![(series("fra-1"), calm.clone()), (icmp, calm)];
    assert_eq!(door.post("1", None, batch(seen, now, now)).await.0, StatusCode::OK);
    door.mark().await;
    let paths = door.json("/api/v1/paths?window=15m").await;
    let paths = paths["items"].as_array().unwrap();
    let mos = |probe: &str| paths.iter().find(|path| path["probe"] == probe).unwrap()["mos"].as_f64();
    // By hand: d = 70 ms, R = 93.2 - 1.68 = 91.52.
    assert!((mos("voice").unwrap() - 4.374).abs() < 0.002, "{:?}", mos("voice"));
    assert_eq!(mos("icmp"), None);
}

#[tokio::test]
async fn a_hint_is_not_sent_again_while_its_meaning_stays() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let ask = |tag: Option<String>| {
        let request = Request::get("/api/v1/hints/fra/voice");
        let request = if let Some(tag) = tag { request.header("if-none-match", tag) } else { request };
        door.ask(request.body(Body::empty()).unwrap())
    };
    let (status, headers, hint) = ask(None).await;
    assert_eq!(status, StatusCode::OK);
    let hint: Value = serde_json::from_slice(&hint).unwrap();
    assert_eq!((hint["basis"].as_str(), hint["ranked"][0]["region"].as_str()), (Some("prior"), Some("fra")));
    let tag = headers["etag"].to_str().unwrap().to_owned();
    door.mark().await;
    let (status, _, body) = ask(Some(tag)).await;
    assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0));
    assert_eq!(ask(Some("\"other\"".to_owned())).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_long_poll_waits_for_another_version_and_no_longer_than_it_may() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let version = door.json("/api/v1/hints/fra/voice").await["version"].as_u64().unwrap();
    let same = door.json(&format!("/api/v1/hints/fra/voice?index={version}&wait=1ms")).await;
    assert_eq!(same["version"].as_u64(), Some(version));
    let other_epoch = door.json(&format!("/api/v1/hints/fra/voice?index={}&wait=5m", version + 100)).await;
    assert_eq!(other_epoch["version"].as_u64(), Some(version));
    let bad = door.json("/api/v1/hints/fra/voice?index=1&wait=1d").await;
    assert_eq!(bad["detail"], "wait: found \"1d\", allowed: from \"0s\" to \"5m\"");

    let poll = format!("/api/v1/hints/fra/voice?index={version}&wait=5m");
    let (changed, ()) = tokio::join!(door.json(&poll), door.drop_target("iad-voice-1"));
    assert!(changed["version"].as_u64() > Some(version), "{changed}");
}

#[tokio::test]
async fn the_stream_begins_with_a_snapshot_of_each_topic_and_goes_on_by_number() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let mut events = Events::follow(&door, "/api/v1/stream").await;
    for (number, topic) in [(1, "regions"), (2, "matrix"), (3, "hints"), (4, "alerts")] {
        let (name, document) = events.next().await;
        assert_eq!((name.as_str(), &document["number"]), (topic, &number.into()));
        assert_eq!(document["kind"], "snapshot");
    }
    door.mark().await;
    let (name, mark) = events.next().await;
    assert_eq!((name.as_str(), &mark["number"], mark["items"].as_array().unwrap().len()), ("mark", &5.into(), 0));

    assert_eq!(door.post("1", None, body(door.clock)).await.0, StatusCode::OK);
    door.mark().await;
    let (name, change) = events.next().await;
    let cell = &change["items"][0];
    assert_eq!((name.as_str(), &change["kind"], &change["number"]), ("matrix", &"change".into(), &6.into()));
    assert_eq!((&cell["source"], &cell["region"], &cell["samples"]), (&"fra".into(), &"iad".into(), &3.into()));
    assert_eq!(change["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_stream_says_which_topics_there_are() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let bad = door.json("/api/v1/stream?topics=regions,weather").await;
    assert_eq!(bad["detail"], "topics: found \"weather\", allowed: regions, matrix, hints, alerts");
    assert_eq!(door.json("/api/v1/stream?service=fax").await["code"], "service");
}

#[tokio::test]
async fn an_unknown_name_is_answered_with_the_known_ones() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let unknown = door.json("/api/v1/hints/nowhere/voice").await;
    assert_eq!(unknown["detail"], "\"nowhere\" is not known; known: fra, iad");
    let unknown = door.json("/api/v1/hints/fra/fax").await;
    assert_eq!(unknown["detail"], "\"fax\" is not known; known: voice");
    let unknown = door.json("/api/v1/matrix?service=fax").await;
    assert_eq!((unknown["status"].as_u64(), unknown["code"].as_str()), (Some(404), Some("service")));
    let bad = door.json("/api/v1/matrix?window=1y").await;
    assert_eq!(bad["code"], "query");
}

#[tokio::test]
async fn alerts_and_deliveries_are_lists_that_say_which_states_there_are() {
    let door = Door::open(TempDir::new().unwrap()).await;
    for path in ["/api/v1/alerts?state=firing", "/api/v1/deliveries?receiver=oncall&state=dead"] {
        assert_eq!(door.json(path).await["items"], Value::Array(Vec::new()), "{path}");
    }
    let bad = door.json("/api/v1/alerts?state=loud").await;
    assert_eq!(bad["detail"], "state: found \"loud\", allowed: pending, firing, resolved");
    let bad = door.json("/api/v1/deliveries?state=lost").await;
    assert_eq!(bad["detail"], "state: found \"lost\", allowed: waiting, delivered, dead");
}

/// With the page built or not: both must hold.
#[tokio::test]
async fn the_page_may_run_and_load_nothing_but_its_own_files() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let (status, headers, page) = door.ask(Request::get("/").body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::OK);
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'") && !policy.contains("unsafe"), "{policy}");
    let page = String::from_utf8(page).unwrap();
    assert!(page.contains("Isochrone") && !page.contains("https://"), "{page}");
    assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains("<script>"), "{page}");
}

#[tokio::test]
async fn what_the_page_is_made_of_is_kept_for_good_and_the_page_itself_is_asked_for_each_time() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let ask = async |path: &str, more: &[(&str, &str)]| {
        let request = more.iter().fold(Request::get(path), |request, (name, value)| request.header(*name, *value));
        door.ask(request.body(Body::empty()).unwrap()).await
    };
    let (_, headers, page) = ask("/", &[]).await;
    assert_eq!(headers["cache-control"], "no-cache");
    let page = String::from_utf8(page).unwrap();
    let assets: Vec<_> = page.split('"').filter(|text| text.starts_with("./assets/")).collect();
    if assets.is_empty() {
        assert!(page.contains("npm --prefix dashboards/web run build"), "a page that was not built says how: {page}");
        return;
    }
    let (status, _, body) = ask("/", &[("if-none-match", headers["etag"].to_str().unwrap())]).await;
    assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0));
    for asset in assets {
        let (status, headers, plain) = ask(&asset[1..], &[]).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(headers["cache-control"], "public, max-age=31536000, immutable");
        let (_, packed, body) = ask(&asset[1..], &[("accept-encoding", "br, gzip")]).await;
        assert_eq!((&packed["content-encoding"], &packed["vary"]), (&"gzip".parse().unwrap(), &headers["vary"]));
        assert_ne!(packed["etag"], headers["etag"]);
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(body.as_slice()).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, plain.as_slice());
    }
    assert_eq!(ask("/assets/none.js", &[]).await.0, StatusCode::NOT_FOUND);
}
