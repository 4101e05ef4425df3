//! What every engine of the log must do, asked of each: the journal, on a disk that crashes, and the simulated one, which takes
//! every liberty.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use collector::config::Config;
use collector::core::{Core, Hole, Keep};
use collector::decode::Catalog;
use collector::entry::{Encoding, Entry, Envelope, Record};
use collector::history::Intake;
use collector::log::sim::SimLog;
use collector::log::{AppendError, Appender, Durable, Embedded, Feed, Log};
use collector::policy::Policy;
use collector::snapshot::{self, Snapshots};
use collector::state::State;
use journal::sim::{self, Dice, SimDisk};
use journal::{Journal, Options, Position, ReadError, Worker};
use telemetry::{Boot, Origin, Sequence, Wall};
use tempfile::TempDir;

use crate::door::body_of;

const BEGIN: Wall = Wall::from_secs(1_800_000_000);
const SEEDS: u64 = 8;

/// An engine that can be opened again and again.
trait Stand {
    fn open(&mut self) -> Log;

    /// What waits is settled.
    fn step(&mut self);

    /// The process ends, and as much of what was not durable is kept as the seed has it.
    fn crash(&mut self, seed: u64);
}

#[derive(Default)]
struct OnJournal {
    disk: SimDisk,
    worker: Option<Worker<SimDisk>>,
}

impl Stand for OnJournal {
    fn open(&mut self) -> Log {
        self.worker = None;
        let journal = Journal::open(self.disk.clone(), Options { segment_bytes: 2000 }).unwrap();
        let (engine, worker) = Embedded::stepped(journal);
        self.worker = Some(worker);
        Log::on(engine)
    }

    fn step(&mut self) {
        self.worker.as_mut().unwrap().step();
    }

    fn crash(&mut self, seed: u64) {
        self.worker = None;
        self.disk.crash(sim::Keep::Seeded(seed), sim::Keep::Seeded(seed + 1));
    }
}

struct OnSim(SimLog);

impl Stand for OnSim {
    fn open(&mut self) -> Log {
        Log::on(self.0.clone())
    }

    fn step(&mut self) {
        self.0.step();
    }

    fn crash(&mut self, _: u64) {
        self.0.crash();
    }
}

fn on_every_engine(mut check: impl FnMut(&mut dyn Stand, &mut Dice)) {
    for seed in 0..SEEDS {
        check(&mut OnJournal::default(), &mut Dice::new(seed));
        check(&mut OnSim(SimLog::new(seed)), &mut Dice::new(seed));
    }
}

/// An append under way.
struct Sending(Pin<Box<dyn Future<Output = Result<Position, AppendError>>>>);

impl Sending {
    fn of(log: &Appender, sent: &Sent) -> Self {
        let (log, sent) = (log.clone(), sent.clone());
        let mut sending = Self(Box::pin(async move { log.append(&sent.record(&sent.body()), sent.entry()).await }));
        assert!(sending.answer().is_none(), "nothing is durable before a step");
        sending
    }

    fn answer(&mut self) -> Option<Result<Position, AppendError>> {
        match self.0.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sent {
    Config,
    Mark(u64),
    Batch { agent: String, sequence: u64 },
}

impl Sent {
    fn at(&self) -> Wall {
        match self {
            Self::Config => BEGIN,
            Self::Mark(second) | Self::Batch { sequence: second, .. } => BEGIN + Duration::from_secs(*second),
        }
    }

    fn origin(&self) -> Option<Origin> {
        let Self::Batch { agent, sequence } = self else { return None };
        Some(Origin { agent: agent.parse().unwrap(), boot: Boot(1), sequence: Sequence(*sequence) })
    }

    /// A second of one agent's.
    fn body(&self) -> Vec<u8> {
        let Self::Batch { agent, .. } = self else { return Vec::new() };
        body_of(agent, self.at() - Duration::from_secs(1), self.at())
    }

    fn record<'a>(&self, body: &'a [u8]) -> Record<'a> {
        match self {
            Self::Config => Record::Config(BEGIN, policy()),
            Self::Mark(_) => Record::Mark(self.at()),
            Self::Batch { .. } => {
                let (origin, received) = (self.origin(), self.at());
                Record::Batch(Envelope { origin, received, encoding: Encoding::Identity }, body)
            }
        }
    }

