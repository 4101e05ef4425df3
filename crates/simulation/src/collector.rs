//! A collector without its sockets: what arrives is decoded, logged and folded as it is in the product. The log stands on the journal, on a disk that
//! crashes, or on the simulated engine.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use anyhow::{Context as _, ensure};
use collector::config::Config;
use collector::core::{Core, Keep, RecoverError};
use collector::decode::{Catalog, inflate};
use collector::entry::{Encoding, Entry, Envelope, Record};
use collector::history::Intake;
use collector::log::sim::SimLog;
use collector::log::{AppendError, Appender, Durable, Embedded, Feed, Log, LogError};
use collector::policy::Policy;
use collector::snapshot::{self, Snapshots};
use collector::state::State;
use journal::sim::{self, Dice, SimDisk};
use journal::{Journal, Options, Position, Worker, WriteError};
use telemetry::{Gap, Origin, Wall};
use tempfile::TempDir;

use crate::events::Try;

/// More than ever inflates to.
const INFLATED: usize = 1 << 20;
/// Small, so that a life fills several.
const SEGMENT_BYTES: u64 = 8 << 10;

pub(crate) struct Collector {
    engine: Engine,
    dir: TempDir,
    policy: Policy,
    pub(crate) life: u32,
    pub(crate) up: Option<Up>,
    /// By the state; it may know of more, which nobody was told of before a crash.
    counted: BTreeSet<Origin>,
}

enum Engine {
    Journal(SimDisk),
    Simulated(SimLog),
}

pub(crate) struct Up {
    core: Core,
    log: Appender,
    feed: Feed,
    worker: Option<Worker<SimDisk>>,
    catalog: Catalog,
    under_way: Vec<Appending>,
}

struct Appending {
    what: What,
    append: Pin<Box<dyn Future<Output = Result<Position, AppendError>>>>,
}

#[derive(Debug)]
pub(crate) enum What {
    Batch(Try, Origin, Vec<Gap>),
    Mark,
    Config,
}

/// What was settled.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) what: What,
    pub(crate) taken: bool,
}

impl Collector {
    pub(crate) fn new(seed: u64) -> anyhow::Result<Self> {
        let engine = if seed.is_multiple_of(2) {
            Engine::Journal(SimDisk::default())
        } else {
            Engine::Simulated(SimLog::new(seed))
        };
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../config/collector.toml");
        let config = Config::load(&file).map_err(|_| anyhow::anyhow!("{} is not good", file.display()))?;
        Ok(Self { engine, dir: TempDir::new()?, policy: config.policy, life: 0, up: None, counted: BTreeSet::new() })
    }

    /// Where its log is, when that is a disk.
    pub(crate) fn disk(&self) -> Option<&SimDisk> {
        if let Engine::Journal(disk) = &self.engine { Some(disk) } else { None }
    }

    /// `false`: its disk fails, and it is to be tried again.
    pub(crate) fn start(&mut self, now: Wall) -> anyhow::Result<bool> {
        self.up = None;
        let (log, worker) = match &self.engine {
            Engine::Simulated(log) => (Log::on(log.clone()), None),
            Engine::Journal(disk) => match Journal::open(disk.clone(), Options { segment_bytes: SEGMENT_BYTES }) {
                Ok(journal) => {
                    let (engine, worker) = Embedded::stepped(journal);
                    (Log::on(engine), Some(worker))
                }
                Err(journal::OpenError::Corrupt(damage)) => return Err(damage.into()),
                Err(_) => return Ok(false),
            },
        };
        let core = match Core::recover(&log, self.keep()?) {
            Ok(core) => core,
            Err(RecoverError::Log(LogError::Read(journal::ReadError::Read { .. }))) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let known = core.state().tally.batches;
        ensure!(known >= self.counted.len() as u64, "{known} batches after a restart, {} before", self.counted.len());
        let (log, feed) = log.start(core.folded());
        self.life += 1;
        let mut up = Up { core, log, feed, worker, catalog: Catalog::new(1), under_way: Vec::new() };
        if up.core.state().policy.is_none() {
            up.configure(now, &self.policy)?;
        }
        self.up = Some(up);
        Ok(true)
    }

    pub(crate) fn kill(&mut self) {
        self.up = None;
        if let Engine::Simulated(log) = &self.engine {
            log.crash();
        }
    }

    pub(crate) fn cut_power(&mut self, dice: &mut Dice) {
        self.kill();
        if let Engine::Journal(disk) = &self.engine {
            disk.crash(sim::Keep::Seeded(dice.draw()), sim::Keep::Seeded(dice.draw()));
        }
    }

    /// Makes the newest snapshot one that cannot be read.
    pub(crate) fn damage_snapshot(&self) -> anyhow::Result<()> {
        let files = std::fs::read_dir(self.dir.path().join("snapshots"))?;
        let mut files = files.map(|file| Ok(file?.path())).collect::<std::io::Result<Vec<_>>>()?;
        files.sort();
        // The first ever made is all that there is behind a cut log.
        if files.len() > 1
            && let Some(newest) = files.last()
        {
            std::fs::write(newest, b"damaged")?;
        }
        Ok(())
    }

    pub(crate) fn snapshot(&mut self) {
        if let Some(up) = &mut self.up {
            up.core.keep_snapshot(&up.log);
        }
    }

    /// What waits in the log is settled, and what is durable folded.
    pub(crate) fn settle(&mut self, now: Wall) -> anyhow::Result<Vec<Settled>> {
        let Some(up) = &mut self.up else { return Ok(Vec::new()) };
        match (&self.engine, &mut up.worker) {
            (Engine::Simulated(log), _) => log.step(),
            (Engine::Journal(_), Some(worker)) => worker.step(),
            (Engine::Journal(_), None) => unreachable!("a journal has a worker"),
        }
        let mut settled = Vec::new();
        let mut fatal = false;
        for Appending { what, mut append } in up.under_way.drain(..) {
            let Poll::Ready(answer) = append.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
                anyhow::bail!("{what:?} is not settled by a step");
            };
            fatal |= matches!(answer, Err(AppendError::Write(WriteError::Sync { .. })));
            settled.push(Settled { what, taken: answer.is_ok() });
        }
        up.fold(&mut self.counted)?;
        for settled in settled.iter().filter(|settled| settled.taken) {
            if let What::Batch(_, origin, _) = &settled.what {
                ensure!(self.counted.contains(origin), "{origin:?} is acknowledged and not counted");
            }
        }
        if up.core.state().policy.is_none() && up.under_way.is_empty() {
            up.configure(now, &self.policy)?;
        }
        if fatal {
            // The marks' task ends with that, and the process with it.
            self.kill();
        }
        Ok(settled)
    }

