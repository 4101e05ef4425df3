//! The planet as a router between network namespaces: what agents in there measure is what it states, for every kind of probe.
//! Where namespaces are not allowed these tests fail, and say what the planet says is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use e2e::answers::differences;
use e2e::json::{items, items_of, number, text};
use e2e::{Mode, World, WorldOptions};
use serde_json::{Value, json};

/// What processing adds at most to the median of what threads of their own send and stamp, beside a hundredth.
const PROCESSING_MS: f64 = 0.3;
/// To what tasks do, on either end and with TLS in between.
const STREAM_PROCESSING_MS: f64 = 2.0;
/// And to what signs, checks and agrees on keys.
const HANDSHAKE_MS: f64 = 3.0;

fn world(seed: u64, agents: fn(&str) -> String) -> World {
    World::start(&WorldOptions { mode: Mode::Router, regions: 4, seed, agents, ..WorldOptions::default() }).unwrap()
}

/// So often that a minute sees enough of each.
fn often(config: &str) -> String {
    config
        .replace("\nreconnect_every = \"10s\"", "\nreconnect_every = \"3s\"")
        .replace("\nevery = \"10s\"", "\nevery = \"1s\"")
        .replace("kind = \"voice\"\nevery = \"1s\"", "kind = \"voice\"\nevery = \"250ms\"\ndiscovery_every = \"2s\"")
}