    fn entry(&self) -> Entry {
        let body = self.body();
        match self.record(&body) {
            Record::Config(at, policy) => Entry::Config { at, policy: Arc::new(policy) },
            Record::Batch(envelope, body) => Entry::Batch(Catalog::new(1).read(envelope, body).unwrap().0),
            _ => Entry::Mark { now: self.at() },
        }
    }

    fn bytes(&self) -> Vec<u8> {
        self.record(&self.body()).encode().unwrap()
    }
}

fn policy() -> Policy {
    Config::load("../config/collector.toml".as_ref()).unwrap().policy
}

fn marks(numbers: impl IntoIterator<Item = u64>) -> Vec<Sent> {
    numbers.into_iter().map(Sent::Mark).collect()
}

/// Each by its bytes, where it was told to stand.
fn put(stand: &mut dyn Stand, log: &Appender, all: &[Sent]) -> BTreeMap<Position, Vec<u8>> {
    let mut sending: Vec<_> = all.iter().map(|sent| Sending::of(log, sent)).collect();
    stand.step();
    let told = all.iter().zip(&mut sending).filter_map(|(sent, sending)| {
        let position = sending.answer().expect("settled").ok()?;
        Some((position, sent.bytes()))
    });
    told.collect()
}

fn read(log: &Appender, from: Position) -> Vec<(Position, Vec<u8>)> {
    log.reader(from).map(Result::unwrap).collect()
}

fn start(stand: &mut dyn Stand) -> (Appender, Feed) {
    let log = stand.open();
    let end = log.next();
    log.start(end)
}

#[test]
fn what_was_told_outlives_any_crash_and_stays_where_it_is() {
    on_every_engine(|stand, dice| {
        let (mut told, mut before) = (BTreeMap::<Position, Vec<u8>>::new(), Vec::new());
        for life in 0..5 {
            let (log, feed) = start(stand);
            let now = read(&log, Position::START);
            assert_eq!(now[..before.len()], before, "what was read stays");
            assert!(told.iter().all(|(position, record)| now[position.0 as usize] == (*position, record.clone())));
            assert!(now.iter().zip(0..).all(|((position, _), place)| position.0 == place), "dense");
            told.extend(put(stand, &log, &marks(life * 100..life * 100 + 10)));
            let unsettled = Sending::of(&log, &Sent::Mark(life * 100 + 50));
            before = read(&log, Position::START);
            drop((unsettled, log, feed));
            stand.crash(dice.draw());
        }
        assert!(told.len() > 20, "most of it got in");
    });
}

#[test]
fn a_reader_begins_anywhere_and_follows() {
    on_every_engine(|stand, _| {
        let (log, _feed) = start(stand);
        put(stand, &log, &marks(0..20));
        let all = read(&log, Position::START);
        for from in 0..=all.len() {
            assert_eq!(read(&log, Position(from as u64)), all[from..]);
        }
        let mut reader = log.reader(log.durable());
        assert!(reader.next().is_none());
        put(stand, &log, &marks(20..30));
        let more: Vec<_> = reader.map(Result::unwrap).collect();
        assert!(!more.is_empty());
        assert_eq!(more, read(&log, Position(all.len() as u64)));
    });
}

