//! Where all of it happens: the folder that goes with the bench, and our binaries.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;

use super::net;
use super::program::Core;
use crate::cargo;

#[derive(Debug)]
pub(super) struct Arena {
    pub(super) dir: TempDir,
    /// The release binaries.
    pub(super) programs: PathBuf,
    /// How long each program is watched.
    pub(super) watch: Duration,
}

impl Arena {
    /// Once, before this process has a second thread.
    pub(super) fn enter(watch: Duration) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("isochrone-bench-").tempdir().context("make a folder")?;
        net::enter()?;
        Core::Other.pin()?;
        Ok(Self { dir, programs: cargo::programs_of("release")?, watch })
    }
}
