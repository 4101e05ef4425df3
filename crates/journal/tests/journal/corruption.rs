//! Damage to what was durable is refused by name; a torn tail is cut.

use std::path::PathBuf;

use journal::sim::SimDisk;
use journal::{Corruption, Damage, Disk, Journal, OpenError, Options, Position, ReadError, Recovery};

use crate::{open, payloads, segment};

const SEGMENT_HEADER: usize = 32;
const RECORD_HEADER: usize = 28;
const PAYLOAD: usize = 20;
const RECORD: usize = RECORD_HEADER + PAYLOAD;

/// How many fsyncs records share.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Synced {
    Each,
    Together,
}

/// Two records fill a segment.
fn written(records: u8, synced: Synced) -> SimDisk {
    let disk = SimDisk::default();
    let mut journal = open(&disk).unwrap();
    for record in 0..records {
        journal.append(&[record; PAYLOAD]).unwrap();
        if synced == Synced::Each {
            journal.sync().unwrap();
        }
    }
    journal.sync().unwrap();
    disk
}

fn damage(disk: &SimDisk, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = disk.contents(name).unwrap();
    change(&mut bytes);
    disk.plant(name, &bytes);
}

fn refused(disk: &SimDisk) -> Corruption {
    match open(disk).map(drop) {
        Err(OpenError::Corrupt(corruption)) => corruption,
        other => panic!("{other:?}"),
    }
}

fn file(first: u64) -> PathBuf {
    PathBuf::from("sim").join(segment(first))
}

#[test]
fn any_flipped_byte_of_a_closed_segment_is_refused_with_the_record_it_hits() {
    for byte in 0..SEGMENT_HEADER + 2 * RECORD {
        let disk = written(3, Synced::Each);
        damage(&disk, &segment(0), |bytes| bytes[byte] ^= 0x40);
        let (offset, damage) = match byte.checked_sub(SEGMENT_HEADER) {
            None => (0, Damage::Header),
            Some(byte) => {
                let record = byte / RECORD;
                ((SEGMENT_HEADER + record * RECORD) as u64, Damage::Record(Position(record as u64)))
            }
        };
        assert_eq!(refused(&disk), Corruption { file: file(0), offset, damage }, "byte {byte}");
    }
}

#[test]
fn a_closed_segment_that_is_cut_short_or_has_a_tail_is_refused() {
    for change in [|bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 1), |bytes: &mut Vec<u8>| bytes.push(0)] {
        let disk = written(3, Synced::Each);
        damage(&disk, &segment(0), change);
        assert_eq!(refused(&disk).file, file(0));
    }
    let disk = written(3, Synced::Each);
    damage(&disk, &segment(0), |bytes| bytes.truncate(SEGMENT_HEADER + RECORD));
    assert_eq!(refused(&disk).damage, Damage::Gap { expected: Position(1), found: Position(2) });
}

#[test]
fn damage_before_a_record_that_proves_an_fsync_is_refused() {
    for byte in SEGMENT_HEADER..SEGMENT_HEADER + RECORD {
        let disk = written(2, Synced::Each);
        damage(&disk, &segment(0), |bytes| bytes[byte] ^= 1);
        let damage = Damage::Record(Position(0));
        assert_eq!(refused(&disk), Corruption { file: file(0), offset: SEGMENT_HEADER as u64, damage }, "byte {byte}");
    }
}

#[test]
fn a_lost_record_is_noticed_though_the_ones_around_it_are_whole() {
    let disk = written(2, Synced::Each);
    damage(&disk, &segment(0), |bytes| drop(bytes.drain(SEGMENT_HEADER..SEGMENT_HEADER + RECORD)));
    assert_eq!(refused(&disk).damage, Damage::Record(Position(0)));
}

#[test]
fn the_proof_is_found_far_behind_the_damage() {
    let disk = SimDisk::default();
    let mut journal = open(&disk).unwrap();
    journal.append(&vec![0; 200_000]).unwrap();
    drop(journal);
    // A large segment, so that both records share it.
    let mut journal = Journal::open(disk.clone(), Options { segment_bytes: 1 << 20 }).unwrap();
    journal.append(b"proof").unwrap();
    drop(journal);
    damage(&disk, &segment(0), |bytes| bytes[SEGMENT_HEADER + 500] ^= 1);
    assert_eq!(refused(&disk).damage, Damage::Record(Position(0)));
}

