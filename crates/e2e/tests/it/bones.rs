//! A probe becomes a hint: the whole path, on the real binaries and real packets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use collector::entry::Entry;
use collector::log::Log;
use collector::state::{Effect, State};
use e2e::{World, WorldOptions, http};
use serde_json::Value;
use telemetry::histogram::Scratch;
use telemetry::otlp::build::{AgentHealth, Measured, Sender, Subject, encode};
use telemetry::{Family, Outcome, Series, Wall, Window};

/// From when on the numbers are compared with the truth.
const MEASURE: Duration = Duration::from_mins(1);

#[test]
fn every_p50_and_every_ranking_is_the_truth_and_the_log_says_the_same_again_seed_1() {
    measures_the_truth(1);
}

#[test]
fn every_p50_and_every_ranking_is_the_truth_and_the_log_says_the_same_again_seed_2() {
    measures_the_truth(2);
}

fn measures_the_truth(seed: u64) {
    let mut world = World::start(&WorldOptions { seed, ..WorldOptions::default() }).unwrap();
    let begin = Instant::now();
    world
        .wait("measured hints in every source", Duration::from_mins(1), |world| {
            let hints = world.get("/api/v1/hints").ok()?;
            let hints = hints["items"].as_array()?;
            (hints.len() == 8 && hints.iter().all(|hint| hint["basis"] == "measured")).then_some(())
        })
        .unwrap();
    world.wait("a minute of measurements", MEASURE * 2, |_| (begin.elapsed() >= MEASURE).then_some(())).unwrap();
    let truth = world.planet.truth().unwrap();
    let paths = world.get("/api/v1/paths?service=voice&window=5m").unwrap();
    let hints = world.get("/api/v1/hints").unwrap();

    let body = |source: &String| http::get_text(&world.url(&format!("/api/v1/hints/{source}/voice"))).unwrap();
    let sources = items(&hints).map(|hint| text(&hint["source"]));
    let served: BTreeMap<_, _> = sources.map(|source| (source.clone(), body(&source))).collect();
    every_p50_is_true(&truth, &paths);
    every_ranking_is_true(&truth, &hints);
    world.kill_collector().unwrap();
    the_log_says_the_same_again(&world, served);
}

fn every_p50_is_true(truth: &Value, paths: &Value) {
    let measured: BTreeMap<_, _> = items(paths)
        .filter(|path| path["probe"] == "voice" && path["phase"] == "rtt")
        .map(|path| ((text(&path["source"]), text(&path["target"])), path["p50_ms"].as_f64().unwrap()))
        .collect();
    let true_paths = truth["paths"].as_array().unwrap();
    assert_eq!(measured.len(), true_paths.len(), "every path is measured");
    for path in true_paths {
        let key = (text(&path["source"]), text(&path["target"]));
        let (p50, exact) = (measured[&key], path["rtt_ms"]["p50"].as_f64().unwrap());
        assert!((p50 - exact).abs() <= 0.01 * exact + 0.3, "{key:?}: measured {p50} ms, truth {exact} ms");
    }
}

/// In true cost no region stands behind one that is dearer by more than a tie.
fn every_ranking_is_true(truth: &Value, hints: &Value) {
    let mut costs: BTreeMap<(String, String), f64> = BTreeMap::new();
    for path in truth["paths"].as_array().unwrap() {
        let number = |value: &Value| value.as_f64().unwrap();
        let cost = number(&path["rtt_ms"]["p75"]) + 2.0 * number(&path["jitter_ms"]) + 2000.0 * number(&path["loss"]);
        costs.insert((text(&path["source"]), text(&path["region"])), cost);
    }
    for hint in items(hints) {
        let source = text(&hint["source"]);
        let ranked: Vec<_> = items_of(&hint["ranked"]).map(|ranked| text(&ranked["region"])).collect();
        let all: BTreeSet<_> =
            costs.keys().filter(|(from, _)| *from == source).map(|(_, region)| region.clone()).collect();
        assert_eq!(ranked.iter().cloned().collect::<BTreeSet<_>>(), all, "{source} ranks every region");
        let cost = |region: &String| costs[&(source.clone(), region.clone())];
        for (index, behind) in ranked.iter().enumerate() {
            let dearer = ranked[..index].iter().find(|before| cost(before) > cost(behind) + 5.0);
            assert_eq!(dearer, None, "{source} ranks it before {behind}: {hint}");
        }
    }
}

/// Every hint that was served, by its source, is concluded again from the log, byte for byte.
fn the_log_says_the_same_again(world: &World, mut served: BTreeMap<String, String>) {
    let mut state = State::default();
    let log = Log::open(&world.data_dir()).unwrap();
    log.replay(log.first(), |entry: Entry| {
        for effect in state.apply(&entry) {
            let Effect::Hint(hint) = effect else { continue };
            let again = serde_json::to_string(&*hint).unwrap();
            served.retain(|_, before| *before != again);
        }
    })
    .unwrap();
    assert_eq!(served, BTreeMap::new(), "these were served and not concluded again");
}

