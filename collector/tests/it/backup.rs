//! A copy of all that a collector has, taken while batches come in, and a collector that goes on from it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use collector::backup::{self, Manifest, RestoreError, restore};
use collector::hints::HintDocument;
use collector::stopped::Stopped;
use serde_json::Value;
use telemetry::Wall;
use tempfile::TempDir;

use crate::door::{Door, body_of, series};

const SECOND: Duration = Duration::from_secs(1);

async fn take(door: &Door) -> (StatusCode, Value) {
    let request = Request::post("/api/v1/backups").header("content-type", "application/json");
    let (status, _, body) = door.ask(request.body(Body::from("{}")).unwrap()).await;
    (status, serde_json::from_slice(&body).unwrap())
}

async fn send(door: &Door, sequence: u64) {
    let now = door.clock.wall();
    let (status, answer) = door.post(&sequence.to_string(), None, body_of("fra-1", now - SECOND, now)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}

/// Of one path: what its rings and its history have.
async fn counted(door: &Door) -> (u64, u64) {
    let history = door.json(&format!("/api/v1/paths/{}/history", series("fra-1").path())).await;
    let points = history["points"].as_array().unwrap_or_else(|| panic!("{history}"));
    (door.samples().await, points.iter().map(|point| point["count"].as_u64().unwrap()).sum())
}

fn dir_of(backup: &Value) -> PathBuf {
    PathBuf::from(backup["dir"].as_str().unwrap())
}

async fn open_restored(backup: &Path) -> Door {
    let dir = TempDir::new().unwrap();
    restore(backup, dir.path(), Wall::from_secs(1_900_000_000)).unwrap();
    Door::open(dir).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_before_a_backup_is_in_it_and_what_comes_again_is_counted_once() {
    let door = Door::open(TempDir::new().unwrap()).await;
    send(&door, 1).await;
    door.mark().await;
    let (acknowledged, is_over) = (AtomicU64::new(1), AtomicBool::default());
    let sending = async {
        while !is_over.load(Ordering::Relaxed) {
            let next = acknowledged.load(Ordering::Relaxed) + 1;
            send(&door, next).await;
            acknowledged.store(next, Ordering::Relaxed);
        }
    };
    let taking = async {
        let mut backups = Vec::new();
        for _ in 0..3 {
            let before = acknowledged.load(Ordering::Relaxed);
            let (status, backup) = take(&door).await;
            assert_eq!(status, StatusCode::CREATED, "{backup}");
            backups.push((backup, before, acknowledged.load(Ordering::Relaxed)));
        }
        is_over.store(true, Ordering::Relaxed);
        backups
    };
    let ((), backups) = tokio::join!(sending, taking);
    assert!(acknowledged.load(Ordering::Relaxed) > 3, "nothing came while backups were taken");
    let listed = door.json("/api/v1/backups").await;
    let listed: Vec<_> = listed["items"].as_array().unwrap().iter().map(|item| item["name"].clone()).collect();
    // Of three, two are to be kept.
    assert_eq!(listed, backups[1..].iter().map(|(backup, ..)| backup["name"].clone()).collect::<Vec<_>>());
    assert!(!dir_of(&backups[0].0).exists());
    let last = acknowledged.load(Ordering::Relaxed);
    for (backup, before, after) in &backups[1..] {
        let restored = open_restored(&dir_of(backup)).await;
        let (live, past) = counted(&restored).await;
        assert!((before * 3..=(after + 1) * 3).contains(&live) && live == past, "{before}–{after}: {live}, {past}");
        for sequence in 1..=last {
            send(&restored, sequence).await;
        }
        restored.mark().await;
        assert_eq!(counted(&restored).await, (last * 3, last * 3));
        let restored = restored.reopen().await;
        assert_eq!(counted(&restored).await, (last * 3, last * 3), "and after a restart");
    }
}

#[tokio::test]
async fn hints_are_those_of_the_position_in_an_epoch_of_their_own() {
    let mut door = Door::open(TempDir::new().unwrap()).await;
    for sequence in 1..=12 {
        send(&door, sequence).await;
    }
    door.mark().await;
    let backup = dir_of(&take(&door).await.1);
    let (dir, restored) = (door.dir.take().unwrap(), TempDir::new().unwrap());
    drop(door);
    restore(&backup, restored.path(), Wall::from_secs(1_900_000_000)).unwrap();
    let hints = |dir: &TempDir| -> Vec<HintDocument> {
        let board = Stopped::open(dir.path()).unwrap().concluded.board();
        board.values().map(|rendered| HintDocument::clone(&rendered.document)).collect()
    };
    let (before, after) = (hints(&dir), hints(&restored));
    assert!(!before.is_empty());
    for (before, after) in before.iter().zip(&after) {
        // Versions that the other log gave later must not be taken for those that this one will.
        assert_ne!(after.epoch, before.epoch);
        assert_eq!(HintDocument { epoch: before.epoch.clone(), ..after.clone() }, *before);
    }
    assert_eq!(before.len(), after.len());
}

#[tokio::test]
async fn a_backup_that_is_damaged_anywhere_is_refused_and_leaves_nothing() {
    let door = Door::open(TempDir::new().unwrap()).await;
    send(&door, 1).await;
    door.mark().await;
    let backup = dir_of(&take(&door).await.1);
    let manifest = Manifest::read(&backup).unwrap();
    let kinds: BTreeSet<_> = manifest.files.keys().map(|file| file.split('/').next().unwrap()).collect();
    assert_eq!(kinds, BTreeSet::from(["history", "log", "snapshots"]));
    let place = TempDir::new().unwrap();
    let data = place.path().join("data");
    let refused = || restore(&backup, &data, Wall::from_secs(1)).unwrap_err();
    for (file, sum) in &manifest.files {
        let path = backup.join(file);
        let good = fs::read(&path).unwrap();
        assert_eq!(good.len() as u64, sum.bytes);
        for place in [0, good.len() / 2, good.len().saturating_sub(1)] {
            let mut bad = good.clone();
            let Some(byte) = bad.get_mut(place) else { continue };
            *byte ^= 1;
            fs::write(&path, &bad).unwrap();
            let said = refused().to_string();
            assert!(said.contains(file), "byte {place} of {file}: {said}");
        }
        fs::write(&path, &good[..good.len() / 2]).unwrap();
        assert!(good.is_empty() || refused().to_string().contains(file));
        fs::remove_file(&path).unwrap();
        assert!(refused().to_string().contains(file));
        fs::write(&path, &good).unwrap();
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "nothing is left of what failed");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("something"), "of someone").unwrap();
    assert!(matches!(refused(), RestoreError::Occupied(_)));
    fs::remove_file(data.join("something")).unwrap();
    restore(&backup, &data, Wall::from_secs(1)).unwrap();
    assert!(matches!(refused(), RestoreError::Occupied(_)));
    let said = Stopped::open(&backup).unwrap_err().to_string();
    assert!(said.contains("is a backup"), "{said}");
}

#[tokio::test]
async fn what_was_begun_and_not_finished_is_no_backup_and_is_swept_away() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let shelf = door.dir.as_ref().unwrap().path().join("backups");
    fs::create_dir_all(shelf.join(".unfinished-2026-11-24T18-00-00-000Z/log")).unwrap();
    fs::create_dir_all(shelf.join("of-someone-else")).unwrap();
    assert!(backup::list(&shelf).unwrap().is_empty());
    let held = fs::File::create(shelf.join(".lock")).unwrap();
    held.lock().unwrap();
    assert_eq!(take(&door).await.0, StatusCode::CONFLICT, "of another collector");
    assert!(shelf.join(".unfinished-2026-11-24T18-00-00-000Z").exists(), "and what it is at stays");
    drop(held);
    for _ in 0..3 {
        assert_eq!(take(&door).await.0, StatusCode::CREATED);
    }
    let names: BTreeSet<_> = fs::read_dir(&shelf).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert!(
        names.len() == 4
            && names.contains(Path::new(".lock").as_os_str())
            && names.contains(Path::new("of-someone-else").as_os_str()),
        "{names:?}"
    );
}

#[tokio::test]
async fn nobody_may_ask_for_a_backup_but_in_json() {
    let door = Door::open(TempDir::new().unwrap()).await;
    for kind in ["text/plain", "application/x-www-form-urlencoded"] {
        let request = Request::post("/api/v1/backups").header("content-type", kind).body(Body::from("{}")).unwrap();
        assert_eq!(door.ask(request).await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    assert!(door.json("/api/v1/backups").await["items"].as_array().unwrap().is_empty());
}
