//! Random lives of a spool whose disk is full, fails, loses what an fsync was asked for, and loses power.

use proptest::sample::select;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Offer(Vec<usize>),
    Take(Lane),
    Fail {
        operation: Option<Operation>,
        before: u64,
        fault: Fault,
    },
    /// So much is left.
    Full(u64),
    Heal,
    /// The process dies; the kernel lives.
    Kill,
    Crash(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let operations =
        [Operation::Create, Operation::Open, Operation::Read, Operation::Write, Operation::Truncate, Operation::Sync];
    let operations = [&operations[..], &[Operation::Remove, Operation::SyncDirectory]].concat();
    let operation = prop_oneof![1 => Just(None), 3 => select(operations).prop_map(Some)];
    let fault = select(vec![Fault::NoSpace, Fault::Broken]);
    prop_oneof![
        8 => vec(1..120_usize, 1..4).prop_map(Step::Offer),
        4 => select(vec![Lane::Newest, Lane::Oldest]).prop_map(Step::Take),
        3 => (operation, 0..8_u64, fault).prop_map(|(operation, before, fault)| Step::Fail { operation, before, fault }),
        1 => (0..800_u64).prop_map(Step::Full),
        2 => Just(Step::Heal),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(Step::Crash),
    ]
}

/// What must be true of the spool.
#[derive(Default)]
struct Model {
    ever: BTreeMap<Name, Bytes>,
    taken: BTreeSet<Name>,
    /// Those of which nothing says that the disk has them.
    in_memory: BTreeSet<Name>,
    /// Those that were in memory when their process died.
    died: BTreeSet<Name>,
    health: Health,
}

/// Of the disk.
#[derive(Default, PartialEq, Eq)]
enum Health {
    #[default]
    Well,
    /// Something was told to fail.
    Troubled,
    /// Well again, and the spool does not know yet.
    Healed,
}

struct Life {
    disk: SimDisk,
    limits: Limits,
    boot: u128,
    last: u64,
    /// Each offer is so much later that a disk that failed is tried again.
    now: Wall,
    spool: Stored<SimDisk>,
    model: Model,
}

impl Life {
    fn begin(limits: Limits) -> Self {
        let (disk, model) = (SimDisk::default(), Model::default());
        let spool = Stored::open(disk.clone(), Boot(1), limits);
        Self { disk, limits, boot: 1, last: 0, now: Wall::from_secs(1000), spool, model }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Offer(lengths) => self.offer(&lengths),
            Step::Take(lane) => {
                if let Some(Batch { name, body }) = self.spool.next(lane) {
                    assert_eq!(self.model.ever.get(&name), Some(&body), "{name:?} was never offered so");
                    self.spool.forget(name);
                    self.model.taken.insert(name);
                }
            }
            Step::Fail { operation, before, fault } => {
                self.model.health = Health::Troubled;
                self.disk.fail(operation, before, fault);
            }
            Step::Full(left) => {
                self.model.health = Health::Troubled;
                self.disk.set_capacity(self.disk.bytes() + left);
            }
            Step::Heal => self.heal(),
            Step::Kill => self.restart(|_| ()),
            Step::Crash(seed) => {
                self.restart(|disk| disk.crash(Keep::Seeded(seed), Keep::Seeded(seed >> 1)));
                self.model.health = Health::Well;
            }
        }
    }

    fn offer(&mut self, lengths: &[usize]) {
        self.now += Duration::from_secs(11);
        let numbers = self.last + 1..=self.last + lengths.len() as u64;
        let bodies: Vec<_> = numbers.clone().zip(lengths).map(|(number, length)| body(number, *length)).collect();
        let offered = self.spool.offer(bodies.clone(), Vec::new(), self.now);
        self.last = *numbers.end();
        let names: Vec<_> = numbers.map(|number| name(self.boot, number)).collect();
        self.model.ever.extend(names.iter().copied().zip(bodies));
        self.model.in_memory.extend(names);
        if offered.unwritten == 0 && self.model.health != Health::Troubled {
            self.model.health = Health::Well;
            self.model.in_memory.clear();
        }
    }

    fn heal(&mut self) {
        self.disk.heal();
        self.model.health = Health::Healed;
    }

    fn restart(&mut self, between: impl FnOnce(&SimDisk)) {
        self.model.died.append(&mut self.model.in_memory);
        if self.model.health != Health::Well {
            // The disk may have refused to say so.
            let numbers = |gap: Gap| (gap.from.0..=gap.to.0).map(move |number| name(gap.boot.0, number));
            self.model.died.extend(self.spool.gaps().into_iter().flat_map(numbers));
        }
        // The lock of the one before must be free.
        self.spool = Stored::open(SimDisk::default(), Boot(0), self.limits);
        between(&self.disk);
        (self.boot, self.last) = (self.boot + 1, 0);
        self.spool = Stored::open(self.disk.clone(), Boot(self.boot), self.limits);
    }

    fn check(mut self) {
        self.heal();
        self.offer(&[1]);
        assert!(self.model.in_memory.is_empty(), "the disk is well, and takes all that waits");
        self.restart(|disk| disk.crash(Keep::Nothing, Keep::Nothing));
        let gaps = self.spool.gaps();
        let is_lost =
            |name: &Name| gaps.iter().any(|gap| gap.boot == name.boot && (gap.from..=gap.to).contains(&name.sequence));
        let drained = drained(&mut self.spool);
        let left: BTreeMap<_, _> = drained.iter().cloned().collect();
        assert_eq!(left.len(), drained.len(), "one is there twice");
        let Model { ever, taken, died, .. } = self.model;
        for (name, body) in &left {
            assert_eq!(ever.get(name), Some(body), "{name:?} was never offered so");
            assert!(!is_lost(name), "{name:?} is there, and said to be lost");
        }
        for name in ever.keys().filter(|name| !taken.contains(name) && !died.contains(name)) {
            assert!(left.contains_key(name) || is_lost(name), "{name:?} is gone, and no gap says so");
        }
    }
}

