//! One of our binaries, running. It is ended by its own PID, at the latest when the value is dropped.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::clock::ShiftedClock;
use crate::until;

/// The promise is ten seconds.
const DRAIN: Duration = Duration::from_secs(12);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    Planet,
    Collector,
    Agent,
}

/// Where a planet that routes tells how to come into one of its regions.
#[derive(Debug)]
pub struct Namespace {
    pub net: PathBuf,
    /// Only there if the planet has no privileges.
    pub user: PathBuf,
}

#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Binary {
    pub fn name(self) -> &'static str {
        match self {
            Self::Planet => "isochrone-planet",
            Self::Collector => "isochrone-collector",
            Self::Agent => "isochrone-agent",
        }
    }

    fn path(self, programs: &Path) -> anyhow::Result<PathBuf> {
        let path = programs.join(self.name());
        anyhow::ensure!(path.exists(), "{} is not built; `cargo xtask test` builds it", path.display());
        Ok(path)
    }
}

impl Process {
    /// Starts it; what it logs goes to `<dir>/<name>.log`.
    pub fn start<A: AsRef<OsStr>>(
        (binary, programs): (Binary, &Path),
        name: &str,
        dir: &Path,
        args: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<Self> {
        Self::start_by(Command::new(binary.path(programs)?), name, dir, args)
    }

    /// As [`Self::start`], by a clock of its own.
    pub fn start_by_clock<A: AsRef<OsStr>>(
        clock: &ShiftedClock,
        (binary, programs): (Binary, &Path),
        name: &str,
        dir: &Path,
        args: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<Self> {
        let mut program = Command::new(binary.path(programs)?);
        clock.given_to(&mut program);
        Self::start_by(program, name, dir, args)
    }

    /// As [`Self::start`], in a network namespace.
    pub fn start_in<A: AsRef<OsStr>>(
        namespace: &Namespace,
        (binary, programs): (Binary, &Path),
        name: &str,
        dir: &Path,
        args: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<Self> {
        let mut enter = Command::new("nsenter");
        if namespace.user.exists() {
            enter.arg("--preserve-credentials").arg(option("--user=", &namespace.user));
        }
        enter.arg(option("--net=", &namespace.net)).arg(binary.path(programs)?);
        Self::start_by(enter, name, dir, args)
    }

    fn start_by<A: AsRef<OsStr>>(
        mut program: Command,
        name: &str,
        dir: &Path,
        args: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let file =
            File::options().create(true).append(true).open(&log).with_context(|| format!("open {}", log.display()))?;
        let out = file.try_clone().context("share the log file")?;
        program.args(args).stdin(Stdio::null()).stdout(out).stderr(file);
        let child = program.spawn().with_context(|| format!("start {}", program.get_program().display()))?;
        Ok(Self { child, name: name.to_owned(), log })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ended by itself, if so.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for a file that the process writes once it listens.
    pub fn address(&mut self, file: &Path) -> anyhow::Result<String> {
        until(&format!("address of {}", self.name), Duration::from_secs(20), || {
            let address = fs::read_to_string(file).ok().map(|address| address.trim().to_owned());
            let address = address.filter(|address| address.contains(':'));
            address.map(Ok).or_else(|| self.ended().map(Err))
        })?
        .map_err(|status| anyhow::anyhow!("{} ended with {status}:\n{}", self.name, self.log()))
    }

    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal).with_context(|| format!("send {signal} to {}", self.name))
    }

    /// Waits for it to end by itself; its exit status, and what it said last.
    pub fn fall(mut self, deadline: Duration) -> anyhow::Result<(ExitStatus, String)> {
        let status = until(&format!("end of {}", self.name), deadline, || self.ended())?;
        Ok((status, self.log().lines().next_back().unwrap_or_default().to_owned()))
    }

    /// SIGTERM, and its exit status.
    pub fn stop(mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        let name = self.name.clone();
        until(&format!("end of {name}"), DRAIN, || self.ended())
    }

    /// SIGKILL: no goodbye.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().with_context(|| format!("kill {}", self.name))?;
        self.child.wait().with_context(|| format!("wait for {}", self.name))?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

fn option(name: &str, value: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push(value);
    option
}