    /// As it stands, and as a restart finds it: from the newest snapshot, and from the one before.
    pub(crate) fn state(&mut self, now: Wall) -> anyhow::Result<State> {
        let state = self.up.as_ref().context("the collector is up")?.core.state().clone();
        let as_is = snapshot::encode(&state)?;
        for damaged in [false, true] {
            if damaged {
                self.damage_snapshot()?;
            }
            ensure!(self.start(now)?, "a healed collector starts");
            let again = self.up.as_ref().context("the collector is up")?.core.state().clone();
            ensure!(snapshot::encode(&again)? == as_is, "a replay gives another state (newest damaged: {damaged})");
        }
        Ok(state)
    }

    fn keep(&self) -> anyhow::Result<Keep> {
        Ok(Keep { snapshots: Snapshots::open(self.dir.path())?, history: Intake::none(), due: Arc::default() })
    }
}

impl Up {
    /// Whether agents are let in.
    pub(crate) fn is_open(&self) -> bool {
        self.core.state().policy.is_some()
    }

    pub(crate) fn waits(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Takes a batch in, as it came over the network. Answers what it holds.
    pub(crate) fn take(&mut self, of: Try, origin: Origin, body: &[u8], now: Wall) -> anyhow::Result<u64> {
        let inflated = inflate(body, Encoding::Zstd, INFLATED)?;
        let envelope = Envelope { origin: Some(origin.clone()), received: now, encoding: Encoding::Zstd };
        let (batch, refused) = self.catalog.read(envelope.clone(), &inflated)?;
        ensure!(refused.points == 0, "a point is refused: {}", refused.why);
        let samples = batch.points.iter().map(|point| point.histogram.count()).sum();
        let gaps = batch.reports.iter().flat_map(|report| report.vitals.gaps.clone()).collect();
        let (log, body) = (self.log.clone(), body.to_vec());
        let append = async move { log.append(&Record::Batch(envelope, &body), Entry::Batch(batch)).await };
        self.send(What::Batch(of, origin, gaps), append)?;
        Ok(samples)
    }

    pub(crate) fn mark(&mut self, now: Wall) -> anyhow::Result<()> {
        let log = self.log.clone();
        self.send(What::Mark, async move { log.append(&Record::Mark(now), Entry::Mark { now }).await })
    }

    fn configure(&mut self, at: Wall, policy: &Policy) -> anyhow::Result<()> {
        let (log, policy) = (self.log.clone(), policy.clone());
        self.send(What::Config, async move {
            let entry = Entry::Config { at, policy: Arc::new(policy.clone()) };
            log.append(&Record::Config(at, policy), entry).await
        })
    }

    fn send(
        &mut self,
        what: What,
        append: impl Future<Output = Result<Position, AppendError>> + 'static,
    ) -> anyhow::Result<()> {
        let mut append = Box::pin(append);
        let polled = append.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        ensure!(polled.is_pending(), "{what:?} is answered before anything is durable: {polled:?}");
        self.under_way.push(Appending { what, append });
        Ok(())
    }

    fn fold(&mut self, counted: &mut BTreeSet<Origin>) -> anyhow::Result<()> {
        for Durable { position, entry, .. } in self.feed.try_iter() {
            let (folded, before) = (self.core.folded(), self.core.state().tally.batches);
            self.core.take(position, &entry)?;
            let grown = self.core.state().tally.batches - before;
            match entry {
                Entry::Batch(batch) if position == folded => {
                    let origin = batch.origin.context("an agent's batch has a name")?;
                    let new = counted.insert(origin.clone());
                    ensure!(grown == 0 || new, "{origin:?} is counted twice");
                }
                _ => ensure!(grown == 0, "position {position} counted a batch, and is none or was folded before"),
            }
        }
        ensure!(self.core.folded() == self.log.durable(), "what is durable is not folded");
        Ok(())
    }
}
