//! Killed at any moment, the real binaries lose nothing that was acknowledged and count nothing twice.

use std::collections::BTreeSet;

use collector::entry::{Envelope, Record};
use e2e::WorldOptions;
use e2e::crash::Crash;
use e2e::ledger::{Faults, Name};
use e2e::witnessed::Witnessed;
use journal::{Journal, Options, RealDisk};
use telemetry::Origin;

const KILLS: u32 = 150;

#[test]
fn nothing_acknowledged_is_lost_doubled_or_altered_when_everything_is_killed_again_and_again_seed_1() {
    survives(1);
}

#[test]
fn nothing_acknowledged_is_lost_doubled_or_altered_when_everything_is_killed_again_and_again_seed_2() {
    survives(2);
}

#[expect(clippy::print_stdout, reason = "what the run was worth")]
fn survives(seed: u64) {
    let mut crash = Crash::start(seed, WorldOptions::default().programs).unwrap();
    crash.kill(KILLS).unwrap();
    let report = crash.settle().unwrap();
    println!("seed {seed}: {report}");
    assert_eq!(report.faults, Faults::default(), "seed {seed}");
    the_log_holds_every_acknowledged_batch_byte_for_byte(crash.witnessed);
}

pub(crate) fn the_log_holds_every_acknowledged_batch_byte_for_byte(witnessed: Witnessed) {
    let Witnessed { mut world, relay, .. } = witnessed;
    world.kill_collector().unwrap();
    let disk = RealDisk::open(world.data_dir().join("log")).unwrap();
    let log = Journal::open(disk, Options::default()).unwrap();
    let mut missing: BTreeSet<Name> = relay.ledger(|ledger| ledger.taken().iter().cloned().collect());
    for record in log.read(log.first()) {
        let (position, record) = record.unwrap();
        let Record::Batch(Envelope { origin: Some(Origin { agent, boot, sequence }), .. }, body) =
            Record::decode(&record).unwrap()
        else {
            continue;
        };
        let name = Name { agent: agent.to_string(), boot: boot.to_string(), sequence: sequence.0 };
        relay.ledger(|ledger| assert!(ledger.body(&name) == Some(body), "{name:?} at {position} is another"));
        missing.remove(&name);
    }
    assert_eq!(missing, BTreeSet::new(), "acknowledged, and not in the log");
}