#[test]
fn a_cut_takes_nothing_at_or_behind_it_and_a_reader_of_what_is_gone_is_told() {
    on_every_engine(|stand, dice| {
        let (log, feed) = start(stand);
        put(stand, &log, &marks(0..200));
        let all = read(&log, Position::START);
        let cut = dice.roll(all.len() + 1);
        log.cut_before(Position(cut as u64));
        stand.step();
        assert_eq!(read(&log, Position(cut as u64)), all[cut..]);
        drop((log, feed));
        stand.crash(dice.draw());
        let first = stand.open().first();
        let (log, _feed) = start(stand);
        assert!(first.0 <= cut as u64);
        assert_eq!(read(&log, first), all[first.0 as usize..]);
        if first > Position::START {
            let mut reader = log.reader(Position::START);
            assert!(matches!(reader.next(), Some(Err(ReadError::Cut { first: told, .. })) if told == first));
            assert!(reader.next().is_none());
            reader.seek(first);
            assert_eq!(reader.next().unwrap().unwrap(), all[first.0 as usize]);
        }
    });
}

#[test]
fn the_fold_is_handed_all_that_is_durable_and_what_is_new_in_order() {
    on_every_engine(|stand, dice| {
        let mut next = Position::START;
        for life in 0..4 {
            let (log, feed) = start(stand);
            for group in 0..5 {
                put(stand, &log, &marks(life * 100 + group * 10..life * 100 + group * 10 + 10));
                for Durable { position, entry, .. } in feed.try_iter() {
                    assert!(position <= next, "{next} is left out");
                    next = next.max(position.next());
                    let Entry::Mark { now } = entry else { panic!("{entry:?}") };
                    let there = read(&log, position).swap_remove(0);
                    assert_eq!(there, (position, Record::Mark(now).encode().unwrap()));
                }
                assert_eq!(next, log.durable());
            }
            drop((log, feed));
            stand.crash(dice.draw());
            next = stand.open().next();
        }
    });
}

/// What came of a life of senders that do not give up, and now and then send again what was taken.
struct Lived {
    /// As it was folded while they sent, across crashes.
    state: State,
    acknowledged: BTreeSet<Sent>,
    /// The batches of the log, one for each record.
    logged: Vec<Origin>,
    /// The log, folded anew.
    replayed: State,
}

fn live(stand: &mut dyn Stand, dice: &mut Dice) -> Lived {
    let dir = TempDir::new().unwrap();
    let snapshots = Snapshots::open(dir.path()).unwrap();
    let (mut acknowledged, mut pending) = (BTreeSet::new(), vec![Sent::Config]);
    let recover = |stand: &mut dyn Stand| {
        let log = stand.open();
        let core =
            Core::recover(&log, Keep { snapshots: snapshots.clone(), history: Intake::none(), due: Arc::default() })
                .unwrap();
        (core, log)
    };
    for life in 0..5 {
        let (mut core, log) = recover(stand);
        let (log, feed) = log.start(core.folded());
        for second in life * 10 + 1..=life * 10 + 10 {
            // Nobody is let in before the configuration is.
            if core.state().policy.is_some() {
                pending.push(Sent::Mark(second));
                let batch = |agent: &str| Sent::Batch { agent: agent.to_owned(), sequence: second };
                pending.extend(["fra-1", "fra-2"].map(batch));
            }
            let mut sending: Vec<_> = pending.iter().map(|sent| Sending::of(&log, sent)).collect();
            if second % 10 == 0 {
                // The crash finds these under way.
                break;
            }
            stand.step();
            let mut answers = sending.iter_mut().map(|sending| sending.answer().unwrap());
            pending.retain(|sent| {
                let taken = answers.next().unwrap().is_ok();
                acknowledged.extend(taken.then(|| sent.clone()));
                !taken || dice.roll(8) == 0
            });
            for Durable { position, entry, .. } in feed.try_iter() {
                core.take(position, &entry).unwrap();
            }
            assert_eq!(core.folded(), log.durable());
            if dice.roll(8) == 0 {
                snapshots.save(core.folded(), &snapshot::encode(&core.state()).unwrap()).unwrap();
            }
        }
        drop((log, feed));
        stand.crash(dice.draw());
    }
    let (core, log) = recover(stand);
    let (state, mut replayed, mut logged) = (core.state().clone(), State::default(), Vec::new());
    let fold = |entry| {
        replayed.apply(&entry);
        if let Entry::Batch(batch) = entry {
            logged.extend(batch.origin);
        }
    };
    log.replay(Position::START, log.next(), fold).unwrap();
    Lived { state, acknowledged, logged, replayed }
}

