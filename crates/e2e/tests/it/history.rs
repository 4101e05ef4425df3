//! History over the real binaries: what the paths show is in it, whatever becomes of the collector.

use std::collections::BTreeMap;
use std::time::Duration;

use e2e::json::{items, items_of, number, text};
use e2e::{World, WorldOptions};
use serde_json::Value;

const REGIONS: usize = 3;
const SOON: Duration = Duration::from_secs(20);

/// Regular replies and losses by path, as the last minutes have them.
fn shown(world: &World) -> BTreeMap<String, (u64, u64)> {
    let paths = world.get("/api/v1/paths?window=15m").unwrap();
    let of = |path: &Value| {
        let samples = path["samples"].as_u64().unwrap();
        let lost = path["loss"].as_f64().map_or(0, |loss| (number(&path["samples"]) * loss).round() as u64);
        (text(&path["id"]), (samples - lost, lost))
    };
    items(&paths).map(of).collect()
}

/// The same, as history has them.
fn told(world: &World, path: &str, step: &str) -> (u64, u64) {
    let history = world.get(&format!("/api/v1/paths/{path}/history?step={step}")).unwrap();
    let sum = |name: &str| items_of(&history["points"]).map(|point| point[name].as_u64().unwrap()).sum();
    (sum("count"), sum("lost"))
}

fn differences(world: &World) -> Vec<String> {
    let mut differences = Vec::new();
    for (path, shown) in shown(world) {
        for step in ["10s", "1m", "1h"] {
            let told = told(world, &path, step);
            if told != shown {
                differences.push(format!("{path} in steps of {step}: {told:?}, and the path shows {shown:?}"));
            }
        }
    }
    differences
}

#[test]
fn history_is_what_the_paths_show_after_every_stop_and_every_kill() {
    let mut world = World::start(&WorldOptions { seed: 5, regions: REGIONS, ..WorldOptions::default() }).unwrap();
    let grown = |world: &mut World, replies: u64| {
        let all = |world: &World| shown(world).values().map(|(count, _)| count).sum::<u64>();
        world.wait("more replies", Duration::from_mins(1), |world| (all(world) >= replies).then_some(())).unwrap();
        all(world)
    };
    let mut replies = grown(&mut world, 500);
    for _ in 0..2 {
        world.kill_collector().unwrap();
        world.start_collector().unwrap();
        replies = grown(&mut world, replies + 200);
        // It stores what it holds when it ends in order; a kill after that finds a part stored and a part in the log alone.
        world.stop_collector().unwrap();
        world.start_collector().unwrap();
        replies = grown(&mut world, replies + 200);
    }
    world.kill_collector().unwrap();
    world.start_collector().unwrap();
    world.stop_agents().unwrap();
    let same = world.wait("the same totals", SOON, |world| differences(world).is_empty().then_some(()));
    assert!(same.is_ok(), "{:#?}", differences(&world));
    world.stop_collector().unwrap();
    world.start_collector().unwrap();
    assert_eq!(differences(&world), [""; 0], "and after the last part was stored");
    world.stop().unwrap();
}
