//! Group commit: order, groups, refusals, faults.

use std::sync::mpsc::{Receiver, Sender, channel};

use journal::sim::{Fault, Keep, Operation, SimDisk};
use journal::{Committer, Position, QueueLimits, SubmitError, WriteError};

use crate::{open, payloads, segment};

const LIMITS: QueueLimits = QueueLimits { records: 100, bytes: 10_000 };

/// What the callback of a labelled record was told.
type Told = (u64, Result<Position, WriteError>);

/// A committer whose thread is held up in the callback of record 0 until `release` is dropped, so that what is submitted
/// meanwhile becomes one group.
struct Held {
    /// Dropped first: a test that fails must not wait for the thread it holds up.
    release: Sender<()>,
    disk: SimDisk,
    committer: Committer<SimDisk>,
    told: Receiver<Told>,
    teller: Sender<Told>,
}

impl Held {
    fn new(limits: QueueLimits) -> Self {
        let disk = SimDisk::default();
        let committer = Committer::start(open(&disk).unwrap(), "test-journal", limits).unwrap();
        let (teller, told) = channel();
        let (release, released) = channel::<()>();
        let (entered, in_callback) = channel();
        committer
            .submit(b"first".to_vec(), move |position| {
                assert_eq!(position.unwrap(), Position(0));
                assert_eq!(std::thread::current().name(), Some("test-journal"));
                entered.send(()).unwrap();
                assert!(released.recv().is_err());
            })
            .unwrap();
        in_callback.recv().unwrap();
        Self { release, disk, committer, told, teller }
    }

    fn submit(&self, label: u64, bytes: usize) -> Result<(), SubmitError> {
        let teller = self.teller.clone();
        self.committer.submit(vec![label as u8; bytes], move |result| teller.send((label, result)).unwrap())
    }

    /// Lets the thread go, ends the committer, and returns the disk and what the callbacks were told.
    fn finish(self) -> (SimDisk, Vec<Told>) {
        drop(self.release);
        self.committer.shutdown();
        drop(self.teller);
        (self.disk, self.told.iter().collect())
    }
}

#[test]
fn what_waits_is_committed_with_one_fsync_and_told_in_order() {
    let held = Held::new(LIMITS);
    let before = held.disk.count(Operation::Sync);
    for label in 1..=2 {
        held.submit(label, 5).unwrap();
    }
    let (disk, told) = held.finish();
    assert_eq!(disk.count(Operation::Sync) - before, 1);
    let told: Vec<_> = told.into_iter().map(|(label, result)| (label, result.unwrap())).collect();
    assert_eq!(told, [(1, Position(1)), (2, Position(2))]);
}

#[test]
fn many_threads_share_few_fsyncs_and_everything_told_durable_survives() {
    let disk = SimDisk::default();
    let journal = journal::Journal::open(disk.clone(), journal::Options::default()).unwrap();
    let committer = Committer::start(journal, "test-journal", LIMITS).unwrap();
    let (teller, told) = channel();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (committer, teller) = (&committer, teller.clone());
            scope.spawn(move || {
                for record in 0..250 {
                    let label = thread * 1000 + record;
                    loop {
                        let teller = teller.clone();
                        let told = move |position: Result<Position, WriteError>| {
                            teller.send((label, position.unwrap())).unwrap();
                        };
                        match committer.submit(label.to_le_bytes(), told) {
                            Ok(()) => break,
                            Err(SubmitError::Full { .. }) => std::thread::yield_now(),
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            });
        }
    });
    committer.shutdown();
    drop(teller);
    assert!(disk.count(Operation::Sync) < 1000, "{} fsyncs for 1000 records", disk.count(Operation::Sync));
    disk.crash(Keep::Nothing, Keep::Nothing);
    let kept = payloads(&open(&disk).unwrap(), Position(0));
    let told: Vec<(u64, Position)> = told.iter().collect();
    assert_eq!(told.len(), 1000);
    for (index, (label, position)) in told.iter().enumerate() {
        assert_eq!(position.0, index as u64, "told in order");
        assert_eq!(kept[index], label.to_le_bytes());
    }
    for thread in 0..4 {
        let of_thread = told.iter().map(|(label, _)| *label).filter(|label| label / 1000 == thread);
        assert!(of_thread.is_sorted(), "in the order of submission");
    }
}

