//! Faults that a journal survives, and the one it does not.

use std::error::Error as _;

use journal::sim::{Fault, Keep, Operation, SimDisk};
use journal::{MAX_RECORD_BYTES, OpenError, Position, WriteError};

use crate::{open, payloads, segment};

#[test]
fn a_full_disk_fails_the_append_and_takes_it_after_a_cut() {
    let disk = SimDisk::default();
    let mut journal = open(&disk).unwrap();
    for record in 0..6u8 {
        journal.append(&[record; 40]).unwrap();
    }
    journal.sync().unwrap();
    disk.set_capacity(journal.bytes() + 50);
    for bytes in [40, 30, 40] {
        let error = journal.append(&vec![9; bytes]).unwrap_err();
        assert!(error.is_no_space(), "{error:?}");
        assert_eq!((journal.next(), journal.durable()), (Position(6), Position(6)));
    }
    journal.cut_before(Position(6)).unwrap();
    assert_eq!(journal.append(b"there is room").unwrap(), Position(6));
    journal.sync().unwrap();
    drop(journal);
    disk.crash(Keep::Nothing, Keep::Nothing);
    let journal = open(&disk).unwrap();
    assert_eq!(payloads(&journal, Position(6)), [b"there is room"]);
}

#[test]
fn once_a_segment_is_due_no_smaller_record_slips_into_the_old_one() {
    let disk = SimDisk::default();
    let mut journal = open(&disk).unwrap();
    journal.append(&[1; 40]).unwrap();
    disk.fail(Some(Operation::Write), 0, Fault::NoSpace);
    assert!(matches!(journal.append(&[2; 100]), Err(WriteError::Start { .. })));
    // It would fit; but a file named after its position exists already, and may come back after a crash.
    journal.append(&[3; 1]).unwrap();
    assert_eq!(journal.cuts().collect::<Vec<_>>(), [Position(1)]);
}

#[test]
fn a_half_written_record_is_cut_away_even_where_the_cutting_fails_at_first() {
    let disk = SimDisk::default();
    let mut journal = open(&disk).unwrap();
    journal.append(b"before").unwrap();
    disk.fail(Some(Operation::Write), 0, Fault::Broken);
    disk.fail(Some(Operation::Truncate), 0, Fault::Broken);
    assert!(matches!(journal.append(&[7; 60]), Err(WriteError::Append { .. })));
    let size = || disk.contents(&segment(0)).unwrap().len() as u64;
    assert!(size() > journal.bytes(), "the half record is still there");
    disk.fail(Some(Operation::Truncate), 0, Fault::Broken);
    assert!(journal.append(b"").is_err(), "nothing is written over it");
    assert_eq!(journal.append(b"").unwrap(), Position(1));
    assert_eq!(size(), journal.bytes());
    assert_eq!(payloads(&journal, Position(0)), [&b"before"[..], b""]);
}

#[test]
fn a_segment_is_not_closed_over_the_remains_of_a_failed_write() {
    for cutting in [None, Some(Fault::Broken)] {
        let disk = SimDisk::default();
        let mut journal = open(&disk).unwrap();
        journal.append(&[1; 40]).unwrap();
        journal.sync().unwrap();
        disk.fail(Some(Operation::Write), 0, Fault::NoSpace);
        if let Some(fault) = cutting {
            disk.fail(Some(Operation::Truncate), 0, fault);
        }
        assert!(matches!(journal.append(&[2; 20]), Err(WriteError::Append { .. })));
        let remains = disk.unsynced_bytes();
        assert!(remains > 0);
        // Cut or not, the remains are on their way to the disk; the next record goes into a new segment.
        journal.append(&[3; 120]).unwrap();
        journal.sync().unwrap();
        drop(journal);
        disk.crash(Keep::First(remains), Keep::Nothing);
        assert_eq!(payloads(&open(&disk).unwrap(), Position(0)), [vec![1; 40], vec![3; 120]], "{cutting:?}");
    }
}

