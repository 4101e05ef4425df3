//! A program on one core, watched from outside: ours and the peers' alike. CPU is user and system time of all its threads, by
//! the kernel's clock of the process; what the kernel does for it in interrupts is charged to whoever runs then, in all alike.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use e2e::until;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

const END: Duration = Duration::from_secs(30);
/// How long others may keep us waiting, and how long their core is looked at.
const PATIENCE: Duration = Duration::from_secs(10);
const GLANCE: Duration = Duration::from_millis(500);

/// Where something runs, so that what is measured shares no core with what answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Core {
    Measured,
    Other,
}

impl Core {
    pub(super) fn number(self) -> usize {
        // Counted once: whoever keeps to a core sees one.
        static SEVERAL: LazyLock<bool> = LazyLock::new(|| thread::available_parallelism().is_ok_and(|it| it.get() > 1));
        usize::from(*SEVERAL && self == Self::Other)
    }

    /// Waits a while for others' work on this core to end. Where it does not, their turns show in ours, and in the peer's.
    fn quieten(self) {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            let Some(before) = self.idle() else { return };
            thread::sleep(GLANCE);
            if self.idle().is_none_or(|after| after.saturating_sub(before) >= GLANCE.mul_f64(0.9)) {
                return;
            }
        }
        println!("core {} is busy with others' work: what follows is noisy", self.number());
    }

    /// For how long it has done nothing, since the machine was started.
    fn idle(self) -> Option<Duration> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let name = format!("cpu{}", self.number());
        let line = stat.lines().map(str::split_whitespace).find(|words| words.clone().next() == Some(&name))?;
        let ticks: u64 = line.skip(4).take(2).filter_map(|word| word.parse::<u64>().ok()).sum();
        Some(Duration::from_millis(ticks * 10))
    }

    /// Keeps the calling thread, and what it starts, to this core.
    pub(super) fn pin(self) -> anyhow::Result<()> {
        let mut cores = CpuSet::new();
        cores.set(self.number()).context("name a core")?;
        sched_setaffinity(Pid::from_raw(0), &cores).context("keep to a core")
    }
}

/// It is ended by its PID, at the latest when the value is dropped.
#[derive(Debug)]
pub(super) struct Program {
    child: Child,
    name: String,
    log: PathBuf,
    begun: Instant,
}

/// What was seen between two readings of a program's CPU.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spent {
    pub(super) cpu: Duration,
    pub(super) watched: Duration,
}

impl Spent {
    /// CPU microseconds for each probe, at so many a second.
    pub(super) fn per_probe(self, per_second: f64) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / (self.watched.as_secs_f64() * per_second)
    }
}

impl Program {
    /// What it says goes to `<dir>/<name>.log`. On the measured core it waits until that is quiet.
    pub(super) fn start<A: AsRef<OsStr>>(
        core: Core,
        program: (&str, &Path),
        args: impl IntoIterator<Item = A>,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        if core == Core::Measured {
            core.quieten();
        }
        Self::start_beside(core, program, args, dir)
    }

    /// The same beside others that were started before.
    pub(super) fn start_beside<A: AsRef<OsStr>>(
        core: Core,
        (name, program): (&str, &Path),
        args: impl IntoIterator<Item = A>,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let (name, log) = (name.to_owned(), dir.join(format!("{name}.log")));
        let file = File::create(&log).with_context(|| format!("make {}", log.display()))?;
        let out = file.try_clone().context("share the log file")?;
        // It also ends where the bench is killed.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "TERM", "taskset", "-c", &core.number().to_string()])
            .arg(found(program))
            .args(args);
        let child = command.stdin(Stdio::null()).stdout(out).stderr(file).spawn();
        let child = child.with_context(|| format!("start {name}"))?;
        Ok(Self { child, name, log, begun: Instant::now() })
    }

    pub(super) fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Looks on for so long.
    pub(super) fn watch(&mut self, length: Duration) -> anyhow::Result<Spent> {
        self.during(|| {
            thread::sleep(length);
            Ok(())
        })
        .map(|(spent, ())| spent)
    }

    /// What several spend together in so long.
    pub(super) fn watch_all(programs: &mut [Self], length: Duration) -> anyhow::Result<Spent> {
        let cpu = |programs: &[Self]| programs.iter().map(Self::cpu).sum::<anyhow::Result<Duration>>();
        let (begin, before) = (Instant::now(), cpu(programs)?);
        thread::sleep(length);
        let (watched, after) = (begin.elapsed(), cpu(programs)?);
        for program in programs {
            let ended = program.child.try_wait()?.is_some();
            anyhow::ensure!(!ended, "{} ended while it was watched:\n{}", program.name, program.log());
        }
        Ok(Spent { cpu: after.saturating_sub(before), watched })
    }

    /// What it spends while something is done.
    pub(super) fn during<T>(&mut self, act: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(Spent, T)> {
        let (begin, before) = (Instant::now(), self.cpu()?);
        let done = act()?;
        let (watched, after) = (begin.elapsed(), self.cpu()?);
        anyhow::ensure!(self.child.try_wait()?.is_none(), "{} ended while it was watched:\n{}", self.name, self.log());
        Ok((Spent { cpu: after.saturating_sub(before), watched }, done))
    }

    /// Resident memory, in bytes.
    pub(super) fn memory(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).context("read its status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().context("read VmRSS")?;
        Ok(kilobytes * 1024)
    }

    /// SIGTERM, and waits for its end.
    pub(super) fn stop(self) -> anyhow::Result<()> {
        kill(self.pid(), Signal::SIGTERM).with_context(|| format!("stop {}", self.name))?;
        self.end().map(drop)
    }

    /// Waits until it ends by itself; answers what it said.
    pub(super) fn end(mut self) -> anyhow::Result<(ExitStatus, String)> {
        let name = self.name.clone();
        let status = until(&format!("end of {name}"), END, || self.child.try_wait().ok().flatten())?;
        Ok((status, self.log()))
    }

    fn cpu(&self) -> anyhow::Result<Duration> {
        let clock =
            ClockId::pid_cpu_clock_id(self.pid()).with_context(|| format!("find the clock of {}", self.name))?;
        Ok(clock_gettime(clock).with_context(|| format!("read the CPU time of {}", self.name))?.into())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Debian puts servers where an ordinary user's path does not lead.
fn found(program: &Path) -> OsString {
    let server = Path::new("/usr/sbin").join(program);
    if program.components().count() == 1 && server.exists() { server.into() } else { program.into() }
}
