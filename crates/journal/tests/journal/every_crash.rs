//! One life of a journal, cut short at every operation, torn at every byte.

use journal::sim::{Fault, Keep, SimDisk};
use journal::{Position, WriteError};

use crate::{open, payloads};

/// What the script knows when the power goes.
#[derive(Default)]
struct Told {
    /// Every payload that was handed over, in order.
    handed: Vec<Vec<u8>>,
    durable: usize,
    cut: u64,
}

/// Lives until the power goes, and says whether it did.
fn live(disk: &SimDisk, told: &mut Told) -> bool {
    let mut script = || -> Result<(), WriteError> {
        let Ok(mut journal) = open(disk) else { return Ok(()) };
        for turn in 0..3u8 {
            for record in 0..3u8 {
                let payload = vec![16 * turn + record; usize::from(10 + 7 * record)];
                told.handed.push(payload.clone());
                journal.append(&payload)?;
                told.durable = journal.durable().0 as usize;
            }
            journal.sync()?;
            told.durable = told.handed.len();
        }
        told.cut = told.durable as u64 - 2;
        journal.cut_before(Position(told.cut))?;
        for record in 0..3u8 {
            told.handed.push(vec![record; 20]);
            journal.append(&[record; 20])?;
            told.durable = journal.durable().0 as usize;
        }
        Ok(())
    };
    script().is_err() || disk.is_off()
}

/// Opens what the crash left and holds it against what had been told; then goes on from there.
fn check(disk: &SimDisk, told: &Told, case: &str) {
    let mut journal = open(disk).unwrap_or_else(|error| panic!("{case}: {error}"));
    let (first, next) = (journal.first(), journal.next());
    assert!(first.0 <= told.cut, "{case}: cut to {first}");
    assert!(next.0 as usize >= told.durable, "{case}: {next} left of {} durable", told.durable);
    assert!(next.0 as usize <= told.handed.len(), "{case}");
    assert_eq!(payloads(&journal, first), told.handed[first.0 as usize..next.0 as usize], "{case}");

    assert_eq!(journal.append(b"after").unwrap(), next, "{case}");
    journal.sync().unwrap();
    drop(journal);
    disk.crash(Keep::Nothing, Keep::Nothing);
    let journal = open(disk).unwrap_or_else(|error| panic!("{case}, then a crash: {error}"));
    assert_eq!(payloads(&journal, next), [b"after"], "{case}");
}

/// Runs the script on a new disk up to the loss of power; `None` when it ends before that operation.
fn lose_power_at(operation: u64) -> Option<(SimDisk, Told)> {
    let disk = SimDisk::default();
    let mut told = Told::default();
    disk.fail(None, operation, Fault::PowerLoss);
    live(&disk, &mut told).then_some((disk, told))
}

#[test]
fn no_crash_at_any_operation_torn_at_any_byte_loses_a_durable_record() {
    let mut operation = 0;
    while let Some((disk, _)) = lose_power_at(operation) {
        for bytes in 0..=disk.unsynced_bytes() {
            for names in 0..=disk.unsynced_names() {
                let (disk, told) = lose_power_at(operation).unwrap();
                disk.crash(Keep::First(bytes), Keep::First(names));
                check(&disk, &told, &format!("operation {operation}, {bytes} bytes, {names} names"));
            }
        }
        operation += 1;
    }
    assert!(operation > 30, "the script has {operation} operations");
}

#[test]
fn no_hole_in_what_was_not_durable_is_taken_for_corruption() {
    let mut operation = 0;
    while lose_power_at(operation).is_some() {
        for seed in 0..60 {
            let (disk, told) = lose_power_at(operation).unwrap();
            disk.crash(Keep::Seeded(seed), Keep::Seeded(seed));
            check(&disk, &told, &format!("operation {operation}, seed {seed}"));
        }
        operation += 1;
    }
}

#[test]
fn a_crash_at_any_operation_of_a_recovery_does_no_harm() {
    let mut operation = 0;
    while lose_power_at(operation).is_some() {
        for seed in 0..4 {
            for again in 0.. {
                let (disk, told) = lose_power_at(operation).unwrap();
                disk.crash(Keep::Seeded(seed), Keep::Seeded(seed));
                disk.fail(None, again, Fault::PowerLoss);
                if open(&disk).is_ok() {
                    break;
                }
                disk.crash(Keep::Seeded(seed + again), Keep::Seeded(seed + again));
                check(&disk, &told, &format!("operation {operation}, seed {seed}, then {again}"));
            }
        }
        operation += 1;
    }
}
