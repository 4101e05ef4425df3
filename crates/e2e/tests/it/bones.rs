//! A probe becomes a hint: the whole path, on the real binaries and real packets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use collector::entry::Entry;
use collector::log::Log;
use collector::state::{Effect, State};
use e2e::answers::{PRIMARIES, differences, is_of};
use e2e::json::{items, items_of, number, text};
use e2e::{World, WorldOptions, http};
use serde_json::Value;
use telemetry::histogram::Scratch;
use telemetry::otlp::build::{AgentHealth, Measured, Sender, Subject, encode};
use telemetry::{Outcome, Series, Wall, Window};

/// From when on the numbers are compared with the truth.
const MEASURE: Duration = Duration::from_mins(1);
const REGIONS: usize = 8;
const SERVICES: [&str; 3] = ["gateway", "voice", "cdn"];
/// What else of a connection the planet delays, each as long as the path.
const CONNECTING: [(&str, &str); 3] = [("websocket", "tls"), ("websocket", "upgrade"), ("http", "tls")];
/// What processing adds at most to a median, with eight agents, the planet and the collector on the same few cores.
const PROCESSING_MS: f64 = 0.3;
const STREAM_PROCESSING_MS: f64 = 2.0;
/// And to a phase of a connection, which signs, checks and agrees on keys; a single path's few may meet those of all agents.
const HANDSHAKE_MS: f64 = 3.0;
const CROWDED_HANDSHAKE_MS: f64 = 20.0;

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
            let all = hints.len() == REGIONS * SERVICES.len();
            (all && hints.iter().all(|hint| hint["basis"] == "measured")).then_some(())
        })
        .unwrap();
    world.wait("a minute of measurements", MEASURE * 2, |_| (begin.elapsed() >= MEASURE).then_some(())).unwrap();
    let truth = world.planet.truth().unwrap();
    let paths = world.get("/api/v1/paths?window=5m").unwrap();
    let hints = world.get("/api/v1/hints").unwrap();

    let body = |(source, service): &(String, String)| {
        http::get_text(&world.url(&format!("/api/v1/hints/{source}/{service}"))).unwrap()
    };
    let served = items(&hints).map(|hint| (text(&hint["source"]), text(&hint["service"])));
    let served: BTreeMap<_, _> = served.map(|hint| (hint.clone(), body(&hint))).collect();
    every_primary_p50_is_true(&truth, &paths);
    every_phase_of_a_connection_is_true(&truth, &paths);
    what_the_planet_does_not_delay_takes_no_time(&paths);
    every_ranking_is_true(&truth, &hints);
    world.kill_collector().unwrap();
    the_log_says_the_same_again(&world, served);
}

/// p50 of each path of that phase, by source and target.
fn medians(paths: &Value, phase: (&str, &str)) -> BTreeMap<(String, String), f64> {
    items(paths)
        .filter(|path| is_of(path, phase))
        .map(|path| ((text(&path["source"]), text(&path["target"])), number(&path["p50_ms"])))
        .collect()
}

/// The paths of a service, by source and target.
fn true_paths<'a>(truth: &'a Value, service: &str) -> BTreeMap<(String, String), &'a Value> {
    items_of(&truth["paths"])
        .filter(|path| path["service"] == service)
        .map(|path| ((text(&path["source"]), text(&path["target"])), path))
        .collect()
}

fn every_primary_p50_is_true(truth: &Value, paths: &Value) {
    for (service, primary) in SERVICES.into_iter().zip(PRIMARIES) {
        let (measured, stated) = (medians(paths, primary), true_paths(truth, service));
        assert!(measured.keys().eq(stated.keys()), "every path of {service} is measured");
        let processing = if service == "voice" { PROCESSING_MS } else { STREAM_PROCESSING_MS };
        for (path, p50) in measured {
            let exact = number(&stated[&path]["rtt_ms"]["p50"]);
            let near = (p50 - exact).abs() <= 0.01 * exact + processing;
            assert!(near, "{primary:?} {path:?}: measured {p50} ms, truth {exact} ms");
        }
    }
}

/// A minute sees a connection only a few times. So each path's median lies where such a path's delays can lie, and in the median
/// of the paths it is off by little.
fn every_phase_of_a_connection_is_true(truth: &Value, paths: &Value) {
    for phase in CONNECTING {
        let service = if phase.0 == "http" { "cdn" } else { "gateway" };
        let (measured, stated) = (medians(paths, phase), true_paths(truth, service));
        assert!(measured.keys().eq(stated.keys()), "{phase:?} is measured on every path");
        let mut off = Vec::new();
        for (path, p50) in measured {
            let stated = stated[&path];
            let (exact, p99) = (number(&stated["rtt_ms"]["p50"]), number(&stated["rtt_ms"]["p99"]));
            let least = exact - number(&stated["jitter_ms"]) * std::f64::consts::LN_2;
            let most = 1.01 * p99 + CROWDED_HANDSHAKE_MS;
            assert!((0.99 * least..most).contains(&p50), "{phase:?} {path:?}: {p50} ms, truth {least} to {p99} ms");
            off.push((p50 - exact, 0.01 * exact));
        }
        off.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let (median, share) = off[off.len() / 2];
        let near = (-share..=share + HANDSHAKE_MS).contains(&median);
        assert!(near, "{phase:?}: the paths are off by {median} ms in the median");
    }
}

