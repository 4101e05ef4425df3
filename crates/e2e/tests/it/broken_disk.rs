//! Disks that fail under the real collector: what it says, and what is left.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use e2e::ledger::Faults;
use e2e::witnessed::{DEADLINE, Witnessed, quick};
use e2e::{Tamper, WorldOptions};

const DRAIN: Duration = Duration::from_secs(15);

fn world(seed: u64) -> Witnessed {
    Witnessed::start(WorldOptions { regions: 3, seed, agents: quick, ..WorldOptions::default() }).unwrap()
}

#[test]
fn a_failed_fsync_ends_the_collector_with_file_and_error_in_its_last_line_and_the_next_one_misses_nothing() {
    let mut witnessed = world(11);
    let tamper = Tamper::fail(witnessed.world.collector().unwrap(), "fsync,fdatasync", "EIO").unwrap();
    let (status, last) = witnessed.world.release_collector().unwrap().fall(DRAIN).unwrap();
    drop(tamper);
    assert_eq!(status.code(), Some(1), "{last}");
    for word in ["fsync of ", "/log/00000000000000000000.segment failed", "Input/output error"] {
        assert!(last.contains(word), "{last}");
    }
    witnessed.world.start_collector().unwrap();
    assert_eq!(witnessed.settle().unwrap(), Faults::default());
}

#[test]
fn a_failed_write_is_refused_for_a_while_hints_go_on_and_nothing_is_lost_or_doubled() {
    let mut witnessed = world(12);
    let tamper = Tamper::fail(witnessed.world.collector().unwrap(), "pwrite64", "EIO").unwrap();
    let Witnessed { world, relay, .. } = &mut witnessed;
    world
        .wait("a refusal of every agent", DEADLINE, |_| relay.ledger(|ledger| ledger.refusals.len() >= 3).then_some(()))
        .unwrap();
    for refusal in relay.ledger(|ledger| ledger.refusals.clone()) {
        assert_eq!(refusal.status, 503);
        assert!(refusal.retry_after_s.is_some_and(|seconds| seconds >= 1), "it says when to come again");
    }
    let source = world.planet.regions().unwrap().remove(0);
    assert!(!world.hint(&source).unwrap()["ranked"].as_array().unwrap().is_empty());
    drop(tamper);
    assert_eq!(witnessed.settle().unwrap(), Faults::default());
}

#[test]
fn a_log_that_is_damaged_is_not_started_on_and_the_collector_says_where_and_what_to_do() {
    let mut witnessed = world(13);
    witnessed.catch_up().unwrap();
    let world = &mut witnessed.world;
    world.release_collector().unwrap().stop().unwrap();
    let (data, log) = (world.data_dir(), world.data_dir().join("log"));
    let segment = log.join("00000000000000000000.segment");
    let file = fs::File::options().read(true).write(true).open(&segment).unwrap();
    let (middle, mut byte) = (file.metadata().unwrap().len() / 2, [0]);
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 1], middle).unwrap();

    // Told what to do, and nothing touched before it is done.
    for _again in 0..2 {
        world.start_collector().unwrap();
        let (status, last) = world.release_collector().unwrap().fall(DRAIN).unwrap();
        assert_eq!(status.code(), Some(1), "{last}");
        let where_and_what = [
            format!("{} is damaged at byte ", segment.display()),
            "nothing was changed".to_owned(),
            format!("move {} away as a whole", data.display()),
        ];
        for words in where_and_what {
            assert!(last.contains(&words), "{last}");
        }
    }

    // Half of what it says is not done by mistake: snapshots of another log would be believed later.
    fs::rename(&log, data.join("log.damaged")).unwrap();
    world.start_collector().unwrap();
    let (status, last) = world.release_collector().unwrap().fall(DRAIN).unwrap();
    assert_eq!(status.code(), Some(1), "{last}");
    assert!(last.contains("snapshot") && last.contains("move"), "{last}");

    fs::rename(&data, data.with_extension("damaged")).unwrap();
    world.start_collector().unwrap();
    // Agents bring what they still hold, and go on.
    witnessed.catch_up().unwrap();
    let source = witnessed.world.planet.regions().unwrap().remove(0);
    assert!(!witnessed.world.hint(&source).unwrap()["ranked"].as_array().unwrap().is_empty());
    witnessed.world.stop().unwrap();
}