#[test]
fn every_phase_of_every_probe_takes_the_round_trips_that_are_stated() {
    let mut world = world(1, often);
    let expected = phases(&world.planet.truth().unwrap());
    settle(&mut world, Duration::from_secs(75));
    let truth = world.planet.truth().unwrap();
    assert!(items_of(&truth["paths"]).all(|path| path["undelayed"] == json!([])));
    let paths = world.get("/api/v1/paths?window=60s").unwrap();
    let measured: BTreeSet<_> = items(&paths).map(|path| (source_and_target(path), phase(path))).collect();
    assert_eq!(measured, expected);

    let stated = stated(&truth);
    let (mut off, mut wrong) = (BTreeMap::<String, Vec<(f64, f64)>>::new(), Vec::new());
    for path in items(&paths) {
        let phase = phase(path);
        let stated = stated[&source_and_target(path)];
        let exact = number(&truth["round_trips"][&phase]) * number(&stated["rtt_ms"]["p50"]);
        let error = number(&path["p50_ms"]) - exact;
        // Four standard errors of the median of so many draws from an exponential tail.
        let chance = 4.0 * number(&stated["jitter_ms"]) / number(&path["samples"]).sqrt();
        if !(-(0.01 * exact + chance)..=0.01 * exact + processing(&phase) + chance).contains(&error) {
            wrong.push(format!("{phase} {:?}: off by {error} ms of {exact} ms", source_and_target(path)));
        }
        off.entry(phase).or_default().push((error, 0.01 * exact));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // In the median of all paths chance is out of it.
    for (phase, mut errors) in off {
        errors.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let (median, share) = errors[errors.len() / 2];
        let near = (-share..=share + processing(&phase)).contains(&median);
        assert!(near, "{phase}: the paths are off by {median} ms in the median");
    }
    world.stop().unwrap();
}

#[test]
fn faults_are_measured_as_they_are_stated() {
    let mut world = world(2, often);
    let regions = world.planet.regions().unwrap();
    let truth = world.planet.truth().unwrap();
    let hosts: Vec<String> = items_of(&truth["targets"]).map(|target| text(&target["region"])).collect();
    let (host, other) = (&hosts[0], &hosts[4]);
    let down = format!("{host}-voice-1");
    let [lossy, rerouted, split] = [0, 1, 2].map(|place| regions[place].as_str());
    for fault in [
        json!({"kind": "uplink", "region": lossy, "loss": 0.2, "extra_ms": 10}),
        json!({"kind": "route_change", "from": rerouted, "to": host, "extra_ms": 40}),
        json!({"kind": "ecmp_leg", "from": split, "to": other, "share": 0.5}),
        json!({"kind": "target_down", "target": down}),
    ] {
        world.planet.inject(&fault).unwrap();
    }
    // Half of the ports of one agent, and it says so.
    let begun = Instant::now();
    let partial = |world: &World| reason(world, split, other).contains("% of the source ports to").then_some(());
    world.wait("a part of the parallel paths is broken", Duration::from_mins(2), partial).unwrap();
    settle(&mut world, Duration::from_secs(80).saturating_sub(begun.elapsed()));
    let truth = world.planet.truth().unwrap();
    let paths = world.get("/api/v1/paths?window=60s").unwrap();
    let stated = stated(&truth);

    let mut pooled: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for path in items(&paths).filter(|path| phase(path) == "voice/rtt") {
        let ends = source_and_target(path);
        let (samples, loss) = (number(&path["samples"]), number(&path["loss"]));
        let stated = stated[&ends];
        if ends.1 == down {
            assert_eq!((&stated["up"], loss), (&json!(false), 1.0), "{ends:?}");
            continue;
        }
        let exact = number(&stated["rtt_ms"]["p50"]);
        let error = number(&path["p50_ms"]) - exact;
        let chance = 4.0 * number(&stated["jitter_ms"]) / (samples * (1.0 - loss)).sqrt();
        // What processing adds is the other test's matter.
        assert!(error.abs() <= 0.01 * exact + 1.0 + chance, "{ends:?}: off by {error} ms of {exact} ms");
        let leg = ends.0 == split && stated["region"] == **other;
        let kind = if leg {
            "ecmp_leg"
        } else if ends.0 == lossy {
            "uplink"
        } else {
            "none"
        };
        let (lost, all) = pooled.entry(kind.to_owned()).or_default();
        *lost += loss * samples;
        *all += samples;
    }
    for (kind, exact, independent) in [
        // Bursts of two make of three losses as much as one that stands alone.
        ("uplink", 0.2, 1.0 / 3.0),
        // Two targets from sixteen ports each are that many flows, and one flow has one fate.
        ("ecmp_leg", 0.5, 32.0 / pooled["ecmp_leg"].1),
    ] {
        let (lost, all) = pooled[kind];
        let spread = 2.58 * (exact * (1.0 - exact) / (all * independent)).sqrt();
        assert!((lost / all - exact).abs() <= spread, "{kind}: {lost} of {all}, not within {spread} of {exact}");
    }
    let (lost, all) = pooled["none"];
    assert!(lost / all < 0.01, "elsewhere next to nothing is lost: {lost} of {all}");

    // Its host lives.
    let beneath = |probe: &str| {
        let found = items(&paths).filter(|path| source_and_target(path).1 == down && phase(path) == probe);
        found.filter(|path| text(&path["source"]) != lossy).map(|path| number(&path["loss"])).collect::<Vec<_>>()
    };
    assert!(beneath("icmp/rtt").iter().all(|loss| *loss < 0.2), "{:?}", beneath("icmp/rtt"));
    assert!(beneath("tcp/connect").iter().all(|loss| *loss >= 1.0), "{:?}", beneath("tcp/connect"));
    world.stop().unwrap();
}

/// Each port has its turn every 6.4 s: five losses of its own, which are enough, take half a minute.
fn in_turns(config: &str) -> String {
    config
        .replace("kind = \"voice\"\nevery = \"1s\"", "kind = \"voice\"\nevery = \"400ms\"")
        .replace("kind = \"tcp\"\nevery = \"10s\"", "kind = \"tcp\"\nevery = \"400ms\"")
}

#[test]
fn a_sixteenth_of_the_ways_that_breaks_is_told_as_a_part_of_the_ports_with_its_share() {
    find_a_leg("voice/rtt", str::to_owned);
}

#[test]
fn a_sixteenth_of_the_ways_that_breaks_is_found_by_connections_too() {
    let by_connections = |file: &str| file.replace("primary = \"voice/rtt\"", "primary = \"tcp/connect\"");
    find_a_leg("tcp/connect", by_connections);
}

/// One of sixteen parallel paths from every region to every other is broken. Which ports of an agent are on it is chance: with
/// sixteen to each target some have one, some several and some none.
fn find_a_leg(judged_by: &str, judging: fn(&str) -> String) {
    let options =
        WorldOptions { mode: Mode::Router, regions: 4, seed: 4, agents: in_turns, judging, ..WorldOptions::default() };
    let mut world = World::start(&options).unwrap();
    let regions = world.planet.regions().unwrap();
    let truth = world.planet.truth().unwrap();
    let hosts: BTreeSet<String> = items_of(&truth["targets"]).map(|target| text(&target["region"])).collect();
    let pairs =
        || regions.iter().flat_map(|from| hosts.iter().map(move |to| (from, to))).filter(|(from, to)| from != to);
    for (from, to) in pairs() {
        world.planet.inject(&json!({"kind": "ecmp_leg", "from": from, "to": to, "share": 1.0 / 16.0})).unwrap();
    }
    // What is told of a cell is the worst of its targets: so much of its ports as of its probes is lost.
    let told = |world: &World| {
        let paths = world.get("/api/v1/paths?window=30s").ok()?;
        let of_service = |path: &&Value| phase(path) == judged_by && text(&path["target"]).contains("-voice-");
        let mut partial = 0;
        for (from, to) in pairs() {
            let ends = |path: &&Value| text(&path["source"]) == *from && text(&path["target"]).starts_with(to.as_str());
            let losses: Vec<f64> =
                items(&paths).filter(of_service).filter(ends).map(|path| number(&path["loss"])).collect();
            let worst = losses.iter().map(|loss| (loss * 16.0).round() as u32).max().filter(|_| losses.len() == 2)?;
            let reason = reason(world, from, to);
            let share = format!("{:.0} % of the source ports to", f64::from(worst) * 100.0 / 16.0);
            if worst > 0 && !reason.starts_with(&share) || worst == 0 && reason.contains("source ports") {
                return None;
            }
            partial += u32::from(worst > 0);
        }
        (partial > 0).then_some(())
    };
    let found = world.wait("the ports that lose", Duration::from_mins(5), told);
    let reasons =
        || pairs().map(|(from, to)| format!("{from} to {to}: {}", reason(&world, from, to))).collect::<Vec<_>>();
    assert!(found.is_ok(), "{:#?}", reasons());
    world.stop().unwrap();
}

#[test]
fn agents_that_are_cut_off_measure_on_and_hand_everything_over_afterwards() {
    let mut world = world(3, str::to_owned);
    let cut_off = world.planet.regions().unwrap()[1].clone();
    let newest = |world: &World| {
        let paths = world.get(&format!("/api/v1/paths?source={cut_off}&window=15m")).ok()?;
        items(&paths).filter_map(|path| path["age_s"].as_f64()).min_by(f64::total_cmp)
    };
    settle(&mut world, Duration::from_secs(25));
    let fault = world.planet.inject(&json!({"kind": "agent_partition", "region": cut_off})).unwrap();
    let answered = |world: &World| {
        let counts = world.planet.counts().unwrap();
        items(&counts).filter(|row| row["source"] == *cut_off).map(|row| row["count"].as_u64().unwrap()).sum::<u64>()
    };
    let before = answered(&world);
    let deadline = Duration::from_mins(1);
    world.wait("nothing new comes", deadline, |world| newest(world).filter(|age| *age > 25.0)).unwrap();
    assert!(answered(&world) > before + 100, "they measure on");
    world.planet.heal(&fault).unwrap();
    world.wait("something new comes", 2 * deadline, |world| newest(world).filter(|age| *age < 15.0)).unwrap();
    world.stop_agents().unwrap();
    let same =
        world.wait("every answer on its path", deadline, |world| differences(world).ok()?.is_empty().then_some(()));
    assert!(same.is_ok(), "{:#?}", differences(&world).unwrap());
    world.stop().unwrap();
}

/// Measures for so long.
fn settle(world: &mut World, length: Duration) {
    let begin = Instant::now();
    world.wait("measurements", length * 2, |_| (begin.elapsed() >= length).then_some(())).unwrap();
}

/// What is to be measured: of each path, each phase of each probe.
fn phases(truth: &Value) -> BTreeSet<((String, String), String)> {
    let mut all = BTreeSet::new();
    for path in items_of(&truth["paths"]) {
        let own = match path["service"].as_str() {
            Some("gateway") => "websocket/",
            Some("voice") => "voice/",
            _ => "http/",
        };
        let phases = truth["round_trips"].as_object().unwrap().keys();
        let phases = phases.filter(|phase| ["icmp/", "tcp/", own].iter().any(|probe| phase.starts_with(probe)));
        all.extend(phases.map(|phase| (source_and_target(path), phase.clone())));
    }
    all
}

fn stated(truth: &Value) -> BTreeMap<(String, String), &Value> {
    items_of(&truth["paths"]).map(|path| (source_and_target(path), path)).collect()
}

fn processing(phase: &str) -> f64 {
    match phase.split_once('/') {
        Some(("websocket" | "http", "tls")) => HANDSHAKE_MS,
        Some(("websocket" | "http", _)) => STREAM_PROCESSING_MS,
        _ => PROCESSING_MS,
    }
}

fn source_and_target(path: &Value) -> (String, String) {
    (text(&path["source"]), text(&path["target"]))
}

fn phase(path: &Value) -> String {
    format!("{}/{}", text(&path["probe"]), text(&path["phase"]))
}

/// Why a voice cell is in its state.
fn reason(world: &World, source: &str, region: &str) -> String {
    let matrix = world.get("/api/v1/matrix?service=voice").unwrap();
    let place = |names: &str, name: &str| items_of(&matrix[names]).position(|it| *it == *name).unwrap();
    let row = place("sources", source) * items_of(&matrix["regions"]).count();
    text(&matrix["reason"][row + place("regions", region)])
}
