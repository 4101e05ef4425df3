//! The collector is away for a while, and comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::answers::compare;
use e2e::json::{items, number, text, whole};
use e2e::ledger::{Faults, Ledger, Name};
use e2e::witnessed::{DEADLINE, Witnessed, agent, often, quick};
use e2e::{World, WorldOptions};

const WINDOW: Duration = Duration::from_secs(10);
const AWAY: Duration = Duration::from_secs(42);

/// So little that it is too little within seconds.
fn with_a_small_spool(config: &str) -> String {
    quick(config) + "\n[spool]\nbytes = 16384\n"
}

fn in_usual_windows(config: &str) -> String {
    often(config, "10s")
}

#[test]
fn what_a_spool_had_to_drop_is_a_gap_of_exactly_the_sequences_that_are_lost() {
    let options = WorldOptions { regions: 3, seed: 21, agents: with_a_small_spool, ..WorldOptions::default() };
    let mut witnessed = Witnessed::start(options).unwrap();
    let regions = witnessed.world.planet.regions().unwrap();
    witnessed.catch_up().unwrap();
    let collector = witnessed.world.listen().to_owned();
    witnessed.relay.part();
    // Of a segment that was begun after the line was cut nothing can have been taken: it goes only to make room.
    let all = |world: &World| regions.iter().map(|region| segments(world, region)).collect::<Vec<_>>();
    let before = all(&witnessed.world);
    let begun = |world: &World| -> Option<Vec<String>> {
        let newer =
            |(now, before): (Vec<String>, &Vec<String>)| now.last().filter(|it| Some(*it) > before.last()).cloned();
        all(world).into_iter().zip(&before).map(newer).collect()
    };
    let begun = witnessed.world.wait("segments that are begun", DEADLINE, begun).unwrap();
    let dropped = |world: &World| all(world).iter().zip(&begun).all(|(now, begun)| now.first() > Some(begun));
    witnessed.world.wait("agents that drop what is oldest", DEADLINE, |world| dropped(world).then_some(())).unwrap();
    witnessed.relay.lead_to(&collector);
    witnessed.catch_up().unwrap();
    let Witnessed { world, relay, .. } = &mut witnessed;
    world.stop_agents().unwrap();

    let lost = relay.ledger(lost);
    for region in &regions {
        assert!(lost.iter().any(|name| name.agent == agent(region)), "{region} has lost nothing: {lost:?}");
    }
    assert_eq!(relay.ledger(told), lost, "what agents name as lost is what did not come");
    let shown = |world: &World| -> Option<BTreeMap<String, u64>> {
        let agents = world.get("/api/v1/agents").ok()?;
        Some(items(&agents).map(|shown| (text(&shown["agent"]), whole(&shown["gaps"]))).collect())
    };
    let mut counted: BTreeMap<String, u64> = BTreeMap::new();
    for name in &lost {
        *counted.entry(name.agent.clone()).or_default() += 1;
    }
    let told = world.wait("the gaps of every agent", DEADLINE, |world| shown(world).filter(|shown| *shown == counted));
    assert!(told.is_ok(), "lost {counted:?}, shown {:?}", shown(world));
    let paths = world.get("/api/v1/paths?window=15m").unwrap();
    assert_eq!(relay.ledger(|ledger| ledger.faults(&paths)).unwrap(), Faults::default());
    for path in compare(world).unwrap() {
        assert!(path.is_possible(), "{path}");
    }
}

/// By their first positions, ascending.
fn segments(world: &World, region: &str) -> Vec<String> {
    let spool = world.data_dir().with_file_name(agent(region)).join("spool");
    let names = std::fs::read_dir(spool).unwrap().map(|entry| entry.unwrap().file_name());
    let segments = names.filter(|name| Path::new(name).extension().is_some_and(|kind| kind == "segment"));
    let mut segments: Vec<_> = segments.map(|name| name.into_string().unwrap()).collect();
    segments.sort();
    segments
}

/// What never came, below the newest that did.
fn lost(ledger: &Ledger) -> BTreeSet<Name> {
    let taken: BTreeSet<_> = ledger.taken().iter().cloned().collect();
    let up_to = |name: &Name| (1..name.sequence).map(|sequence| Name { sequence, ..name.clone() }).collect::<Vec<_>>();
    taken.iter().flat_map(up_to).filter(|name| !taken.contains(name)).collect()
}

/// What agents said is lost: of a range, those that had not come.
fn told(ledger: &Ledger) -> BTreeSet<Name> {
    let taken: BTreeSet<_> = ledger.taken().iter().cloned().collect();
    let agents: BTreeMap<_, _> = taken.iter().map(|name| (name.boot.clone(), name.agent.clone())).collect();
    let named = |gap: telemetry::Gap| {
        let boot = gap.boot.to_string();
        let agent = agents[&boot].clone();
        (gap.from.0..=gap.to.0).map(move |sequence| Name { agent: agent.clone(), boot: boot.clone(), sequence })
    };
    ledger.gaps().unwrap().into_iter().flat_map(named).filter(|name| !taken.contains(name)).collect()
}

#[test]
fn after_an_outage_what_is_true_now_does_not_wait_for_the_backlog_and_nothing_is_lost() {
    let options = WorldOptions { regions: 3, seed: 22, agents: in_usual_windows, ..WorldOptions::default() };
    let mut witnessed = Witnessed::start(options).unwrap();
    let regions = witnessed.world.planet.regions().unwrap();
    let Witnessed { world, relay, .. } = &mut witnessed;
    world.kill_collector().unwrap();
    let (gone, before) = (Instant::now(), relay.ledger(|ledger| ledger.taken().len()));
    world.wait("the outage", AWAY * 2, |_| (gone.elapsed() >= AWAY).then_some(())).unwrap();
    world.start_collector().unwrap();
    world
        .wait("fresh windows within two", WINDOW * 2, |world| {
            let paths = world.get("/api/v1/paths?service=voice").ok()?;
            let fresh = items(&paths).filter(|path| path["probe"] == "voice" && path["phase"] == "rtt");
            let ages: Vec<_> = fresh.map(|path| number(&path["age_s"])).collect();
            (!ages.is_empty() && ages.iter().all(|age| *age <= WINDOW.as_secs_f64() * 2.0)).then_some(())
        })
        .unwrap();
    witnessed.catch_up().unwrap();
    let taken = witnessed.relay.ledger(|ledger| ledger.taken()[before..].to_vec());
    for region in regions {
        let of_agent = taken.iter().filter(|name| name.agent == agent(&region));
        let sequences: Vec<_> = of_agent.map(|name| name.sequence).collect();
        let (first, rest) = sequences.split_at(2);
        // The newest and the oldest by turns, from whichever it was to be.
        assert!(rest.len() >= 2, "{region}: {sequences:?} is no backlog");
        assert!(first.iter().max() > rest.iter().min(), "{region}: the backlog went first: {sequences:?}");
    }
    assert_eq!(witnessed.settle().unwrap(), Faults::default());
}
