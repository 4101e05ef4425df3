//! The state at a position of the log, in a file, so that a start folds minutes and not the whole log.
//!
//! `<position, 20 digits>.snapshot` is a CRC-32C of the rest, the format's version and the state, postcard. The two newest are kept and the log
//! is cut behind the older of them: should the newest not be readable, the one before and the log give the same state, later.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use journal::Position;

use crate::state::State;

/// Counts up with every change of what the state holds. Another version is not read.
const VERSION: u32 = 14;
const KEPT: usize = 2;
const CRC: usize = 4;

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("the state does not encode: {0}")]
    Encode(#[from] postcard::Error),
    #[error("cannot write {}: {source}", .file.display())]
    Write { file: PathBuf, source: io::Error },
    #[error("cannot list {}: {source}", .dir.display())]
    List { dir: PathBuf, source: io::Error },
}

#[derive(Debug, Clone)]
pub struct Snapshots {
    dir: PathBuf,
}

impl Snapshots {
    pub fn open(data_dir: &Path) -> Result<Self, SnapshotError> {
        let dir = data_dir.join("snapshots");
        fs::create_dir_all(&dir).map_err(|source| SnapshotError::Write { file: dir.clone(), source })?;
        Ok(Self { dir })
    }

    /// The newest that is readable, and the position from which the log goes on.
    pub fn load(&self) -> Result<Option<(Position, State)>, SnapshotError> {
        for position in self.positions()?.into_iter().rev() {
            if let Some(state) = fs::read(self.file(position)).ok().as_deref().and_then(decode) {
                return Ok(Some((position, state)));
            }
            tracing::warn!(%position, "snapshot not readable; the one before serves");
        }
        Ok(None)
    }

    /// The bytes of the newest that is intact, and the position from which the log goes on.
    pub fn newest(&self) -> Result<Option<(Position, Vec<u8>)>, SnapshotError> {
        let positions = self.positions()?.into_iter().rev();
        let mut intact = positions.filter_map(|position| {
            let bytes = fs::read(self.file(position)).ok()?;
            body(&bytes).is_some().then_some((position, bytes))
        });
        Ok(intact.next())
    }

    /// Keeps the state before `position`, encoded; answers the position behind which the log may be cut.
    pub fn save(&self, position: Position, state: &[u8]) -> Result<Option<Position>, SnapshotError> {
        self.write(position, state).map_err(|source| SnapshotError::Write { file: self.file(position), source })?;
        let mut positions = self.positions()?;
        let kept = positions.split_off(positions.len().saturating_sub(KEPT));
        for old in positions {
            let file = self.file(old);
            fs::remove_file(&file).map_err(|source| SnapshotError::Write { file, source })?;
        }
        Ok(kept.first().copied().filter(|_| kept.len() == KEPT))
    }

    fn write(&self, position: Position, bytes: &[u8]) -> io::Result<()> {
        let unfinished = self.dir.join("unfinished");
        let mut file = File::create(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, self.file(position))?;
        File::open(&self.dir)?.sync_all()
    }

    /// Of every snapshot, ascending.
    fn positions(&self) -> Result<Vec<Position>, SnapshotError> {
        let entries = fs::read_dir(&self.dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = entries.map_err(|source| SnapshotError::List { dir: self.dir.clone(), source })?;
        let number = |entry: &fs::DirEntry| entry.file_name().to_str()?.strip_suffix(".snapshot")?.parse().ok();
        let mut positions: Vec<_> = entries.iter().filter_map(number).map(Position).collect();
        positions.sort_unstable();
        Ok(positions)
    }

    /// Of the file.
    pub fn name(position: Position) -> String {
        format!("{:020}.snapshot", position.0)
    }

    fn file(&self, position: Position) -> PathBuf {
        self.dir.join(Self::name(position))
    }
}

pub fn encode(state: &State) -> Result<Vec<u8>, postcard::Error> {
    let head = [[0; CRC], VERSION.to_le_bytes()].concat();
    let mut bytes = postcard::to_extend(state, head)?;
    let (crc, body) = bytes.split_at_mut(CRC);
    crc.copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    Ok(bytes)
}

pub fn decode(bytes: &[u8]) -> Option<State> {
    body(bytes).and_then(|state| postcard::from_bytes(state).ok())
}

/// The encoded state, if it is what was written by this version.
fn body(bytes: &[u8]) -> Option<&[u8]> {
    let (crc, body) = bytes.split_first_chunk()?;
    let (version, state) = body.split_first_chunk()?;
    let intact = u32::from_le_bytes(*crc) == crc32c::crc32c(body) && u32::from_le_bytes(*version) == VERSION;
    intact.then_some(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(now: u64) -> Vec<u8> {
        encode(&State { now: telemetry::Wall(now), ..State::default() }).unwrap()
    }

    #[test]
    fn two_are_kept_and_the_log_is_cut_behind_the_older() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(dir.path()).unwrap();
        assert!(snapshots.load().unwrap().is_none());
        assert_eq!(snapshots.save(Position(10), &state(1)).unwrap(), None);
        assert_eq!(snapshots.save(Position(20), &state(2)).unwrap(), Some(Position(10)));
        assert_eq!(snapshots.save(Position(30), &state(3)).unwrap(), Some(Position(20)));
        assert_eq!(snapshots.positions().unwrap(), [Position(20), Position(30)]);
        let (position, loaded) = snapshots.load().unwrap().unwrap();
        assert_eq!((position, loaded.now.0), (Position(30), 3));
    }

    #[test]
    fn a_damaged_snapshot_is_never_believed_and_the_one_before_serves() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(dir.path()).unwrap();
        snapshots.save(Position(10), &state(1)).unwrap();
        snapshots.save(Position(20), &state(2)).unwrap();
        let good = fs::read(snapshots.file(Position(20))).unwrap();
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 1;
            fs::write(snapshots.file(Position(20)), &bad).unwrap();
            assert_eq!(snapshots.load().unwrap().unwrap().1.now.0, 1, "byte {place}");
        }
    }
}
