//! A collector of a simulated age: what it was sent, at the pace at which it can be folded.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use collector::admission::{Gate, Room};
use collector::api::{self, Leaving};
use collector::config::{Config, Limits};
use collector::core::{Core, Keep};
use collector::entry::{Batch, Entry, Point};
use collector::history::{self, History};
use collector::ingest::Ingest;
use collector::log::{Appender, Feed, Log};
use collector::retention::Retention;
use collector::settle::Settle;
use collector::snapshot::Snapshots;
use collector::unpack::Unpack;
use journal::Position;
use rand::RngExt as _;
use rand_pcg::Pcg64Mcg;
use runtime::meters::Meters;
use runtime::{Clock, Shutdown};
use telemetry::{Boot, Histogram, Origin, Outcome, Sequence, Series, Wall, sample};
use tokio::runtime::Runtime;

pub(crate) const HOUR: Duration = Duration::from_hours(1);
pub(crate) const DAY: Duration = Duration::from_hours(24);
const WINDOW: Duration = Duration::from_secs(10);
/// A probe a second.
const SAMPLES: usize = 10;
/// As often as a collector hands over, in windows; and where it is hours alone that are asked for.
const HAND_OVER: u32 = 30;
const HAND_OVER_HOURS: u32 = 360;
const MARK: u32 = 6;
/// After an hour's end, until it was rolled up.
const SETTLED: Duration = Duration::from_hours(1);
/// The first moment of a month of history.
const BEGIN: Wall = Wall::from_secs(694 * 30 * 24 * 3600);
/// Windows that are drawn ahead of the fold.
const AHEAD: usize = 16;

/// Each source sees each target.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    sources: usize,
    targets: usize,
    /// In windows.
    hand_over: u32,
}

pub(crate) struct World {
    pub(crate) begin: Wall,
    pub(crate) end: Wall,
    /// To fold all of it.
    pub(crate) took: Duration,
    pub(crate) paths: Vec<Arc<Series>>,
    pub(crate) url: String,
    running: Running,
    runtime: Runtime,
}

struct Running {
    core: Core,
    keeper: JoinHandle<()>,
    history: History,
    log: Appender,
    _feed: Feed,
    at: Position,
    hand_over: u32,
}

impl Shape {
    /// About as many sources as targets.
    pub(crate) fn of(paths: usize) -> Self {
        let sources = (1..=paths).take_while(|side| side * side <= paths).filter(|side| paths.is_multiple_of(*side));
        let sources = sources.last().unwrap_or(1);
        Self { sources, targets: paths / sources, hand_over: HAND_OVER }
    }

    pub(crate) fn of_hours(paths: usize) -> Self {
        Self { hand_over: HAND_OVER_HOURS, ..Self::of(paths) }
    }

    fn paths(self) -> Vec<Arc<Series>> {
        let series = |source: usize, target: usize| Series {
            agent: name(&format!("agent-{source}")),
            source: name(&format!("region-{source}")),
            target: name(&format!("region-{target}-voice")),
            region: name(&format!("region-{target}")),
            ..sample::series()
        };
        let targets = |source| (0..self.targets).map(move |target| Arc::new(series(source, target)));
        (0..self.sources).flat_map(targets).collect()
    }

    /// What it is judged by.
    fn policy(self) -> String {
        let regions = (0..self.sources.max(self.targets))
            .map(|region| format!("[[region]]\nname = \"region-{region}\"\nlat = 40.0\nlon = {}.0\n", region % 180));
        let service = "[[service]]\nname = \"voice\"\nprimary = \"voice/rtt\"\n".to_owned();
        let head = "data_dir = \"unused\"\n".to_owned();
        [head].into_iter().chain(regions).chain([service]).collect()
    }
}

impl World {
    /// Folds so much of what these paths saw.
    pub(crate) fn fold(dir: &Path, shape: Shape, length: Duration) -> anyhow::Result<Self> {
        let (clock, paths) = (Clock::start(), shape.paths());
        let start = clock.mono();
        let mut running = Running::start(dir, shape.hand_over)?;
        running.adopt(dir, shape)?;
        let windows = (length.as_secs() / WINDOW.as_secs()) as u32;
        let drawn = draw(paths.len(), windows);
        for window in 1..=windows {
            let seen = drawn.recv().context("nothing is drawn any more")?;
            running.window(BEGIN + WINDOW * (window - 1), &paths, seen, shape.targets)?;
            running.pace(window, paths.len());
        }
        let settled = window_of(SETTLED);
        if windows.is_multiple_of(window_of(HOUR)) {
            // A whole hour at the end is rolled up as well.
            for window in windows + 1..=windows + settled {
                running.time(window, BEGIN + WINDOW * window)?;
            }
            running.wait(0);
        }
        running.wait(paths.len());
        let (url, runtime) = running.serve(dir, clock)?;
        let took = clock.mono().since(start);
        Ok(Self { begin: BEGIN, end: BEGIN + length, took, paths, url, running, runtime })
    }

    pub(crate) fn end(self) -> anyhow::Result<()> {
        drop(self.runtime);
        let Running { core, keeper, .. } = self.running;
        drop(core);
        keeper.join().map_err(|_| anyhow::anyhow!("history's keeper panicked"))
    }
}

