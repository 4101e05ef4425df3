//! A wall clock that a test sets for a process while it runs, by libfaketime. The monotonic clock, and what the kernel stamps, stay true.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;

/// `$LIB` is the loader's: the folder for libraries of this machine's kind.
const LIBRARY: &str = "/usr/$LIB/faketime/libfaketime.so.1";

/// How far the clock is ahead of the true one, in a file that the process reads again every second.
#[derive(Debug)]
pub struct ShiftedClock {
    file: PathBuf,
}

impl ShiftedClock {
    /// Still the true one.
    pub fn new(file: PathBuf) -> anyhow::Result<Self> {
        let clock = Self { file };
        clock.set(0)?;
        Ok(clock)
    }

    pub fn set(&self, ahead_s: i64) -> anyhow::Result<()> {
        let whole = self.file.with_extension("next");
        fs::write(&whole, format!("{ahead_s:+}")).with_context(|| format!("write {}", whole.display()))?;
        fs::rename(&whole, &self.file).with_context(|| format!("write {}", self.file.display()))
    }

    pub(crate) fn given_to(&self, program: &mut Command) {
        program.env("LD_PRELOAD", LIBRARY).env("FAKETIME_TIMESTAMP_FILE", &self.file);
        program
            .env("FAKETIME_CACHE_DURATION", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("FAKETIME_DISABLE_SHM", "1");
    }
}
