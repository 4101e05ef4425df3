use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use proptest::prelude::*;
use telemetry::histogram::{Bucket, SCALE};
use telemetry::{Histogram, Outcome, Series, Wall};
use tempfile::TempDir;

use super::*;
use crate::entry::Point;
use crate::policy::Bounds;
use crate::rings::{Added, Once, Rings, slot_of};
use crate::state::Taken;

const WIDTH: Duration = Duration::from_secs(10);
const BEGIN: Wall = Wall::from_secs(1_800_000_000);
const SERIES: u64 = 3;

/// A log, what folds it into history, and a crash at any moment: of what is on disk a copy is made, and that goes on.
struct World {
    dir: TempDir,
    log: Vec<Point>,
    /// Up to where a snapshot is.
    snapshot: Position,
    now: Wall,
    running: Option<Running>,
    rings: Rings,
}

struct Running {
    history: History,
    intake: Intake,
    keeper: std::thread::JoinHandle<()>,
}

impl Running {
    fn start(dir: &Path) -> Self {
        let (history, intake, keeper) = open(dir, Retention::default()).unwrap();
        Self { history, intake, keeper: std::thread::spawn(move || keeper.run()) }
    }

    fn stop(self) {
        drop(self.intake);
        self.keeper.join().unwrap();
    }
}

impl World {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let running = Some(Running::start(dir.path()));
        Self { dir, log: Vec::new(), snapshot: Position::START, now: BEGIN, running, rings: Rings::default() }
    }

    fn append(&mut self, series: u64, slot: u64, count: u32) {
        let begin = BEGIN + WIDTH * slot as u32;
        let target = format!("target-{series}").parse().unwrap();
        let series = Arc::new(Series { target, ..telemetry::sample::series() });
        let histogram = Histogram::from_buckets(SCALE, 0, [Bucket { index: -900 + slot as i32, count }]);
        self.log.push(Point { series, outcome: Outcome::Reply, begin, end: begin + WIDTH, histogram });
        self.fold(self.log.len() as u64 - 1);
    }

    fn fold(&mut self, position: u64) {
        let point = &self.log[position as usize];
        let (Added::Counted(id) | Added::Late(id)) = self.rings.add(point, WIDTH, Once::ByBatch, Bounds::default())
        else {
            panic!("the point is not taken");
        };
        let intake = &mut self.running.as_mut().unwrap().intake;
        intake.fold(Position(position), |tell| tell(Taken { id, slot: slot_of(point, WIDTH), point }));
    }

    /// Hands over, and waits until it is stored; the snapshot follows, unless a crash comes between the two.
    fn keep(&mut self, snapshot_follows: bool) {
        let position = Position(self.log.len() as u64);
        let (told, followed) = mpsc::channel();
        let due = Due { now: self.now, then: Box::new(move || told.send(()).unwrap()) };
        self.running.as_mut().unwrap().intake.hand_over(position, Some(due));
        followed.recv().unwrap();
        if snapshot_follows {
            self.snapshot = position;
        }
    }

    /// A copy is not made in one moment: nothing is written meanwhile.
    fn crash(&mut self) {
        self.wait_for_roll_ups();
        let copy = TempDir::new().unwrap();
        copy_all(self.dir.path(), copy.path());
        self.running.take().unwrap().stop();
        self.dir = copy;
        self.running = Some(Running::start(self.dir.path()));
        for position in self.snapshot.0..self.log.len() as u64 {
            self.fold(position);
        }
    }

    /// Lets the hours that are over be rolled up.
    fn settle(&mut self) {
        self.now = BEGIN + Duration::from_hours(3);
        self.keep(true);
        self.wait_for_roll_ups();
        assert!(self.store().marks().is_empty());
    }

    fn wait_for_roll_ups(&self) {
        let due = key::Hour::of(self.now - keeper::SETTLED);
        while self.store().marks().range(..due).next().is_some() {
            std::thread::yield_now();
        }
    }

    fn store(&self) -> Arc<Store> {
        self.running.as_ref().unwrap().history.shared.store.load_full().unwrap()
    }

    fn check(&self, step: Duration) {
        for series in 0..SERIES {
            let mine: Vec<_> =
                self.log.iter().filter(|it| it.series.target.as_str() == format!("target-{series}")).collect();
            let Some(first) = mine.first() else { continue };
            let path = first.series.path();
            let mut expected: BTreeMap<Wall, Histogram> = BTreeMap::new();
            for point in &mine {
                expected.entry(point.begin.slot(step)).or_default().merge(&point.histogram);
            }
            let (range, kept) = ((BEGIN, BEGIN + Duration::from_hours(4)), (WIDTH, Floors::default()));
            let question = Question::new(path, self.rings.of_path(path).collect(), range, Some(step), kept).unwrap();
            let told = self.running.as_ref().unwrap().history.read(&question).unwrap().unwrap();
            let told: BTreeMap<_, _> = told.into_iter().map(|(begin, slot)| (begin, slot.seen.replies)).collect();
            assert_eq!(told, expected, "{path} in steps of {step:?}");
        }
    }
}

