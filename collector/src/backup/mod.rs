//! A copy of all that a collector has, from one moment, while it runs; and a data directory made of that.
//!
//! A backup is a directory, named after the time at which it was asked for. It has its name only once it is whole and durable: what
//! was begun and not finished has another, and is swept away by the next.
//!
//! | file | what it is |
//! |---|---|
//! | `manifest.json` | what it is of, and every other file with its bytes and its CRC-32C |
//! | `snapshots/…` | the newest snapshot, if there was one |
//! | `log/…` | a journal with every record from the oldest on that was there |
//! | `history/<key space>.rows` | each key and value of a key space of history: two lengths of four bytes, little endian, and both |
//! | `export.position` | where the sending on of batches stood, if there was any |
//!
//! They fit together since each is taken after what it must not be older than: history is at its snapshot or ahead of it, and the log is at
//! history or ahead of it. So a start finds what it would find after a kill.

mod manifest;
mod restore;
mod sum;

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use journal::{Journal, OpenError, Options, Position, ReadError, RealDisk, WriteError};
use telemetry::Wall;

pub use manifest::{FORMAT, Manifest, Sum};
pub use restore::{RestoreError, restore};

use crate::history::{History, StoreError};
use crate::log::Reading;
use crate::snapshot::{SnapshotError, Snapshots};
use crate::stopped::MANIFEST;
use sum::{Summed, sum_of, sync_all_in};

const UNFINISHED: &str = ".unfinished-";
const LOCK: &str = ".lock";
const SEGMENT_BYTES: u64 = 64 << 20;
/// The log is cut every few minutes at most: a copy that is overtaken by a cut is begun again.
const TRIES: usize = 3;

/// What is copied.
#[derive(Debug)]
pub struct Source {
    pub data_dir: PathBuf,
    pub history: History,
    pub log: Reading,
}

