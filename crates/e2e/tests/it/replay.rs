//! What the real collector concluded of a fault is what a replay concludes of its data.

use std::process::Command;
use std::time::Duration;

use e2e::json::{items, text};
use e2e::{World, WorldOptions};
use serde_json::Value;

const REGIONS: usize = 4;
const SOON: Duration = Duration::from_mins(1);

/// The newest alert about a region, in that state.
fn alert(world: &World, region: &str, state: &str) -> Option<Value> {
    let alerts = world.get(&format!("/api/v1/alerts?state={state}")).ok()?;
    items(&alerts).find(|alert| alert["labels"]["region"] == region).cloned()
}

#[test]
fn a_replay_tells_of_a_dead_service_when_the_collector_did_and_always_the_same() {
    let mut world = World::start(&WorldOptions { seed: 9, regions: REGIONS, ..WorldOptions::default() }).unwrap();
    let region = world.planet.regions().unwrap().into_iter().next().unwrap();
    let measured = |world: &World| {
        let hints = world.get("/api/v1/hints?service=voice").ok()?;
        items(&hints).all(|hint| hint["basis"] == "measured").then_some(())
    };
    world.wait("measured hints", SOON, measured).unwrap();
    let fault = world.planet.service_down(&region).unwrap();
    let fired = world.wait("an alert", SOON, |world| alert(world, &region, "firing")).unwrap();
    world.planet.heal(&fault).unwrap();
    world.wait("its end", SOON * 2, |world| alert(world, &region, "resolved")).unwrap();
    let data = world.data_dir();
    world.stop_agents().unwrap();
    world.stop_collector().unwrap();

    let replay = || {
        let mut command = Command::new(WorldOptions::default().programs.join("isochrone-collector"));
        let output = command.args(["replay", "--json", "--data"]).arg(&data).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let told = replay();
    assert!(told == replay(), "the same data gave something else");
    let of_region = |line: &Value, kind: &str| {
        line["kind"] == kind && line["region"] == region.as_str() && line["service"] == "voice"
    };
    let lines: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let health = lines.iter().filter(|line| of_region(line, "region"));
    let since: Vec<_> = health.filter(|line| line["health"] != "healthy").map(|line| text(&line["at"])).collect();
    assert!(since.contains(&text(&fired["since"])), "{fired} is not among {since:?}");
    let alerts = lines.iter().filter(|line| of_region(line, "alert")).map(|line| text(&line["state"]));
    let alerts: Vec<_> = alerts.collect();
    assert!(
        alerts.first().is_some_and(|state| state == "firing") && alerts.last().is_some_and(|state| state == "resolved"),
        "{alerts:?}"
    );
    world.stop().unwrap();
}
