//! Folds the log into history from where the snapshot is, as a collector does.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use collector::history::{self, Due, Floors, History, Intake, Question};
use collector::policy::Bounds;
use collector::retention::Retention;
use collector::rings::{Added, Once, Rings, slot_of};
use collector::state::Taken;
use journal::Position;
use telemetry::{Histogram, Wall};

use crate::log::{BEGIN, SERIES, WIDTH, at, points, series};

/// Six hours of the log.
const HAND_OVER: u64 = 36;
const DAY: Duration = Duration::from_hours(24);
/// Every day of the log one of each is dropped.
const RETENTION: Retention =
    Retention { raw: DAY, minute: Duration::from_hours(48), hour: Duration::from_hours(24 * 400), max_bytes: u64::MAX };
/// So many hours of each series may wait to be rolled up while the log goes on.
const WAITING: usize = 4;
/// Beyond the end of the log, when all its hours are over.
const AFTER: Duration = Duration::from_hours(3);
/// In tiers' order: steps that are made of windows as they came, of minutes, of hours.
const STEPS: [Duration; 3] = [Duration::from_secs(610), Duration::from_mins(10), Duration::from_hours(6)];

pub(crate) struct Victim {
    snapshot: PathBuf,
    history: History,
    intake: Intake,
    keeper: JoinHandle<()>,
    rings: Rings,
    next: u64,
    /// When it began this time.
    begun: u64,
}

impl Victim {
    pub(crate) fn start(data: &Path) -> anyhow::Result<Self> {
        let snapshot = data.join("snapshot");
        let begun = match fs::read_to_string(&snapshot) {
            Ok(text) => text.parse().context("read the snapshot")?,
            Err(_) => 0,
        };
        let (history, intake, keeper) = history::open(data, RETENTION)?;
        anyhow::ensure!(intake.stored().0 >= begun, "history is at {}, its snapshot at {begun}", intake.stored());
        let keeper = thread::spawn(move || keeper.run());
        Ok(Self { snapshot, history, intake, keeper, rings: Rings::default(), next: begun, begun })
    }

    pub(crate) fn live(mut self) -> anyhow::Result<()> {
        loop {
            self.fold();
            if self.next.is_multiple_of(HAND_OVER) {
                self.hand_over(at(self.next));
                self.wait(|history| history.to_roll_up() <= WAITING * SERIES as usize);
            }
        }
    }

    /// Goes on for a little, then says what history holds, unless that is not what the log has.
    pub(crate) fn check(mut self) -> anyhow::Result<String> {
        let end = self.history.stored().0.max(self.begun) + HAND_OVER;
        while self.next < end {
            self.fold();
        }
        self.hand_over(at(end) + AFTER);
        self.wait(|history| history.stored() == Position(end) && history.to_roll_up() == 0);
        let floors = self.history.floors(at(end))?;
        let floors = [floors.raw, floors.minute, floors.hour];
        let mut replies = 0;
        for number in 0..SERIES {
            let expected = windows(number, end);
            for (step, floor) in STEPS.into_iter().zip(floors) {
                let from = (floor.max(BEGIN) + step).slot(step);
                let expected = in_steps(&expected, step, from);
                let told = self.told(number, step, (from, at(end)))?;
                anyhow::ensure!(
                    told == expected,
                    "series {number} in steps of {step:?}: {}",
                    difference(&told, &expected)
                );
                replies += told.values().map(Histogram::count).sum::<u64>();
            }
        }
        anyhow::ensure!(self.history.expired() == 0, "{} points came too late", self.history.expired());
        let days = at(end).since(BEGIN).as_secs() / DAY.as_secs();
        let Self { intake, keeper, .. } = self;
        drop(intake);
        keeper.join().map_err(|_| anyhow::anyhow!("the keeper panicked"))?;
        Ok(format!("{days} days, and the {replies} replies of three tiers are those of the log"))
    }

    fn told(&self, number: u64, step: Duration, range: (Wall, Wall)) -> anyhow::Result<BTreeMap<Wall, Histogram>> {
        let path = series(number).path();
        let live = self.rings.of_path(path).collect();
        let question = Question::new(path, live, range, Some(step), (WIDTH, Floors::default()))?;
        let slots = self.history.read(&question)?.context("the path was never seen")?;
        Ok(slots.into_iter().map(|(begin, slot)| (begin, slot.seen.replies)).collect())
    }

    fn fold(&mut self) {
        let (rings, position) = (&mut self.rings, self.next);
        self.intake.fold(Position(position), |tell| {
            for number in 0..SERIES {
                for point in points(position, &series(number), number) {
                    let added = rings.add(&point, WIDTH, Once::ByBatch, Bounds::default());
                    if let Added::Counted(id) | Added::Late(id) = added {
                        tell(Taken { id, slot: slot_of(&point, WIDTH), point: &point });
                    }
                }
            }
        });
        self.next += 1;
    }

    fn hand_over(&mut self, now: Wall) {
        let (snapshot, position) = (self.snapshot.clone(), self.next);
        let save = move || {
            let new = snapshot.with_extension("new");
            fs::write(&new, position.to_string()).expect("a snapshot is written");
            fs::rename(&new, &snapshot).expect("a snapshot is put in place");
        };
        self.intake.hand_over(Position(position), Some(Due { now, then: Box::new(save) }));
    }

    fn wait(&self, until: impl Fn(&History) -> bool) {
        while !until(&self.history) {
            #[expect(clippy::disallowed_methods, reason = "between two looks at another thread")]
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Of the whole log.
fn windows(number: u64, end: u64) -> BTreeMap<Wall, Histogram> {
    let (mut windows, series): (BTreeMap<_, Histogram>, _) = (BTreeMap::new(), series(number));
    for point in (0..end).flat_map(|position| points(position, &series, number)) {
        windows.entry(point.begin).or_default().merge(&point.histogram);
    }
    windows
}

fn in_steps(windows: &BTreeMap<Wall, Histogram>, step: Duration, from: Wall) -> BTreeMap<Wall, Histogram> {
    let mut steps: BTreeMap<_, Histogram> = BTreeMap::new();
    for (begin, histogram) in windows.range(from..) {
        steps.entry(begin.slot(step)).or_default().merge(histogram);
    }
    steps
}

fn difference(told: &BTreeMap<Wall, Histogram>, expected: &BTreeMap<Wall, Histogram>) -> String {
    let count = |of: &BTreeMap<Wall, Histogram>, begin| of.get(&begin).map_or(0, Histogram::count);
    let begins = expected.keys().chain(told.keys()).filter(|begin| told.get(begin) != expected.get(begin));
    let told = begins
        .take(5)
        .map(|begin| format!("{begin}: {} replies, and {} in the log", count(told, *begin), count(expected, *begin)));
    told.collect::<Vec<_>>().join("; ")
}