#[test]
fn what_was_acknowledged_is_counted_once_and_the_state_is_a_fold_of_the_log() {
    let mut repeated = 0;
    on_every_engine(|stand, dice| {
        let Lived { state, acknowledged, logged, replayed } = live(stand, dice);
        assert_eq!(snapshot::encode(&state).unwrap(), snapshot::encode(&replayed).unwrap());
        let once: BTreeSet<_> = logged.iter().collect();
        let (tally, samples) = (state.tally, samples(&state));
        assert_eq!(tally.batches, once.len() as u64);
        assert_eq!(tally.repeated_batches, (logged.len() - once.len()) as u64);
        assert_eq!((tally.points, samples), (tally.batches, tally.batches * 3), "{tally:?}");
        let names: Vec<_> = acknowledged.iter().filter_map(Sent::origin).collect();
        assert!(names.len() > 50);
        assert!(names.iter().all(|name| once.contains(name)), "an acknowledged batch is lost");
        repeated += tally.repeated_batches;
    });
    assert!(repeated > 100, "the engines are too well behaved to show anything");
}

#[test]
fn a_batch_that_comes_again_whenever_it_does_changes_nothing_but_the_count_of_repetitions() {
    let plain = |state: &State| {
        let mut state = state.clone();
        state.tally.repeated_batches = 0;
        snapshot::encode(&state).unwrap()
    };
    for seed in 0..SEEDS {
        let (mut dice, mut state) = (Dice::new(seed), State::default());
        let mut come = Vec::new();
        state.apply(&Sent::Config.entry());
        for second in 1..60 {
            let batch = Sent::Batch { agent: format!("fra-{}", dice.roll(3)), sequence: second }.entry();
            state.apply(&batch);
            come.push(batch);
            let before = plain(&state);
            assert!(state.apply(&come[dice.roll(come.len())]).is_empty());
            assert!(plain(&state) == before, "seed {seed}, second {second}");
            state.apply(&Sent::Mark(second).entry());
        }
        assert_eq!(state.tally.repeated_batches, 59);
    }
}

#[test]
fn the_fold_passes_by_what_it_has_folded_and_stops_before_a_hole() {
    let dir = TempDir::new().unwrap();
    let log = Log::on(SimLog::new(0));
    let keep = Keep { snapshots: Snapshots::open(dir.path()).unwrap(), history: Intake::none(), due: Arc::default() };
    let mut core = Core::recover(&log, keep).unwrap();
    let batch = |sequence| Sent::Batch { agent: "fra-1".to_owned(), sequence }.entry();
    core.take(Position(0), &Sent::Config.entry()).unwrap();
    core.take(Position(1), &batch(1)).unwrap();
    core.take(Position(1), &batch(1)).unwrap();
    core.take(Position(0), &Sent::Config.entry()).unwrap();
    assert_eq!(core.take(Position(3), &batch(3)), Err(Hole { expected: Position(2), found: Position(3) }));
    core.take(Position(2), &batch(2)).unwrap();
    assert_eq!((core.folded(), core.state().tally.batches), (Position(3), 2));
    assert_eq!(core.state().tally.repeated_batches, 0, "passed by, not even looked at");
}

fn samples(state: &State) -> u64 {
    let paths: Vec<_> = state.rings.paths().collect();
    let merged = paths
        .into_iter()
        .map(|(_, series)| state.rings.merge(series.iter().copied(), Wall::default(), Wall(u64::MAX)).samples());
    merged.sum()
}