/// One that is whole.
#[derive(Debug, Clone)]
pub struct Backup {
    pub name: String,
    pub dir: PathBuf,
    pub manifest: Manifest,
}

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("someone else is taking a backup into {}: each collector has a directory of its own", .0.display())]
    Held(PathBuf),
    #[error("{}: {source}", .file.display())]
    File { file: PathBuf, source: io::Error },
    #[error(transparent)]
    History(#[from] StoreError),
    #[error(transparent)]
    Snapshots(#[from] SnapshotError),
    #[error("read the log: {0}")]
    Read(#[from] ReadError),
    #[error("copy the log: {0}")]
    Open(#[from] OpenError),
    #[error("copy the log: {0}")]
    Write(#[from] WriteError),
    #[error("the log begins at {first}, and there is no snapshot that is readable and not older")]
    Cut { first: Position },
    #[error("the manifest does not encode: {0}")]
    Manifest(#[from] serde_json::Error),
}

impl Source {
    /// Into a directory of that one, made anew.
    pub fn back_up(&self, to: &Path, taken: Wall) -> Result<Backup, BackupError> {
        fs::create_dir_all(to).map_err(at(to))?;
        let _held = hold(to)?;
        sweep(to)?;
        let name = name(taken);
        let unfinished = to.join(format!("{UNFINISHED}{name}"));
        let filled = self.try_to_fill(&unfinished, taken);
        let finished = filled.and_then(|manifest| {
            let dir = to.join(&name);
            fs::rename(&unfinished, &dir).map_err(at(&dir))?;
            sync(to)?;
            Ok(Backup { name, dir, manifest })
        });
        finished.inspect_err(|_| drop(fs::remove_dir_all(&unfinished)))
    }

    fn try_to_fill(&self, dir: &Path, taken: Wall) -> Result<Manifest, BackupError> {
        for _ in 1..TRIES {
            match self.fill(dir, taken) {
                Err(BackupError::Read(ReadError::Cut { .. })) => fs::remove_dir_all(dir).map_err(at(dir))?,
                filled => return filled,
            }
        }
        self.fill(dir, taken)
    }

    /// In the order that makes them fit: what is newer last.
    fn fill(&self, dir: &Path, taken: Wall) -> Result<Manifest, BackupError> {
        fs::create_dir(dir).map_err(at(dir))?;
        let mut manifest = Manifest::new(taken);
        let place = "export.position";
        if let Ok(bytes) = fs::read(self.data_dir.join(place)) {
            manifest.add(place, write(&dir.join(place), &bytes)?);
        }
        let snapshot = Snapshots::open(&self.data_dir)?.newest()?;
        let folded = snapshot.as_ref().map_or(Position::START, |(position, _)| *position);
        if let Some((position, bytes)) = snapshot {
            let name = format!("snapshots/{}", Snapshots::name(position));
            make(&dir.join("snapshots"))?;
            manifest.add(&name, write(&dir.join(&name), &bytes)?);
        }
        let history = self.history.copy()?;
        manifest.history = history.position().0;
        manifest.end = self.copy_log(dir, folded)?.0;
        for file in fs::read_dir(dir.join("log")).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(at(dir))? {
            let name = file.file_name();
            // The lock is of whoever opens it.
            if let Some(name) = name.to_str().filter(|name| name.ends_with(".segment")) {
                manifest.add(&format!("log/{name}"), sum_of(&file.path()).map_err(at(&file.path()))?);
            }
        }
        make(&dir.join("history"))?;
        for space in history.spaces() {
            let name = format!("history/{space}.rows");
            let file = dir.join(&name);
            let mut out = Summed::new(File::create(&file).map_err(at(&file))?);
            history.read(space, |key, value| {
                let lengths = [key.len() as u32, value.len() as u32].map(u32::to_le_bytes);
                [&lengths[0][..], &lengths[1], key, value]
                    .iter()
                    .try_for_each(|part| out.write_all(part))
                    .map_err(at(&file))
            })?;
            manifest.add(&name, out.finish().map_err(at(&file))?);
        }
        write(&dir.join(MANIFEST), &serde_json::to_vec_pretty(&manifest)?)?;
        sync_all_in(dir).map_err(at(dir))?;
        Ok(manifest)
    }

    /// Every record that is there by now: each is checked as it is read, and stands at its position.
    fn copy_log(&self, dir: &Path, folded: Position) -> Result<Position, BackupError> {
        let (first, end) = (self.log.first(), self.log.end());
        if folded < first {
            return Err(BackupError::Cut { first });
        }
        let dir = dir.join("log");
        let disk = RealDisk::open(&dir).map_err(at(&dir))?;
        let mut copy = Journal::begin(disk, first, Options { segment_bytes: SEGMENT_BYTES })?;
        for record in self.log.records(first) {
            let (position, record) = record?;
            if position >= end {
                break;
            }
            copy.append(&record)?;
        }
        copy.sync()?;
        Ok(copy.next())
    }
}

/// All that are whole, the oldest first.
pub fn list(dir: &Path) -> Result<Vec<Backup>, BackupError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(at(dir))?,
    };
    let whole = entries.into_iter().filter_map(|entry| {
        let name = entry.file_name().into_string().ok().filter(|name| !name.starts_with('.'))?;
        let manifest = Manifest::read(&entry.path()).ok()?;
        Some(Backup { name, dir: entry.path(), manifest })
    });
    let mut whole: Vec<_> = whole.collect();
    whole.sort_by(|one, other| one.manifest.taken.cmp(&other.manifest.taken));
    Ok(whole)
}

/// Removes all but so many of the newest. One that is half gone does not look whole.
pub fn keep(dir: &Path, newest: usize) -> Result<(), BackupError> {
    let mut old = list(dir)?;
    old.truncate(old.len().saturating_sub(newest));
    for Backup { name, dir: whole, .. } in old {
        let going = dir.join(format!("{UNFINISHED}{name}"));
        fs::rename(&whole, &going).map_err(at(&whole))?;
        fs::remove_dir_all(&going).map_err(at(&going))?;
    }
    Ok(())
}

/// What is unfinished here is of nobody who is still at it.
fn hold(dir: &Path) -> Result<File, BackupError> {
    let file = dir.join(LOCK);
    let lock = File::options().create(true).truncate(false).write(true).open(&file).map_err(at(&file))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(BackupError::Held(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(BackupError::File { file, source }),
    }
}

/// What a kill left.
fn sweep(dir: &Path) -> Result<(), BackupError> {
    for entry in fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(at(dir))? {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(UNFINISHED)) {
            fs::remove_dir_all(entry.path()).map_err(at(&entry.path()))?;
        }
    }
    Ok(())
}

/// A time without what a file system or a shell could mind.
fn name(taken: Wall) -> String {
    taken.to_string().replace([':', '.'], "-")
}

fn make(dir: &Path) -> Result<(), BackupError> {
    fs::create_dir(dir).map_err(at(dir))
}

fn write(file: &Path, bytes: &[u8]) -> Result<Sum, BackupError> {
    let mut out = Summed::new(File::create(file).map_err(at(file))?);
    out.write_all(bytes).and_then(|()| out.finish()).map_err(at(file))
}

fn sync(dir: &Path) -> Result<(), BackupError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(at(dir))
}

fn at(file: &Path) -> impl Fn(io::Error) -> BackupError + use<> {
    let file = file.to_owned();
    move |source| BackupError::File { file: file.clone(), source }
}