impl World {
    /// Of every path, ten minutes after the other, as the matrix of a past minute asks for them.
    fn check_cells(&self) {
        let history = &self.running.as_ref().unwrap().history;
        let kind = Kind::of(&telemetry::sample::series());
        for begin in (0..12).map(|nth| BEGIN + Duration::from_mins(10) * nth) {
            let range = begin..begin + Duration::from_mins(10);
            let mut expected = Histogram::default();
            let mine = self.log.iter().filter(|point| range.contains(&point.begin));
            mine.for_each(|point| expected.merge(&point.histogram));
            let mut told = Histogram::default();
            history.cells(&range, &kind).unwrap().values().for_each(|seen| told.merge(&seen.replies));
            assert_eq!(told, expected, "from {begin} on");
        }
    }
}

fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy_all(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[derive(Debug, Clone)]
enum Act {
    Append { series: u64, slot: u64, count: u32 },
    Keep { snapshot_follows: bool },
    Crash,
    Settle,
}

fn an_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => (0..SERIES, 0..700_u64, 1..50_u32).prop_map(|(series, slot, count)| Act::Append { series, slot, count }),
        3 => any::<bool>().prop_map(|snapshot_follows| Act::Keep { snapshot_follows }),
        2 => Just(Act::Crash),
        1 => Just(Act::Settle),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn wherever_it_is_killed_history_is_the_log_once(acts in proptest::collection::vec(an_act(), 1..40)) {
        let mut world = World::new();
        for act in acts {
            match act {
                Act::Append { series, slot, count } => world.append(series, slot, count),
                Act::Keep { snapshot_follows } => world.keep(snapshot_follows),
                Act::Crash => world.crash(),
                Act::Settle => world.settle(),
            }
            for step in [WIDTH, Duration::from_mins(1), Duration::from_hours(1)] {
                world.check(step);
            }
            world.check_cells();
        }
        world.running.take().unwrap().stop();
    }
}

#[test]
fn an_hour_that_is_rolled_up_takes_one_row_of_each_tier_and_late_windows_do_it_again() {
    let mut world = World::new();
    for slot in 0..30 {
        world.append(0, slot, 7);
        world.keep(true);
    }
    world.settle();
    let rows = |world: &World| {
        let store = world.store();
        let hour = key::Hour::of(BEGIN);
        Tier::ALL.map(|tier| store.rows(tier, hour).unwrap().len().unwrap())
    };
    assert_eq!(rows(&world), [1, 1, 1]);
    // By a clock at which the hour is not over, so that it is not rolled up between two looks.
    world.now = BEGIN;
    world.append(0, 3, 5);
    world.keep(true);
    assert_eq!(rows(&world), [2, 1, 1]);
    world.check(Duration::from_hours(1));
    world.settle();
    assert_eq!(rows(&world), [1, 1, 1]);
    world.check(Duration::from_mins(1));
    world.running.take().unwrap().stop();
}

#[test]
fn a_store_that_cannot_be_written_loses_nothing_and_holds_back_what_must_follow() {
    let mut world = World::new();
    world.append(0, 1, 7);
    world.keep(true);
    let running = world.running.as_mut().unwrap();
    // Closed as after a failure, and a folder that cannot be opened in its place.
    let (dir, aside) = (world.dir.path().join("history"), world.dir.path().join("aside"));
    running.history.shared.store.store(None);
    fs::rename(&dir, &aside).unwrap();
    fs::write(&dir, "not a folder").unwrap();
    world.append(0, 2, 5);
    let (followed, running) = (Arc::new(AtomicBool::default()), world.running.as_mut().unwrap());
    let told = Arc::clone(&followed);
    let due = Due { now: BEGIN, then: Box::new(move || told.store(true, Ordering::Relaxed)) };
    running.intake.hand_over(Position(2), Some(due));
    while running.history.failures() == 0 {
        std::thread::yield_now();
    }
    assert!(!followed.load(Ordering::Relaxed) && running.history.stored() == Position(1));
    assert_eq!(running.history.standing(), Standing::Refused);
    fs::remove_file(&dir).unwrap();
    fs::rename(&aside, &dir).unwrap();
    world.append(0, 3, 2);
    world.keep(true);
    assert!(followed.load(Ordering::Relaxed));
    assert_eq!(world.running.as_ref().unwrap().history.standing(), Standing::Kept);
    world.check(WIDTH);
    world.running.take().unwrap().stop();
}