#[test]
fn a_record_is_durable_before_it_is_told() {
    let disk = SimDisk::default();
    let committer = Committer::start(open(&disk).unwrap(), "test-journal", LIMITS).unwrap();
    let (teller, told) = channel();
    let crashed = disk.clone();
    committer
        .submit(b"acknowledged".to_vec(), move |position| {
            crashed.crash(Keep::Nothing, Keep::Nothing);
            teller.send(position.unwrap()).unwrap();
        })
        .unwrap();
    assert_eq!(told.recv().unwrap(), Position(0));
    committer.shutdown();
    assert_eq!(payloads(&open(&disk).unwrap(), Position(0)), [b"acknowledged"]);
}

#[test]
fn a_full_queue_refuses_at_once_by_count_and_by_bytes() {
    let held = Held::new(QueueLimits { records: 2, bytes: 100 });
    held.submit(1, 60).unwrap();
    assert_eq!(held.submit(2, 41), Err(SubmitError::Full { records: 1, bytes: 60 }));
    held.submit(3, 40).unwrap();
    assert_eq!(held.submit(4, 0), Err(SubmitError::Full { records: 2, bytes: 100 }));
    let (_, told) = held.finish();
    assert_eq!(told.iter().map(|(label, _)| *label).collect::<Vec<_>>(), [1, 3], "the refused are never told");
}

#[test]
fn a_record_larger_than_the_queue_is_taken_when_nothing_else_waits() {
    let held = Held::new(QueueLimits { records: 2, bytes: 100 });
    held.submit(1, 500).unwrap();
    let (_, told) = held.finish();
    assert!(told[0].1.is_ok());
}

