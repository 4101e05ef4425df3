//! How long a collector takes until it is ready again, with many series: after it was stopped, from its snapshot alone; and after it
//! was killed, from a snapshot that is as old as one gets, and the log behind it. The series come as agents push them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use e2e::{Binary, Process, until};
use telemetry::histogram::Scratch;
use telemetry::otlp::build::{AgentHealth, Measured, Sender, Subject, encode};
use telemetry::{AgentId, Outcome, RegionName, Series, TargetId, Wall, Window};
use tempfile::TempDir;

use super::table::{Goal, Line, Table};
use crate::cargo;

const AGENTS: usize = 100;
const SERIES: usize = 1000;
const WINDOW: Duration = Duration::from_secs(10);
/// Five minutes of them: as often is a snapshot taken.
const WINDOWS: u32 = 30;
const READY_S: f64 = 5.0;
const PUSHERS: usize = 2;
const PATIENCE: Duration = Duration::from_mins(1);

/// Where a collector lives, from one start to the next.
struct Home {
    dir: TempDir,
    programs: PathBuf,
}

struct Running {
    process: Process,
    url: String,
    /// From its start until it was ready.
    took: Duration,
}

pub(super) fn run(runs: u32) -> anyhow::Result<()> {
    let mut table = Table::default();
    for run in 1..=runs {
        for line in measure()? {
            println!("{run}/{runs} {line}");
            table.add(line);
        }
    }
    println!("\n{table}\nready: from the start of the process to 200 from /readyz, with {} series", AGENTS * SERIES);
    Ok(())
}

fn measure() -> anyhow::Result<[Line; 3]> {
    let (home, length) = (Home::new()?, WINDOW * WINDOWS);
    let begin = Wall::from(SystemTime::now()).slot(WINDOW) - length * 2;
    let empty = home.start()?;
    let first = push(&empty.url, begin, 1)?;
    anyhow::ensure!(empty.process.stop()?.success(), "the collector did not stop well");
    let stopped = home.start()?;
    let second = push(&stopped.url, begin + length, 1 + WINDOWS)?;
    stopped.process.kill()?;
    let killed = home.start()?;
    killed.process.kill()?;
    let points = 2.0 * (AGENTS * SERIES) as f64 * f64::from(WINDOWS);
    let pace = points / (first + second).as_secs_f64();
    Ok([
        Line::alone("ready after a stop: a snapshot, s", stopped.took.as_secs_f64(), Goal::Below(READY_S)),
        Line::alone("ready after a kill: 5 min of log behind it, s", killed.took.as_secs_f64(), Goal::Below(READY_S)),
        Line::alone("pushed, thousand points a second", pace / 1e3, Goal::Told),
    ])
}

impl Home {
    fn new() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("isochrone-").tempdir().context("make a folder")?;
        Ok(Self { dir, programs: cargo::programs_of("release")? })
    }

    fn start(&self) -> anyhow::Result<Running> {
        let (config, address) = (cargo::root().join("config/collector.toml"), self.dir.path().join("address"));
        drop(fs::remove_file(&address));
        let data = self.dir.path().join("data");
        let args: [&OsStr; 8] = [
            "run".as_ref(),
            "--listen".as_ref(),
            "127.0.0.1:0".as_ref(),
            "--config".as_ref(),
            config.as_ref(),
            "--data".as_ref(),
            data.as_ref(),
            "--address-file".as_ref(),
        ];
        let args = args.into_iter().chain([address.as_os_str()]);
        let begin = Instant::now();
        let mut process = Process::start((Binary::Collector, &self.programs), "collector", self.dir.path(), args)?;
        let url = format!("http://{}", process.address(&address)?);
        let patient = patient();
        let ready = || patient.get(format!("{url}/readyz")).call().ok().map(drop);
        until("ready", PATIENCE, ready)?;
        Ok(Running { process, url, took: begin.elapsed() })
    }
}

fn patient() -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build().into()
}

/// Every series' windows from there on, as its agent pushes a backlog, under sequences from `sequence` on.
fn push(url: &str, from: Wall, sequence: u32) -> anyhow::Result<Duration> {
    let (begin, next) = (Instant::now(), AtomicUsize::new(0));
    thread::scope(|scope| {
        let pushers = [(); PUSHERS].map(|()| {
            scope.spawn(|| {
                let agents = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|agent| *agent < AGENTS);
                std::iter::from_fn(agents).try_for_each(|agent| push_of(url, agent, from, sequence))
            })
        });
        pushers.into_iter().try_for_each(|pusher| pusher.join().expect("a pusher does not panic"))
    })?;
    Ok(begin.elapsed())
}

fn push_of(url: &str, number: usize, from: Wall, sequence: u32) -> anyhow::Result<()> {
    let (agent, source): (AgentId, RegionName) = (format!("agent-{number}").parse()?, "fra".parse()?);
    let sender = Sender { agent: agent.clone(), source: source.clone(), zone: None, version: "0".to_owned() };
    let subject = |target: usize| -> anyhow::Result<_> {
        let target: TargetId = format!("target-{target}").parse()?;
        let series = Series { agent: agent.clone(), source: source.clone(), target, ..telemetry::sample::series() };
        Ok(Arc::new(Subject { series, address: "192.0.2.1".to_owned(), port: Some(50_000), transport: "udp" }))
    };
    let subjects = (0..SERIES).map(subject).collect::<Result<Vec<_>, _>>()?;
    let replies = Scratch::default().fold((0..10).map(|ms| Duration::from_micros(20_000 + 700 * ms)));
    let http = patient();
    for window in 0..WINDOWS {
        let begin = from + WINDOW * window;
        let end = begin + WINDOW;
        let outcomes: BTreeMap<_, _> = [(Outcome::Reply, replies.clone())].into();
        let seen = Window { begin, end, outcomes };
        let measured: Vec<_> =
            subjects.iter().map(|subject| Measured { subject: subject.clone(), window: seen.clone() }).collect();
        // What waits on the agent says nothing of its clock.
        let health = AgentHealth { begin, end, spool_batches: 1, ..AgentHealth::default() };
        let body = zstd::encode_all(&*encode(&sender, &measured, &health), 1)?;
        let request = http
            .post(format!("{url}/v1/metrics"))
            .header("content-type", "application/x-protobuf")
            .header("content-encoding", "zstd")
            .header("isochrone-agent", agent.as_str())
            .header("isochrone-boot", "00000000-0000-0000-0000-000000000001")
            .header("isochrone-seq", (sequence + window).to_string());
        request.send(&body[..]).context("push a batch")?;
    }
    Ok(())
}
