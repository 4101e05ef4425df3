//! Clocks of real processes that are set an hour forward, and back.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use e2e::answers::{Path, path};
use e2e::json::{items, items_of, number, text, whole};
use e2e::witnessed::{DEADLINE, Witnessed, quick};
use e2e::{World, WorldOptions, http};
use serde_json::Value;
use telemetry::Wall;

const HOUR_S: i64 = 3600;
const HOURS: Duration = Duration::from_hours(3);
const FOLD: Duration = Duration::from_secs(20);
/// An offset is told with the way of a batch in it.
const NEAR_MS: f64 = 2000.0;

#[test]
fn clocks_that_are_set_an_hour_forward_and_back_lose_nothing_and_double_nothing() {
    let options = WorldOptions { regions: 3, seed: 41, agents: quick, clocks: true, ..WorldOptions::default() };
    let mut witnessed = Witnessed::start(options).unwrap();
    let mut leaps = 0;
    goes_on(&mut witnessed.world, "true clocks", 0.0, leaps);
    for (agents, collector) in [(true, false), (false, true), (true, true)] {
        for ahead in [HOUR_S, 0] {
            let clocks = witnessed.world.clocks().unwrap();
            if agents {
                clocks.agents.set(ahead).unwrap();
            }
            if collector {
                clocks.collector.set(ahead).unwrap();
                leaps += 1;
            }
            // Against all agents the collector's clock is the one that is not believed.
            let offset_ms = if agents && !collector { -1e3 * ahead as f64 } else { 0.0 };
            let what = format!("agents {agents}, collector {collector}, {ahead} s ahead");
            goes_on(&mut witnessed.world, &what, offset_ms, leaps);
        }
    }
    witnessed.catch_up().unwrap();
    witnessed.world.stop_agents().unwrap();
    let acknowledged: BTreeMap<_, _> = witnessed
        .relay
        .ledger(|ledger| ledger.counted().unwrap())
        .into_iter()
        .map(|(path, of)| {
            let of = |standing| of.get(standing).copied().unwrap_or_default();
            let (regular, confirming) = (of("regular"), of("confirming"));
            (path, [regular.replies, regular.failures, confirming.replies + confirming.failures])
        })
        .collect();
    let same =
        witnessed.world.wait("history has it all", FOLD, |world| (in_history(world) == acknowledged).then_some(()));
    let (shown, mut differ) = (in_history(&witnessed.world), acknowledged);
    differ.retain(|path, counts| shown.get(path) != Some(counts));
    assert!(same.is_ok(), "{differ:?} was acknowledged, and history has {shown:?}");
}

/// Replies, losses and confirming probes of each path, whenever they are said to have been: what was measured by a clock that is an hour ahead is not among
/// the last minutes when it is set back.
fn in_history(world: &World) -> BTreeMap<Path, [u64; 3]> {
    let now = Wall::from(SystemTime::now());
    let (from, to) = (now - HOURS, now + HOURS);
    let paths = world.get("/api/v1/paths").unwrap();
    let of = |shown: &Value| {
        let history = world.get(&format!("/api/v1/paths/{}/history?from={from}&to={to}", text(&shown["id"]))).unwrap();
        let sum = |name: &str| items_of(&history["points"]).map(|point| whole(&point[name])).sum();
        (path(shown), ["count", "lost", "confirms"].map(sum))
    };
    items(&paths).map(of).collect()
}

/// The clocks are seen to be set, and routers are told what is measured now.
fn goes_on(world: &mut World, what: &str, offset_ms: f64, leaps: u32) {
    let sources = world.planet.regions().unwrap();
    let leapt = format!("isochrone_fold_clock_leaps_total {leaps}");
    world
        .wait(what, DEADLINE, |world| {
            let agents = world.get("/api/v1/agents").ok()?;
            let seen = items(&agents).all(|agent| (number(&agent["clock_offset_ms"]) - offset_ms).abs() < NEAR_MS);
            let meters = http::get_text(&world.url("/metrics")).ok()?;
            let measured = |source: &String| {
                let hint = world.hint(source).ok();
                hint.is_some_and(|hint| hint["basis"] == "measured" && number(&hint["ranked"][0]["age_s"]) < 5.0)
            };
            let seen = seen && meters.lines().any(|line| line == leapt);
            (seen && sources.iter().all(measured)).then_some(())
        })
        .unwrap();
}