proptest! {
    #[test]
    fn whatever_the_disk_does_what_it_took_is_there_or_named_by_a_gap(
        steps in vec(step(), 1..120),
        bytes in select(vec![1_u64 << 20, 4000, 1600]),
    ) {
        let mut life = Life::begin(Limits { bytes, ..ROOMY });
        for step in steps {
            life.take(step);
        }
        life.check();
    }
}

#[test]
fn what_had_to_go_from_a_full_disk_is_named_after_a_restart() {
    let disk = SimDisk::default();
    let mut spool = Stored::open(disk.clone(), Boot(1), Limits { bytes: 8000, ..SMALL });
    fill(&mut spool, 8, &[]);
    drop(spool);
    let mut spool = Stored::open(disk.clone(), Boot(2), SMALL);
    disk.set_capacity(disk.bytes());
    let lost = fill(&mut spool, 1, &[]);
    assert!((1..8).contains(&lost), "{lost}");
    drop(spool);
    disk.crash(Keep::Nothing, Keep::Nothing);
    assert_eq!(Stored::open(disk, Boot(3), SMALL).gaps(), [gap(1, 1, lost)]);
}

#[test]
fn what_went_for_its_age_stays_gone_and_named_after_a_restart() {
    let disk = SimDisk::default();
    let mut spool = Stored::open(disk.clone(), Boot(1), ROOMY);
    spool.offer(vec!["old".into()], Vec::new(), Wall::from_secs(1000));
    assert_eq!(spool.offer(vec!["new".into()], Vec::new(), Wall::from_secs(1000 + 86_401)).dropped, 1);
    drop(spool);
    disk.crash(Keep::Nothing, Keep::Nothing);
    let mut spool = Stored::open(disk, Boot(2), ROOMY);
    assert_eq!((spool.gaps(), spool.oldest().unwrap().name), (vec![gap(1, 1, 1)], name(1, 2)));
}

#[test]
fn a_disk_that_failed_as_a_batch_was_written_off_is_opened_again_by_the_next_offer() {
    let mut life = Life::begin(Limits { bytes: 1600, ..ROOMY });
    life.take(Step::Offer(vec![1]));
    life.take(Step::Fail { operation: Some(Operation::Sync), before: 0, fault: Fault::Broken });
    life.take(Step::Take(Lane::Newest));
    life.check();
}