/// HELLO comes with the upgrade, and the kernel connects.
fn what_the_planet_does_not_delay_takes_no_time(paths: &Value) {
    for phase in [("websocket", "hello"), ("websocket", "connect"), ("http", "connect")] {
        let mut medians: Vec<_> = medians(paths, phase).into_values().collect();
        medians.sort_by(f64::total_cmp);
        let median = medians[medians.len() / 2];
        assert!(median <= STREAM_PROCESSING_MS, "{phase:?} takes {median} ms");
    }
}

/// In true cost no region stands behind one that is dearer by more than a tie.
fn every_ranking_is_true(truth: &Value, hints: &Value) {
    let mut costs: BTreeMap<(String, String, String), Cost> = BTreeMap::new();
    for path in items_of(&truth["paths"]) {
        let key = ["source", "service", "region"].map(|name| text(&path[name]));
        let [source, service, region] = key;
        costs.insert((source, service, region), Cost::of(path));
    }
    for hint in items(hints) {
        let (source, service) = (text(&hint["source"]), text(&hint["service"]));
        let ranked: Vec<_> = items_of(&hint["ranked"]).map(|ranked| (text(&ranked["region"]), ranked)).collect();
        let ours = |(from, of, _): &(String, String, String)| *from == source && *of == service;
        let all: BTreeSet<_> = costs.keys().filter(|key| ours(key)).map(|(_, _, region)| region.clone()).collect();
        let listed: BTreeSet<_> = ranked.iter().map(|(region, _)| region.clone()).collect();
        assert_eq!(listed, all, "{source} ranks every region of {service}");
        let cost = |(region, seen): &(String, &Value)| {
            costs[&(source.clone(), service.clone(), region.clone())].seen_with(number(&seen["jitter_ms"]))
        };
        for (index, behind) in ranked.iter().enumerate() {
            let dearer = ranked[..index].iter().find(|before| cost(before) > cost(behind) + 5.0);
            assert_eq!(dearer, None, "{source} ranks it before {}: {hint}", behind.0);
        }
    }
}

enum Cost {
    Packets(f64),
    /// What is lost on a stream comes later: no loss, but jitter, and how much of it chance alone decides.
    Stream {
        p75_ms: f64,
    },
}

impl Cost {
    fn of(path: &Value) -> Self {
        let p75_ms = number(&path["rtt_ms"]["p75"]);
        if path["service"] == "voice" {
            Self::Packets(p75_ms + 2.0 * number(&path["jitter_ms"]) + 2000.0 * number(&path["loss"]))
        } else {
            Self::Stream { p75_ms }
        }
    }

    fn seen_with(&self, jitter_ms: f64) -> f64 {
        match self {
            Self::Packets(cost) => *cost,
            Self::Stream { p75_ms } => p75_ms + 2.0 * jitter_ms,
        }
    }
}

/// Every hint that was served, by its source and service, is concluded again from the log, byte for byte.
fn the_log_says_the_same_again(world: &World, mut served: BTreeMap<(String, String), String>) {
    let mut state = State::default();
    let log = Log::open(&world.data_dir()).unwrap();
    log.replay(log.first(), log.next(), |entry: Entry| {
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
            let hints = world.get("/api/v1/hints?service=voice").ok()?;
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
            items(&regions).find(|region| region["region"] == *top && region["service"] == "voice")?["health"]
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
            let counts = world.planet.counts().ok()?;
            let agents = world.get("/api/v1/agents").ok()?;
            let enough = PRIMARIES.iter().all(|primary| answers(&counts, *primary) > 800);
            (items(&agents).count() == REGIONS && enough).then_some(())
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
    // What is acknowledged is durable, and folded a little later.
    let same = world.wait("every answer on its path", Duration::from_secs(20), |world| {
        differences(world).ok()?.is_empty().then_some(())
    });
    assert!(same.is_ok(), "{:#?}", differences(&world).unwrap());
}

/// How many probes of that kind the endpoints have answered.
fn answers(counts: &Value, primary: (&str, &str)) -> u64 {
    items(counts).filter(|row| is_of(row, primary)).map(|row| row["count"].as_u64().unwrap()).sum()
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
        ..telemetry::sample::series()
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
