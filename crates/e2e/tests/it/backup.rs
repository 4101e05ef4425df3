//! Backups of the real collector: taken while agents push, broken off by kills, and gone on from.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use e2e::json::{items, items_of, number, text};
use e2e::{World, WorldOptions, until};
use tempfile::TempDir;

const REGIONS: usize = 3;
const KILLS: u64 = 6;
const SOON: Duration = Duration::from_secs(30);

/// Regular replies by path: as the last minutes have them, and as history has them.
fn shown(world: &World) -> BTreeMap<String, (u64, u64)> {
    let paths = world.get("/api/v1/paths?window=15m").unwrap();
    let of = |path: &serde_json::Value| {
        let samples = path["samples"].as_u64().unwrap();
        let lost = path["loss"].as_f64().map_or(0, |loss| (number(&path["samples"]) * loss).round() as u64);
        let history = world.get(&format!("/api/v1/paths/{}/history", text(&path["id"]))).unwrap();
        let past = items_of(&history["points"]).map(|point| point["count"].as_u64().unwrap()).sum();
        (text(&path["id"]), (samples - lost, past))
    };
    items(&paths).map(of).collect()
}

fn collector(args: &[&str]) -> Command {
    let mut command = Command::new(WorldOptions::default().programs.join("isochrone-collector"));
    command.args(args).stdin(Stdio::null());
    command
}

fn told(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn whole(shelf: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(shelf).into_iter().flatten().map(|entry| entry.unwrap().path());
    all.filter(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.')).collect()
}

#[test]
fn a_collector_goes_on_from_a_backup_that_was_taken_while_agents_push_and_kills_leave_none_that_is_not_whole() {
    let shelf = TempDir::new().unwrap();
    let backup = format!("\n[backup]\ndir = {:?}\nkeep = 100\n", shelf.path().to_str().unwrap());
    let options = WorldOptions { seed: 7, regions: REGIONS, collector: backup, ..WorldOptions::default() };
    let mut world = World::start(&options).unwrap();
    let replies = |world: &World| shown(world).values().map(|(live, _)| live).sum::<u64>();
    world.wait("replies", Duration::from_mins(1), |world| (replies(world) >= 300).then_some(())).unwrap();
    let url = world.url("/");
    let take = ["backup", "--collector", url.as_str()];
    for kill in 0..KILLS {
        let mut taking = collector(&take).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Later and later: before it is begun, while it is written, when it is there.
        let begun = |world: &World| {
            (kill == 0 || fs::read_dir(shelf.path()).unwrap().count() > 0).then(|| drop(world.get("/livez")))
        };
        world.wait("a backup that is begun", SOON, begun).unwrap();
        (0..kill * 3).for_each(|_| drop(world.get("/livez")));
        world.kill_collector().unwrap();
        taking.wait().unwrap();
        for backup in whole(shelf.path()) {
            let place = TempDir::new().unwrap();
            let data = place.path().join("data");
            told(
                &collector(&["restore", backup.to_str().unwrap(), "--data", data.to_str().unwrap()]).output().unwrap(),
            );
        }
        world.start_collector().unwrap();
    }
    world.wait("replies again", Duration::from_mins(1), |world| (replies(world) >= 600).then_some(())).unwrap();
    let before = shown(&world);
    let backup = told(&collector(&take).output().unwrap());
    let data = world.data_dir();
    let running = collector(&["backup", "--to", "x", "--data", data.to_str().unwrap()]).output().unwrap();
    assert!(String::from_utf8_lossy(&running.stderr).contains("a collector runs on"), "{running:?}");
    world.kill_collector().unwrap();
    fs::rename(&data, data.with_extension("lost")).unwrap();
    told(&collector(&["restore", &backup, "--data", data.to_str().unwrap()]).output().unwrap());
    world.start_collector().unwrap();
    let least = shown(&world);
    for (path, (live, _)) in &before {
        let (now, past) = least.get(path).copied().unwrap_or_default();
        assert!(now >= *live && past >= *live, "{path}: {live} before the backup, {now} and {past} in it");
    }
    world.wait("agents that go on", SOON, |world| (replies(world) > replies_of(&least) + 100).then_some(())).unwrap();
    world.stop_agents().unwrap();
    let same = until("history of what paths show", SOON, || {
        shown(&world).values().all(|(live, past)| live == past).then_some(())
    });
    assert!(same.is_ok(), "{:#?}", shown(&world));
    world.stop().unwrap();
}

fn replies_of(shown: &BTreeMap<String, (u64, u64)>) -> u64 {
    shown.values().map(|(live, _)| live).sum()
}
