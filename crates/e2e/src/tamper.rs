//! Makes calls of a running process fail, by strace. Everything else of it goes on as it is.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Process, until};

/// It lets go when it is dropped.
#[derive(Debug)]
pub struct Tamper {
    strace: Child,
}

impl Tamper {
    /// From now on these calls fail with that error, such as `fsync,fdatasync` with `EIO`.
    pub fn fail(process: &Process, calls: &str, error: &str) -> anyhow::Result<Self> {
        let said = tempfile::NamedTempFile::new().context("make a file for what strace says")?;
        let mut strace = Command::new("strace");
        strace.args(["-f", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
        strace.args(["-e", &format!("inject={calls}:error={error}"), "-p", &process.id().to_string()]);
        strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said.reopen().context("open that file")?);
        let mut tamper = Self { strace: strace.spawn().context("start strace")? };
        until("strace attached", Duration::from_secs(10), || {
            let said = fs::read_to_string(said.path()).unwrap_or_default();
            match tamper.strace.try_wait() {
                Ok(None) => said.contains("attached").then_some(Ok(())),
                ended => Some(Err(anyhow::anyhow!("strace ended ({ended:?}): {said}"))),
            }
        })??;
        Ok(tamper)
    }
}

impl Drop for Tamper {
    fn drop(&mut self) {
        if kill(Pid::from_raw(self.strace.id().cast_signed()), Signal::SIGTERM).is_ok() {
            drop(self.strace.wait());
        }
    }
}
