//! The same promises on real files.

use std::fs::{self, OpenOptions};

use journal::{Disk, Journal, OpenError, Options, Position, ReadError, RealDisk};
use tempfile::TempDir;

use crate::{OPTIONS, payloads, segment};

fn open(directory: &TempDir) -> Result<Journal, OpenError> {
    Journal::open(RealDisk::open(directory.path().join("a/b")).unwrap(), OPTIONS)
}

fn fill(journal: &mut Journal, records: u8) {
    for record in 0..records {
        journal.append(&[record; 40]).unwrap();
    }
    journal.sync().unwrap();
}

#[test]
fn records_are_there_after_a_restart() {
    let directory = TempDir::new().unwrap();
    let mut journal = open(&directory).unwrap();
    assert_eq!((journal.first(), journal.next(), journal.durable()), (Position(0), Position(0), Position(0)));
    fill(&mut journal, 9);
    drop(journal);
    let journal = open(&directory).unwrap();
    assert_eq!((journal.first(), journal.next(), journal.durable()), (Position(0), Position(9), Position(9)));
    assert_eq!(payloads(&journal, Position(0)), (0..9).map(|record| vec![record; 40]).collect::<Vec<_>>());
    let on_disk: u64 =
        fs::read_dir(directory.path().join("a/b")).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert_eq!(journal.bytes(), on_disk, "the lock is empty");
}

#[test]
fn a_torn_tail_is_cut_from_the_file() {
    let directory = TempDir::new().unwrap();
    let mut journal = open(&directory).unwrap();
    fill(&mut journal, 1);
    drop(journal);
    let path = directory.path().join("a/b").join(segment(0));
    let size = fs::metadata(&path).unwrap().len();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(size + 11).unwrap();
    let journal = open(&directory).unwrap();
    assert_eq!(journal.next(), Position(1));
    assert_eq!(fs::metadata(&path).unwrap().len(), size);
}

#[test]
fn a_cut_removes_files_and_a_reader_of_them_is_told() {
    let directory = TempDir::new().unwrap();
    let mut journal = open(&directory).unwrap();
    fill(&mut journal, 9);
    let cuts: Vec<Position> = journal.cuts().collect();
    let before = journal.bytes();
    // One position short of the second segment's end: only the first segment goes.
    assert_eq!(journal.cut_before(Position(cuts[1].0 - 1)).unwrap(), cuts[0]);
    assert!(journal.bytes() < before);
    assert!(!directory.path().join("a/b").join(segment(0)).exists());
    match journal.read(Position(0)).next() {
        Some(Err(ReadError::Cut { wanted, first })) => assert_eq!((wanted, first), (Position(0), cuts[0])),
        other => panic!("{other:?}"),
    }
    // Never the active one, whatever is asked.
    let last = *cuts.last().unwrap();
    assert_eq!(journal.cut_before(Position(u64::MAX)).unwrap(), last);
    assert_eq!(payloads(&journal, last).len() as u64, 9 - last.0);
    drop(journal);
    assert_eq!(open(&directory).unwrap().first(), last);
}

#[test]
fn one_process_at_a_time_holds_the_lock() {
    let directory = TempDir::new().unwrap();
    let journal = open(&directory).unwrap();
    let error = open(&directory).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Held { .. }));
    assert!(error.to_string().contains("a/b/lock is held by another process"), "{error}");
    drop(journal);
    open(&directory).unwrap();
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error_of_the_disk() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, b"").unwrap();
    assert!(RealDisk::open(file.join("journal")).is_err());
}

#[test]
fn foreign_files_in_the_directory_are_left_alone() {
    let directory = TempDir::new().unwrap();
    let mut journal = open(&directory).unwrap();
    let disk = RealDisk::open(directory.path().join("a/b")).unwrap();
    fs::write(disk.path("notes.txt"), b"mine").unwrap();
    fill(&mut journal, 9);
    journal.cut_before(Position(9)).unwrap();
    drop(journal);
    open(&directory).unwrap();
    assert_eq!(fs::read(disk.path("notes.txt")).unwrap(), b"mine");
}

#[test]
fn a_reader_on_another_thread_follows_through_segments() {
    let directory = TempDir::new().unwrap();
    let mut journal =
        Journal::open(RealDisk::open(directory.path()).unwrap(), Options { segment_bytes: 4096 }).unwrap();
    let mut reader = journal.reader(Position(0));
    let reading = std::thread::spawn(move || {
        let mut seen = 0u64;
        while seen < 2000 {
            match reader.next() {
                Some(record) => {
                    let (position, payload) = record.unwrap();
                    assert_eq!((position, payload), (Position(seen), seen.to_le_bytes().to_vec()));
                    seen += 1;
                }
                None => std::thread::yield_now(),
            }
        }
    });
    for record in 0..2000u64 {
        journal.append(&record.to_le_bytes()).unwrap();
        if record % 50 == 49 {
            journal.sync().unwrap();
        }
    }
    reading.join().unwrap();
}

#[test]
fn a_journal_may_begin_where_another_was_cut_and_nowhere_that_has_one() {
    let directory = TempDir::new().unwrap();
    let disk = || RealDisk::open(directory.path().join("a/b")).unwrap();
    let mut journal = Journal::begin(disk(), Position(70), OPTIONS).unwrap();
    assert_eq!((journal.first(), journal.next()), (Position(70), Position(70)));
    fill(&mut journal, 9);
    drop(journal);
    assert!(matches!(Journal::begin(disk(), Position(70), OPTIONS), Err(OpenError::Begun { .. })));
    let journal = open(&directory).unwrap();
    assert_eq!((journal.first(), journal.next()), (Position(70), Position(79)));
    assert_eq!(payloads(&journal, Position(70)).len(), 9);
}
