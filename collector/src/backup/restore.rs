//! A backup becomes a data directory again.
//!
//! It is filled beside its place, under another name, checked as a start would, and comes to its place last: there is a whole one or
//! none. It is a log of its own from here on, and says so in its first new record: what came after the backup is known outside,
//! by versions of hints and ids of messages that will be given again, so its epoch is another.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use journal::{Journal, OpenError, Options, Position, RealDisk, WriteError};
use telemetry::Wall;

use super::manifest::{FORMAT, Manifest, Sum};
use super::sum::{Summed, sync_all_in};
use super::{SEGMENT_BYTES, UNFINISHED};
use crate::entry::{Record, RecordError};
use crate::history::{Rebuild, StoreError};
use crate::stopped::{Stopped, StoppedError};

/// Longer than any key or row.
const LONGEST: usize = 1 << 30;

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("{} is no backup: {source}", .dir.display())]
    Manifest { dir: PathBuf, source: io::Error },
    #[error("{} is of format {found}, this program reads {FORMAT}: use the program that took it", .dir.display())]
    Format { dir: PathBuf, found: u32 },
    #[error("{} is not empty: restore into a directory that is, or is not there", .0.display())]
    Occupied(PathBuf),
    #[error("{}: {source}", .file.display())]
    File { file: PathBuf, source: io::Error },
    #[error("{} is damaged: {found:?}, the manifest says {said:?}", .file.display())]
    Damaged { file: PathBuf, found: Sum, said: Sum },
    #[error("the manifest names a file that no backup has: {0}")]
    Name(String),
    #[error("{} cannot take the place: {source}. Where it is a mount point, restore into a directory in it", .dir.display())]
    Place { dir: PathBuf, source: io::Error },
    #[error(transparent)]
    History(#[from] StoreError),
    #[error("open the restored log: {0}")]
    Open(#[from] OpenError),
    #[error("the restored log ends at {found}, the manifest says {said}")]
    End { found: Position, said: Position },
    #[error("write to the restored log: {0}")]
    Write(#[from] WriteError),
    #[error("write to the restored log: {0}")]
    Record(#[from] RecordError),
    #[error("what was restored would not start: {0}")]
    Start(#[from] StoppedError),
}

/// Makes `data_dir` of a backup, or leaves it as it was.
pub fn restore(backup: &Path, data_dir: &Path, at: Wall) -> Result<Manifest, RestoreError> {
    let manifest =
        Manifest::read(backup).map_err(|source| RestoreError::Manifest { dir: backup.to_owned(), source })?;
    if manifest.format != FORMAT {
        return Err(RestoreError::Format { dir: backup.to_owned(), found: manifest.format });
    }
    if fs::read_dir(data_dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(RestoreError::Occupied(data_dir.to_owned()));
    }
    let name = data_dir.file_name().ok_or_else(|| RestoreError::Occupied(data_dir.to_owned()))?;
    let parent = data_dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let unfinished = parent.join(format!("{UNFINISHED}{}", name.to_string_lossy()));
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(file(&unfinished))?;
    }
    let restored = fill(backup, &manifest, &unfinished, at).and_then(|()| {
        let place = |source| RestoreError::Place { dir: data_dir.to_owned(), source };
        fs::rename(&unfinished, data_dir).map_err(place)?;
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(place)
    });
    restored.map(|()| manifest).inspect_err(|_| drop(fs::remove_dir_all(&unfinished)))
}

fn fill(backup: &Path, manifest: &Manifest, dir: &Path, at: Wall) -> Result<(), RestoreError> {
    fs::create_dir_all(dir).map_err(file(dir))?;
    let history = Rebuild::begin(dir)?;
    for (name, said) in &manifest.files {
        let from = backup.join(is_ours(name)?);
        let mut bytes = Summed::open(&from).map_err(file(&from))?;
        if let Some(space) = space(name) {
            history.fill(space, || row(&mut bytes).map_err(file(&from)))?;
        } else {
            let to = dir.join(name);
            fs::create_dir_all(to.parent().unwrap_or(dir)).map_err(file(&to))?;
            let copied = File::create(&to).and_then(|mut to| io::copy(&mut bytes, &mut to));
            copied.map_err(file(&to))?;
        }
        let found = bytes.sum();
        if found != *said {
            return Err(RestoreError::Damaged { file: from, found, said: *said });
        }
    }
    history.end()?;
    begin_anew(&dir.join("log"), Position(manifest.end), at)?;
    // It folds the log and stores what history lacks: what cannot start is not called restored.
    drop(Stopped::open(dir)?);
    sync_all_in(dir).map_err(file(dir))
}

fn begin_anew(dir: &Path, said: Position, at: Wall) -> Result<(), RestoreError> {
    let disk = RealDisk::open(dir).map_err(file(dir))?;
    let mut log = Journal::open(disk, Options { segment_bytes: SEGMENT_BYTES })?;
    if log.next() != said {
        return Err(RestoreError::End { found: log.next(), said });
    }
    log.append(&Record::Restored(at).encode()?)?;
    Ok(log.sync()?)
}

/// A path that leads nowhere else.
fn is_ours(name: &str) -> Result<&Path, RestoreError> {
    let path = Path::new(name);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    if plain { Ok(path) } else { Err(RestoreError::Name(name.to_owned())) }
}

/// The key space whose rows a file has.
fn space(name: &str) -> Option<&str> {
    let space = name.strip_prefix("history/")?.strip_suffix(".rows")?;
    let named = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (!space.is_empty() && space.bytes().all(named)).then_some(space)
}

fn row(bytes: &mut Summed<io::BufReader<File>>) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let mut lengths = [0; 8];
    let read = bytes.read(&mut lengths)?;
    if read == 0 {
        return Ok(None);
    }
    bytes.read_exact(&mut lengths[read..])?;
    let mut part = |length: &[u8]| {
        let length = length.try_into().map_or(usize::MAX, |length| u32::from_le_bytes(length) as usize);
        let mut part = Vec::new();
        // A length that is damaged sets nothing aside.
        let read = bytes.by_ref().take(length.min(LONGEST) as u64).read_to_end(&mut part)?;
        if read == length { Ok(part) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof)) }
    };
    Ok(Some((part(&lengths[..4])?, part(&lengths[4..])?)))
}

fn file(file: &Path) -> impl Fn(io::Error) -> RestoreError + use<> {
    let file = file.to_owned();
    move |source| RestoreError::File { file: file.clone(), source }
}