fn window_of(time: Duration) -> u32 {
    (time.as_secs() / WINDOW.as_secs()) as u32
}

/// Window by window, path by path; on a thread of its own, since it takes as long as to fold it.
fn draw(paths: usize, windows: u32) -> Receiver<Vec<Histogram>> {
    let (ahead, drawn) = sync_channel(AHEAD);
    thread::spawn(move || {
        let mut random = Pcg64Mcg::new(1);
        let usual: Vec<f64> = (0..paths).map(|_| random.random_range(0.002..0.300)).collect();
        for _ in 0..windows {
            let mut window = |usual: &f64| sample::window(*usual, SAMPLES, || random.random_range(0.0..1.0)).histogram;
            if ahead.send(usual.iter().map(&mut window).collect()).is_err() {
                return;
            }
        }
    });
    drawn
}

impl Running {
    fn start(dir: &Path, hand_over: u32) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).context("make a folder")?;
        let log = Log::open(dir)?;
        let (history, intake, keeper) = history::open(dir, Retention::default())?;
        let keep = Keep { snapshots: Snapshots::open(dir)?, history: intake, due: Arc::default() };
        let keeper = thread::spawn(move || keeper.run());
        let core = Core::recover(&log, keep)?;
        let (log, feed) = log.start(core.folded());
        Ok(Self { core, keeper, history, log, _feed: feed, at: Position::START, hand_over })
    }

    fn take(&mut self, entry: &Entry) -> anyhow::Result<()> {
        self.core.take(self.at, entry)?;
        self.at = self.at.next();
        Ok(())
    }

    fn adopt(&mut self, dir: &Path, shape: Shape) -> anyhow::Result<()> {
        let file = dir.join("collector.toml");
        std::fs::write(&file, shape.policy()).context("write the configuration")?;
        let config = Config::load(&file).map_err(|faults| anyhow::anyhow!("{faults:?}"))?;
        self.take(&Entry::Config { at: BEGIN, policy: Arc::new(config.policy) })?;
        self.take(&Entry::Mark { now: BEGIN })
    }

    /// A batch of each agent, and time goes on.
    fn window(
        &mut self,
        begin: Wall,
        paths: &[Arc<Series>],
        seen: Vec<Histogram>,
        targets: usize,
    ) -> anyhow::Result<()> {
        let (end, mut seen) = (begin + WINDOW, seen.into_iter());
        let number = begin.since(BEGIN).as_secs() / WINDOW.as_secs() + 1;
        for paths in paths.chunks(targets) {
            let points = paths.iter().zip(&mut seen).map(|(series, histogram)| Point {
                series: Arc::clone(series),
                outcome: Outcome::Reply,
                begin,
                end,
                histogram,
            });
            let agent = paths[0].agent.clone();
            self.take(&Entry::Batch(Batch {
                origin: Some(Origin { agent, boot: Boot(1), sequence: Sequence(number) }),
                received: end,
                points: points.collect(),
                certificates: Vec::new(),
                losing_ports: Vec::new(),
                reports: Vec::new(),
            }))?;
        }
        self.time(number as u32, end)
    }

    fn time(&mut self, window: u32, now: Wall) -> anyhow::Result<()> {
        if window.is_multiple_of(MARK) {
            self.take(&Entry::Mark { now })?;
        }
        if window.is_multiple_of(self.hand_over) {
            self.core.keep_snapshot(&self.log);
        }
        Ok(())
    }

    /// What is rolled up follows closely, as it would where an hour takes an hour.
    fn pace(&self, window: u32, paths: usize) {
        if window.is_multiple_of(window_of(HOUR)) {
            self.wait(3 * paths);
        }
    }

    fn wait(&self, rows: usize) {
        while self.history.stored() < self.at && rows == 0 || self.history.to_roll_up() > rows {
            #[expect(clippy::disallowed_methods, reason = "between two looks at another thread")]
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn serve(&self, dir: &Path, clock: Clock) -> anyhow::Result<(String, Runtime)> {
        let (meters, room) = (Meters::new("bench"), Room { batches: 1, bytes: 1 });
        let limits = Limits { waiting: room, ..Limits::default() };
        let (unpack, _) = Unpack::new(self.log.clone(), self.core.snapshots(), clock, limits);
        let ingest = Ingest::new(Gate::new(room, clock), unpack, Arc::default(), limits, &meters);
        let settle = Settle { due: Arc::default(), log: self.log.clone(), history: self.history.clone() };
        let leaving = Leaving { settle, data_dir: dir.to_owned(), backup: None, clock };
        let router = api::router(ingest, self.core.snapshots(), leaving, meters);
        let runtime = Runtime::new().context("start a runtime")?;
        let listener = runtime.block_on(collector::server::bind(([127, 0, 0, 1], 0).into(), None))?;
        runtime.spawn(collector::server::serve(listener.0, router, Shutdown::new()));
        Ok((format!("http://{}", listener.1), runtime))
    }
}

fn name<T: std::str::FromStr<Err = telemetry::InvalidName>>(text: &str) -> T {
    text.parse().expect("a name")
}