#[test]
fn a_failed_fsync_fails_every_later_write_and_names_its_cause() {
    for turn_of_segments in [false, true] {
        let disk = SimDisk::default();
        let mut journal = open(&disk).unwrap();
        journal.append(&[1; 90]).unwrap();
        disk.fail(Some(Operation::Sync), 0, Fault::Broken);
        let failed = if turn_of_segments { journal.append(&[2; 90]).map(drop) } else { journal.sync() };
        let error = failed.unwrap_err();
        assert!(error.to_string().contains(&segment(0)), "{error}");
        assert!(error.source().unwrap().to_string().contains("simulated input/output error"));
        assert!(matches!(journal.append(b"x"), Err(WriteError::Sync { .. })));
        assert!(matches!(journal.sync(), Err(WriteError::Sync { .. })));
        assert!(matches!(journal.cut_before(Position(1)), Err(WriteError::Sync { .. })));
        assert_eq!(journal.durable(), Position(0));
    }
}

#[test]
fn what_a_failed_fsync_left_in_the_page_cache_is_written_again_before_it_is_trusted() {
    let disk = SimDisk::default();
    let mut journal = open(&disk).unwrap();
    journal.append(b"durable").unwrap();
    journal.sync().unwrap();
    for _ in 0..2 {
        journal.append(b"doubtful").unwrap();
    }
    disk.fail(Some(Operation::Sync), 0, Fault::Broken);
    journal.sync().unwrap_err();
    drop(journal);
    let journal = open(&disk).unwrap();
    assert_eq!(journal.durable(), Position(3));
    drop(journal);
    disk.crash(Keep::Nothing, Keep::Nothing);
    assert_eq!(payloads(&open(&disk).unwrap(), Position(0)), [&b"durable"[..], b"doubtful", b"doubtful"]);
}

#[test]
fn a_segment_whose_name_was_not_durable_is_made_so_before_it_is_trusted() {
    let disk = SimDisk::default();
    let mut journal = open(&disk).unwrap();
    journal.append(&[1; 90]).unwrap();
    disk.fail(Some(Operation::SyncDirectory), 0, Fault::Broken);
    assert!(matches!(journal.append(&[2; 90]), Err(WriteError::Sync { .. })));
    drop(journal);
    let mut journal = open(&disk).unwrap();
    journal.append(&[3; 10]).unwrap();
    journal.sync().unwrap();
    drop(journal);
    disk.crash(Keep::Nothing, Keep::Nothing);
    assert_eq!(payloads(&open(&disk).unwrap(), Position(0)), [vec![1; 90], vec![3; 10]]);
}

#[test]
fn a_record_that_is_too_large_is_refused_and_changes_nothing() {
    let disk = SimDisk::default();
    let mut journal = open(&disk).unwrap();
    let error = journal.append(&vec![0; MAX_RECORD_BYTES + 1]).unwrap_err();
    assert!(matches!(error, WriteError::TooLarge { bytes } if bytes == MAX_RECORD_BYTES + 1));
    assert_eq!(journal.append(b"").unwrap(), Position(0));
    assert_eq!(payloads(&journal, Position(0)), [b""]);
}

#[test]
fn a_record_larger_than_a_segment_gets_one_of_its_own() {
    let disk = SimDisk::default();
    let mut journal = open(&disk).unwrap();
    for bytes in [10, 1000, 10] {
        journal.append(&vec![5; bytes]).unwrap();
    }
    assert_eq!(journal.cuts().collect::<Vec<_>>(), [Position(1), Position(2)]);
    assert_eq!(payloads(&journal, Position(0)).len(), 3);
}

#[test]
fn a_second_opener_is_told_that_the_journal_is_held() {
    let disk = SimDisk::default();
    let journal = open(&disk).unwrap();
    assert!(matches!(open(&disk), Err(OpenError::Held { .. })));
    drop(journal);
    open(&disk).unwrap();
}
