//! The data of a collector that does not run: read by commands, with the directory's lock held, so that none starts meanwhile.
//!
//! What the log holds beyond history is stored on the way, as the next start would.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use journal::{OpenError, Position};

use crate::core::{Core, Keep, RecoverError, Snapshots as Concluded};
use crate::history::{self, History, StoreError};
use crate::log::{Log, LogError};
use crate::retention::Retention;
use crate::snapshot::{SnapshotError, Snapshots};

/// What a backup says of itself, in its own directory.
pub const MANIFEST: &str = "manifest.json";

pub struct Stopped {
    pub log: Log,
    pub history: History,
    /// As the log has it.
    pub concluded: Concluded,
}

#[derive(Debug, thiserror::Error)]
pub enum StoppedError {
    #[error("{} holds no data of a collector", .0.display())]
    Nothing(PathBuf),
    #[error("{} is a backup: `isochrone-collector restore` makes a data directory of it", .0.display())]
    Backup(PathBuf),
    #[error("a collector runs on {}: {HELD}", .0.display())]
    Held(PathBuf),
    #[error(transparent)]
    Log(LogError),
    #[error(transparent)]
    History(#[from] StoreError),
    #[error(transparent)]
    Snapshots(#[from] SnapshotError),
    #[error(transparent)]
    Recover(#[from] RecoverError),
    #[error("start the thread that stores history: {0}")]
    Thread(#[source] std::io::Error),
    #[error("history could be stored up to position {stored} of the log only, which ends at {end}: look at the disk")]
    Behind { stored: Position, end: Position },
}

const HELD: &str = "ask it (`--collector URL`, where the command has it), stop it, or take a backup, restore that elsewhere and use it";

/// To open one would change it.
pub fn refuse_backup(dir: &Path) -> Result<(), StoppedError> {
    if dir.join(MANIFEST).exists() { Err(StoppedError::Backup(dir.to_owned())) } else { Ok(()) }
}

impl Stopped {
    pub fn open(data_dir: &Path) -> Result<Self, StoppedError> {
        refuse_backup(data_dir)?;
        // Opening would make it.
        if !data_dir.join("log").is_dir() {
            return Err(StoppedError::Nothing(data_dir.to_owned()));
        }
        let log = Log::open(data_dir).map_err(|error| match error {
            LogError::Open(OpenError::Held { .. }) => StoppedError::Held(data_dir.to_owned()),
            error => StoppedError::Log(error),
        })?;
        let (history, intake, keeper) = history::open(data_dir, Retention::default())?;
        let keeper =
            thread::Builder::new().name("history".to_owned()).spawn(|| keeper.run()).map_err(StoppedError::Thread)?;
        let keep = Keep { snapshots: Snapshots::open(data_dir)?, history: intake, due: Arc::default() };
        let core = Core::recover(&log, keep)?;
        let end = core.folded();
        let concluded = core.end();
        let stored = if keeper.join().is_ok() { history.stored() } else { Position::START };
        if stored < end { Err(StoppedError::Behind { stored, end }) } else { Ok(Self { log, history, concluded }) }
    }
}

impl std::fmt::Debug for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stopped").finish_non_exhaustive()
    }
}