#[test]
fn a_record_that_finds_no_room_gets_its_error_while_the_others_proceed() {
    let held = Held::new(LIMITS);
    let room = 200;
    held.disk.set_capacity(held.committer.bytes() + room);
    held.submit(1, 10).unwrap();
    held.submit(2, 400).unwrap();
    held.submit(3, 10).unwrap();
    let (disk, told) = held.finish();
    assert_eq!(told.iter().map(|(label, _)| *label).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(*told[0].1.as_ref().unwrap(), Position(1));
    assert!(told[1].1.as_ref().unwrap_err().is_no_space());
    assert_eq!(*told[2].1.as_ref().unwrap(), Position(2));
    disk.crash(Keep::Nothing, Keep::Nothing);
    assert_eq!(payloads(&open(&disk).unwrap(), Position(1)), [[1; 10], [3; 10]]);
}

#[test]
fn a_cut_makes_room_for_the_group_behind_it() {
    let held = Held::new(LIMITS);
    for label in 1..=6 {
        held.submit(label, 90).unwrap();
    }
    let (disk, told) = held.finish();
    assert!(told.iter().all(|(_, result)| result.is_ok()));

    let committer = Committer::start(open(&disk).unwrap(), "test-journal", LIMITS).unwrap();
    disk.set_capacity(committer.bytes());
    committer.cut_before(Position(3));
    committer.cut_before(Position(5));
    let (teller, told) = channel();
    committer.submit(vec![0; 90], move |result| teller.send(result).unwrap()).unwrap();
    assert_eq!(told.recv().unwrap().unwrap(), Position(7));
    assert_eq!(committer.first(), Position(5));
    assert!(disk.contents(&segment(5)).is_some() && disk.contents(&segment(4)).is_none());
}

#[test]
fn a_failed_fsync_fails_its_group_and_everything_after() {
    let held = Held::new(LIMITS);
    held.disk.fail(Some(Operation::Sync), 0, Fault::Broken);
    held.submit(1, 10).unwrap();
    held.submit(2, 10).unwrap();
    let Held { release, disk, committer, told, teller } = held;
    drop(release);
    for label in [1, 2] {
        let (told, result) = told.recv().unwrap();
        assert_eq!(told, label);
        assert!(matches!(result, Err(WriteError::Sync { .. })), "{result:?}");
    }
    committer.submit(b"later".to_vec(), move |result| teller.send((3, result)).unwrap()).unwrap();
    assert!(matches!(told.recv().unwrap(), (3, Err(WriteError::Sync { .. }))));
    assert_eq!(committer.durable(), Position(1));
    committer.shutdown();
    disk.crash(Keep::Nothing, Keep::Nothing);
    assert_eq!(open(&disk).unwrap().next(), Position(1));
}

#[test]
fn shutdown_commits_what_was_accepted_and_frees_the_directory() {
    let held = Held::new(LIMITS);
    for label in 1..=20 {
        held.submit(label, 10).unwrap();
    }
    let (disk, told) = held.finish();
    assert_eq!(told.len(), 20);
    assert_eq!(open(&disk).unwrap().durable(), Position(21));
}

#[test]
fn a_reader_sees_what_is_durable_and_goes_on_when_there_is_more() {
    let held = Held::new(LIMITS);
    let mut reader = held.committer.reader(Position(0));
    assert_eq!(reader.next().unwrap().unwrap(), (Position(0), b"first".to_vec()));
    held.submit(1, 90).unwrap();
    held.submit(2, 90).unwrap();
    assert!(reader.next().is_none(), "submitted is not durable");
    held.finish();
    let rest: Vec<Position> = reader.by_ref().map(|record| record.unwrap().0).collect();
    assert_eq!(rest, [Position(1), Position(2)]);
    reader.seek(Position(1));
    assert_eq!(reader.next().unwrap().unwrap(), (Position(1), vec![1; 90]));
    assert_eq!(reader.at(), Position(2));
}

#[test]
fn after_a_panic_in_a_callback_nothing_is_accepted_and_nobody_waits() {
    let disk = SimDisk::default();
    let committer = Committer::start(open(&disk).unwrap(), "test-journal", LIMITS).unwrap();
    let (teller, told) = channel::<()>();
    committer
        .submit(b"".to_vec(), move |_| {
            let _teller = teller;
            panic!("on purpose");
        })
        .unwrap();
    assert!(told.recv().is_err());
    loop {
        let (teller, told) = channel::<()>();
        match committer.submit(b"".to_vec(), move |_| drop(teller)) {
            Err(SubmitError::Stopped) => break,
            Ok(()) => assert!(told.recv().is_err(), "dropped uncalled"),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn without_a_thread_what_is_submitted_waits_for_a_step_and_is_one_group() {
    let disk = SimDisk::default();
    let (committer, mut worker) = Committer::new(open(&disk).unwrap(), LIMITS);
    let (teller, told) = channel();
    let before = disk.count(Operation::Sync);
    for label in 0..3 {
        let teller = teller.clone();
        committer.submit(vec![label], move |result| teller.send(result.unwrap()).unwrap()).unwrap();
    }
    assert!(told.try_recv().is_err());
    worker.step();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [0, 1, 2].map(Position));
    assert_eq!(disk.count(Operation::Sync), before + 1);
    worker.step();
    assert_eq!(disk.count(Operation::Sync), before + 1, "nothing waited");

    committer.submit(vec![3], move |result| teller.send(result.unwrap()).unwrap()).unwrap();
    drop(worker);
    assert!(told.recv().is_err(), "dropped uncalled");
    assert!(matches!(committer.submit(vec![4], |_| ()), Err(SubmitError::Stopped)));
}