#[test]
fn a_hint_leaves_a_region_that_dies_and_does_not_flap_when_it_heals() {
    let mut world = World::start(&WorldOptions { seed: 3, ..WorldOptions::default() }).unwrap();
    let (source, top) = world
        .wait("a measured hint", Duration::from_mins(1), |world| {
            let hints = world.get("/api/v1/hints").ok()?;
            let measured = items(&hints)
                .find(|hint| hint["basis"] == "measured" && hint["ranked"].as_array().unwrap().len() > 2)?;
            Some((text(&measured["source"]), text(&measured["ranked"][0]["region"])))
        })
        .unwrap();

    let first = |world: &World| text(&world.hint(&source).unwrap()["ranked"][0]["region"]);
    let fault = world.planet.service_down(&top).unwrap();
    let next = world
        .wait("another first place", Duration::from_secs(6), |world| Some(first(world)).filter(|next| *next != top))
        .unwrap();
    let hint = world.hint(&source).unwrap();
    let reason = text(&hint["ranked"][0]["reason"]);
    assert!(reason.contains(&format!("{top} was left at once")), "{reason}");

    world.planet.heal(&fault).unwrap();
    world
        .wait("the region is healthy again", Duration::from_secs(90), |world| {
            let regions = world.get("/api/v1/regions").ok()?;
            items(&regions).find(|region| region["region"] == *top)?["health"]
                .as_str()
                .filter(|it| *it == "healthy")
                .map(drop)
        })
        .unwrap();
    let healed = Instant::now();
    world
        .wait("no change for four windows", Duration::from_mins(1), |world| {
            assert_eq!(first(world), next, "the hint flapped");
            (healed.elapsed() > Duration::from_secs(40)).then_some(())
        })
        .unwrap();
    world.stop().unwrap();
}

#[test]
fn nothing_is_lost_or_counted_twice_when_the_collector_is_killed() {
    let mut world = World::start(&WorldOptions { seed: 4, ..WorldOptions::default() }).unwrap();
    let version = |world: &World| world.hint("fra").ok()?["version"].as_u64();
    world
        .wait("a few windows", Duration::from_mins(1), |world| {
            let answers = items(&world.planet.counts().ok()?).map(|row| row["count"].as_u64().unwrap()).sum::<u64>();
            let agents = world.get("/api/v1/agents").ok()?;
            (items(&agents).count() == 8 && answers > 2000).then_some(())
        })
        .unwrap();

    let (headers, body) = batch();
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let send = |world: &World| http::post_bytes(&world.url("/v1/metrics"), &headers, &body).unwrap();
    assert_eq!(send(&world), 200);
    let before = version(&world).unwrap();
    world.kill_collector().unwrap();
    world.start_collector().unwrap();
    assert_eq!(send(&world), 200, "a batch that came before is acknowledged again");
    let after = world.wait("a hint after the restart", Duration::from_secs(10), version).unwrap();
    assert!(after >= before, "the hint's version went from {before} back to {after}");

    world.kill_collector().unwrap();
    world.start_collector().unwrap();
    world.stop_agents().unwrap();
    let once = world
        .wait("the batch on its path", Duration::from_secs(10), |world| {
            let paths = world.get("/api/v1/paths?source=lab&window=15m").ok()?;
            items(&paths).next()?["samples"].as_u64()
        })
        .unwrap();
    assert_eq!(once, 3, "three replies, sent twice, counted once");
    counted_as_answered(&world);
}

/// What the endpoints answered is what the collector counts as replies, path by path.
fn counted_as_answered(world: &World) {
    let answered: BTreeMap<(String, String), u64> = items(&world.planet.counts().unwrap())
        // The planet asks itself once before it says that it is ready.
        .filter(|row| row["probe"] == "voice" && row["source"] != "unknown")
        .fold(BTreeMap::new(), |mut sum, row| {
            *sum.entry((text(&row["source"]), text(&row["target"]))).or_default() += row["count"].as_u64().unwrap();
            sum
        });
    let paths = world.get("/api/v1/paths?service=voice&window=15m").unwrap();
    let mut counted: BTreeMap<(String, String), u64> = BTreeMap::new();
    for path in items(&paths).filter(|path| path["probe"] == "voice" && path["source"] != "lab") {
        let (samples, loss) = (path["samples"].as_f64().unwrap(), path["loss"].as_f64().unwrap_or(0.0));
        let replies = (samples * (1.0 - loss)).round() as u64;
        *counted.entry((text(&path["source"]), text(&path["target"]))).or_default() += replies;
    }
    assert!(answered.values().sum::<u64>() > 1000, "too little happened to prove anything");
    assert_eq!(counted, answered);
}

fn batch() -> (Vec<(&'static str, String)>, Vec<u8>) {
    let (agent, source): (telemetry::AgentId, _) = ("lab-1".parse().unwrap(), "lab".parse().unwrap());
    let series = Series {
        agent: agent.clone(),
        source,
        target: "lab-target".parse().unwrap(),
        region: "fra".parse().unwrap(),
        service: "lab".parse().unwrap(),
        probe: "icmp".parse().unwrap(),
        phase: "rtt".parse().unwrap(),
        family: Family::Ipv4,
        confirm: false,
        labels: telemetry::Labels::new(),
    };
    let now: Wall = std::time::SystemTime::now().into();
    let replies = Scratch::default().fold([10, 20, 30].map(Duration::from_millis));
    let window = Window { begin: now - Duration::from_secs(1), end: now, outcomes: [(Outcome::Reply, replies)].into() };
    let sender = Sender { agent, source: series.source.clone(), zone: None, version: "0".to_owned() };
    let subject = Arc::new(Subject { series, address: "127.0.0.1".to_owned(), port: None, transport: "icmp" });
    let health = AgentHealth { begin: now, end: now, ..AgentHealth::default() };
    let body = encode(&sender, &[Measured { subject, window }], &health);
    let headers = vec![
        ("content-type", "application/x-protobuf".to_owned()),
        ("isochrone-agent", "lab-1".to_owned()),
        ("isochrone-boot", "00000000-0000-0000-0000-000000000001".to_owned()),
        ("isochrone-seq", "1".to_owned()),
    ];
    (headers, body)
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    items_of(&list["items"])
}

fn items_of(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().unwrap_or_else(|| panic!("not a list: {list}")).iter()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not text: {value}")).to_owned()
}
