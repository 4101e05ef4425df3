//! Random lives of a journal, against a vector and a mark.

use journal::sim::{Fault, Keep, Operation, SimDisk};
use journal::{Journal, Position, WriteError};
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

use crate::{open, payloads};

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Sync,
    /// At a position, in 1/255 of all.
    Cut(u8),
    Read(u8),
    /// The process dies; the kernel lives.
    Kill,
    Crash {
        data: Keep,
        names: Keep,
    },
    Fail {
        operation: Option<Operation>,
        before: u64,
        fault: Fault,
    },
    Capacity(u64),
    Heal,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..90usize).prop_map(Step::Append),
        6 => Just(Step::Sync),
        2 => any::<u8>().prop_map(Step::Cut),
        2 => any::<u8>().prop_map(Step::Read),
        1 => Just(Step::Kill),
        2 => (keep(), keep()).prop_map(|(data, names)| Step::Crash { data, names }),
        3 => (operation(), 0..6u64, fault()).prop_map(|(operation, before, fault)| Step::Fail { operation, before, fault }),
        1 => (0..900u64).prop_map(Step::Capacity),
        2 => Just(Step::Heal),
    ]
}

fn keep() -> impl Strategy<Value = Keep> {
    prop_oneof![
        1 => Just(Keep::Nothing),
        1 => Just(Keep::Everything),
        1 => (0..200u64).prop_map(Keep::First),
        4 => any::<u64>().prop_map(Keep::Seeded),
    ]
}

fn operation() -> impl Strategy<Value = Option<Operation>> {
    let some = [
        Operation::Create,
        Operation::Write,
        Operation::Truncate,
        Operation::Sync,
        Operation::Remove,
        Operation::SyncDirectory,
    ];
    prop_oneof![Just(None), proptest::sample::select(some.to_vec()).prop_map(Some)]
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![2 => Just(Fault::NoSpace), 2 => Just(Fault::Broken), 1 => Just(Fault::PowerLoss)]
}

/// What must be true of the journal.
#[derive(Default)]
struct Model {
    /// By position; those before `first` may be gone.
    records: Vec<Vec<u8>>,
    durable: usize,
    /// No record before this may be missing.
    first: usize,
    /// No record from this on may be missing: the furthest cut that was asked for.
    cut: usize,
    poison: Poison,
    /// Whether anything was told to fail since all was well.
    faults: Faults,
    /// Distinguishes payloads of one length.
    serial: u8,
}

#[derive(Default, PartialEq, Eq)]
enum Poison {
    #[default]
    Clean,
    Poisoned,
}

#[derive(Default, PartialEq, Eq)]
enum Faults {
    #[default]
    None,
    Planned,
}

struct Life {
    disk: SimDisk,
    journal: Option<Journal<SimDisk>>,
    model: Model,
}