#[test]
fn damage_with_no_proof_behind_it_is_a_torn_tail_and_is_cut_and_reported() {
    for byte in SEGMENT_HEADER + RECORD..SEGMENT_HEADER + 2 * RECORD {
        let disk = written(2, Synced::Each);
        damage(&disk, &segment(0), |bytes| bytes[byte] ^= 1);
        let journal = open(&disk).unwrap();
        let offset = (SEGMENT_HEADER + RECORD) as u64;
        assert_eq!(journal.recovery(), &Recovery::Torn { file: file(0), offset, bytes: RECORD as u64 });
        assert_eq!(payloads(&journal, Position(0)), [[0; PAYLOAD]]);
        drop(journal);
        assert_eq!(open(&disk).unwrap().recovery(), &Recovery::Whole);
    }
}

#[test]
fn a_hole_in_the_last_group_is_torn_with_all_that_lies_behind_it() {
    let disk = written(2, Synced::Together);
    damage(&disk, &segment(0), |bytes| bytes[SEGMENT_HEADER] ^= 1);
    let journal = open(&disk).unwrap();
    assert_eq!(journal.next(), Position(0));
    assert_eq!(disk.contents(&segment(0)).unwrap().len(), SEGMENT_HEADER);
}

#[test]
fn a_payload_that_quotes_a_journal_is_not_taken_for_proof() {
    let quoted = written(2, Synced::Each).contents(&segment(0)).unwrap();
    let disk = SimDisk::default();
    let mut journal = open(&disk).unwrap();
    journal.append(&quoted).unwrap();
    drop(journal);
    damage(&disk, &segment(0), |bytes| bytes.truncate(bytes.len() - 1));
    assert_eq!(open(&disk).unwrap().next(), Position(0));
}

#[test]
fn a_garbage_length_is_not_believed() {
    let disk = written(1, Synced::Each);
    damage(&disk, &segment(0), |bytes| bytes[SEGMENT_HEADER + 4..SEGMENT_HEADER + 8].fill(0xff));
    assert_eq!(open(&disk).unwrap().next(), Position(0));
}

#[test]
fn a_missing_segment_is_refused_by_the_name_of_the_next() {
    let disk = written(6, Synced::Each);
    disk.remove(&segment(2)).unwrap();
    let damage = Damage::Gap { expected: Position(2), found: Position(4) };
    assert_eq!(refused(&disk), Corruption { file: file(4), offset: 0, damage });
}

#[test]
fn a_segment_under_a_wrong_name_is_refused() {
    let disk = written(3, Synced::Each);
    let bytes = disk.contents(&segment(0)).unwrap();
    disk.plant(&segment(2), &bytes);
    assert_eq!(refused(&disk).damage, Damage::Name { name: Position(2), header: Position(0) });
}

#[test]
fn a_damaged_header_before_records_is_refused_and_one_that_was_never_finished_is_written_anew() {
    let disk = written(3, Synced::Each);
    damage(&disk, &segment(2), |bytes| bytes[20] ^= 1);
    assert_eq!(refused(&disk), Corruption { file: file(2), offset: 0, damage: Damage::Header });
    for bytes in 0..SEGMENT_HEADER {
        let disk = written(2, Synced::Each);
        disk.plant(&segment(2), &vec![0; bytes]);
        let mut journal = open(&disk).unwrap();
        assert_eq!(journal.append(b"next").unwrap(), Position(2));
        assert_eq!(payloads(&journal, Position(2)), [b"next"]);
    }
}

#[test]
fn a_newer_version_is_refused_with_the_advice_to_use_the_program_that_wrote_it() {
    let disk = written(1, Synced::Each);
    damage(&disk, &segment(0), |bytes| {
        bytes[8] = 2;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..SEGMENT_HEADER]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    });
    let error = open(&disk).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Version { found: 2, .. }));
    assert!(error.to_string().contains("use the program that wrote it"), "{error}");
}

#[test]
fn a_refusal_says_where_and_that_nothing_was_changed() {
    let disk = written(3, Synced::Each);
    damage(&disk, &segment(0), |bytes| bytes[SEGMENT_HEADER + RECORD] ^= 1);
    assert_eq!(
        refused(&disk).to_string(),
        "sim/00000000000000000000.segment is damaged at byte 80: record 1 fails its checksum or is cut short; this was \
         durable once, so it is no torn write, and nothing was changed"
    );
}

#[test]
fn damage_that_comes_while_the_journal_is_open_stops_the_reader_by_name() {
    let disk = SimDisk::default();
    let mut journal = open(&disk).unwrap();
    for record in 0..2 {
        journal.append(&[record; PAYLOAD]).unwrap();
    }
    damage(&disk, &segment(0), |bytes| bytes[SEGMENT_HEADER + RECORD] ^= 1);
    let mut reader = journal.read(Position(0));
    assert_eq!(reader.next().unwrap().unwrap(), (Position(0), vec![0; PAYLOAD]));
    match reader.next() {
        Some(Err(ReadError::Corrupt(found))) => assert_eq!(found.damage, Damage::Record(Position(1))),
        other => panic!("{other:?}"),
    }
    assert!(reader.next().is_none());
}
