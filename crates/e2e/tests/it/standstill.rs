//! A machine that is suspended: processes that stand still for many windows, and go on.

use std::time::{Duration, Instant};

use e2e::json::{items, whole};
use e2e::ledger::Faults;
use e2e::witnessed::{DEADLINE, Witnessed, quick};
use e2e::{World, WorldOptions};
use nix::sys::signal::Signal;
use toml::Table;

const EVERY: Duration = Duration::from_millis(50);
/// 25 windows.
const STANDSTILL: Duration = Duration::from_secs(5);
/// Longer than any probe is on its way.
const TIMEOUT: Duration = Duration::from_secs(1);

/// As quick, without confirming probes, which keep no pace.
fn paced(config: &str) -> String {
    let mut config: Table = quick(config).parse().unwrap();
    config.insert("confirms_per_second".to_owned(), 0.into());
    config.to_string()
}

#[test]
fn agents_and_a_collector_that_stand_still_lose_nothing_and_send_nothing_twice_or_later() {
    let options = WorldOptions { regions: 3, seed: 31, agents: paced, ..WorldOptions::default() };
    let mut witnessed = Witnessed::start(options).unwrap();
    let agents = witnessed.world.planet.regions().unwrap();
    hints_are_measured(&mut witnessed.world, &agents);
    for (agents_stop, collector_stops) in [(true, false), (false, true), (true, true)] {
        let world = &mut witnessed.world;
        let signal = |world: &World, signal: Signal| {
            for region in agents.iter().filter(|_| agents_stop) {
                world.agent(region).unwrap().signal(signal).unwrap();
            }
            if collector_stops {
                world.collector().unwrap().signal(signal).unwrap();
            }
        };
        let (begun, before) = (Instant::now(), answers(world));
        signal(world, Signal::SIGSTOP);
        let stopped = Instant::now();
        world.wait("a standstill", STANDSTILL * 2, |_| (stopped.elapsed() >= STANDSTILL).then_some(())).unwrap();
        let still = stopped.elapsed();
        signal(world, Signal::SIGCONT);
        hints_are_measured(world, &agents);
        let after = answers(world);
        if agents_stop {
            // Those on their way when it began, and then the usual pace: of what was due meanwhile nothing is sent later.
            let awake = begun.elapsed().saturating_sub(still) + TIMEOUT;
            let most = awake.as_secs_f64() / EVERY.as_secs_f64() * after.len() as f64;
            let sent: u64 = after.iter().sum::<u64>() - before.iter().sum::<u64>();
            assert!((sent as f64) < most, "{sent} answers in {awake:?}, {most} at most");
        }
    }
    assert_eq!(witnessed.settle().unwrap(), Faults::default());
}

fn hints_are_measured(world: &mut World, sources: &[String]) {
    world
        .wait("measured hints", DEADLINE, |world| {
            sources.iter().all(|source| world.hint(source).is_ok_and(|hint| hint["basis"] == "measured")).then_some(())
        })
        .unwrap();
}

/// Of each path of a ping.
fn answers(world: &World) -> Vec<u64> {
    let counts = world.planet.counts().unwrap();
    let pings = items(&counts).filter(|row| row["source"] != "unknown" && row["phase"] == "rtt");
    pings.map(|row| whole(&row["count"])).collect()
}