impl Life {
    fn begin() -> Self {
        let disk = SimDisk::default();
        let journal = Some(open(&disk).unwrap());
        Self { disk, journal, model: Model::default() }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Append(bytes) => self.append(*bytes),
            Step::Sync => self.sync(),
            Step::Cut(part) => self.cut(self.model.records.len() * usize::from(*part) / 255),
            Step::Read(part) => self.read(self.model.records.len() * usize::from(*part) / 255),
            Step::Kill => self.reopen(),
            Step::Crash { data, names } => self.crash(*data, *names),
            Step::Fail { operation, before, fault } => {
                self.model.faults = Faults::Planned;
                self.disk.fail(*operation, *before, *fault);
            }
            Step::Capacity(bytes) => {
                self.model.faults = Faults::Planned;
                self.disk.set_capacity(*bytes);
            }
            Step::Heal => self.heal(),
        }
        if self.disk.is_off() {
            self.crash(Keep::Seeded(self.model.records.len() as u64), Keep::Seeded(self.model.durable as u64));
        }
        self.check_marks();
    }

    fn journal(&mut self) -> &mut Journal<SimDisk> {
        self.journal.as_mut().unwrap()
    }

    fn append(&mut self, bytes: usize) {
        self.model.serial = self.model.serial.wrapping_add(1);
        let payload = vec![self.model.serial; bytes];
        match self.journal().append(&payload) {
            Ok(position) => {
                assert!(self.model.poison == Poison::Clean, "a poisoned journal takes nothing");
                assert_eq!(position, Position(self.model.records.len() as u64));
                self.model.records.push(payload);
            }
            Err(error) => {
                self.failed(&error);
                // The power went: the record may be there after all.
                if self.disk.is_off() {
                    self.model.records.push(payload);
                }
            }
        }
    }

    fn sync(&mut self) {
        match self.journal().sync() {
            Ok(()) => {
                assert!(self.model.poison == Poison::Clean, "a poisoned journal promises nothing");
                self.model.durable = self.model.records.len();
            }
            Err(error) => self.failed(&error),
        }
    }

    fn cut(&mut self, at: usize) {
        self.model.cut = self.model.cut.max(at);
        match self.journal().cut_before(Position(at as u64)) {
            Ok(first) => {
                assert!(first <= Position(at.max(self.model.first) as u64), "only what lies before is cut");
                let next_cut = self.journal().cuts().next();
                assert!(next_cut.is_none_or(|cut| cut > Position(at as u64)), "whole segments before it are gone");
                self.model.first = first.0 as usize;
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &WriteError) {
        let poisons = matches!(error, WriteError::Sync { .. });
        assert!(
            self.model.faults == Faults::Planned || self.model.poison == Poison::Poisoned,
            "{error:?} out of nothing"
        );
        assert!(poisons || self.model.poison == Poison::Clean, "poison stays");
        if poisons {
            self.model.poison = Poison::Poisoned;
        }
    }

    /// Reads from anywhere; planned faults would only make it stop early.
    fn read(&mut self, from: usize) {
        self.heal();
        let from = from.max(self.journal().first().0 as usize);
        let read = payloads(self.journal(), Position(from as u64));
        assert_eq!(read, self.model.records[from..]);
        let durable = self.journal().reader(Position(from as u64)).count();
        assert_eq!(durable, self.model.durable.saturating_sub(from));
    }

    fn heal(&mut self) {
        self.disk.heal();
        self.model.faults = Faults::None;
    }

    fn crash(&mut self, data: Keep, names: Keep) {
        self.journal = None;
        self.disk.crash(data, names);
        self.model.faults = Faults::None;
        self.open();
        let next = self.journal().next().0 as usize;
        assert!(next >= self.model.durable, "{next} left of {} durable", self.model.durable);
        assert!(next <= self.model.records.len());
        self.model.records.truncate(next);
        self.opened();
    }

    fn reopen(&mut self) {
        self.journal = None;
        self.open();
        if self.disk.is_off() {
            return;
        }
        assert_eq!(self.journal().next(), Position(self.model.records.len() as u64), "the kernel has all of it");
        self.opened();
    }

    /// Opens, which may fail as long as faults are planned, and must then have done no harm.
    fn open(&mut self) {
        while self.journal.is_none() {
            match open(&self.disk) {
                Ok(journal) => self.journal = Some(journal),
                Err(error) => {
                    assert!(self.model.faults == Faults::Planned, "{error}");
                    if self.disk.is_off() {
                        return self.crash(Keep::Seeded(7), Keep::Seeded(7));
                    }
                    self.heal();
                }
            }
        }
    }

    fn opened(&mut self) {
        self.model.poison = Poison::Clean;
        self.model.durable = self.model.records.len();
        self.model.first = self.journal().first().0 as usize;
        assert!(self.model.first <= self.model.cut, "nothing is gone that was not cut");
        if self.model.faults == Faults::None {
            self.read(0);
        }
    }

    fn check_marks(&mut self) {
        let (durable, next) = (self.journal().durable().0 as usize, self.journal().next().0 as usize);
        assert_eq!(next, self.model.records.len());
        assert!(durable >= self.model.durable && durable <= next);
        // A new segment makes the old one durable: from here on that is a promise too.
        self.model.durable = durable;
        let first = self.journal().first().0 as usize;
        assert!(first >= self.model.first && first <= self.model.cut);
        self.model.first = first;
    }
}

proptest! {
    #[test]
    fn a_journal_is_a_vector_with_a_durable_mark_whatever_happens(steps in proptest::collection::vec(step(), 1..80)) {
        let mut life = Life::begin();
        for step in &steps {
            life.take(step);
        }
        life.crash(Keep::Seeded(steps.len() as u64), Keep::Nothing);
    }
}
