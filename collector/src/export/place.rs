//! How far the log has been sent on: a number in a file beside it, replaced as a whole.

use std::fs;
use std::io;
use std::path::PathBuf;

use journal::Position;
use tracing::warn;

/// It is kept after so many entries, and whenever there is nothing to send.
const KEEP_EVERY: u64 = 256;

#[derive(Debug)]
pub struct Place {
    file: PathBuf,
    /// What comes next.
    pub next: Position,
    kept: Option<Position>,
}

#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error("cannot read {}: {source}", .file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("{} holds no position: remove it to go on with what comes now", .file.display())]
    Content { file: PathBuf },
}

impl Place {
    /// Where there is none yet, and where it lies beyond the log's end, what comes now is the next.
    pub fn open(file: PathBuf, end: Position) -> Result<Self, PlaceError> {
        let kept = match fs::read_to_string(&file) {
            Ok(text) => Some(text.trim().parse().map_err(|_| PlaceError::Content { file: file.clone() })?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(PlaceError::Read { file, source }),
        };
        let kept = kept.map(Position);
        Ok(Self { file, next: kept.unwrap_or(end).min(end), kept })
    }

    pub(super) fn go_on(&mut self, next: Position) {
        self.next = next;
        if next.0.saturating_sub(self.kept.unwrap_or_default().0) >= KEEP_EVERY {
            self.keep();
        }
    }

    /// A place that cannot be kept costs batches that are sent again after a restart, nothing else.
    pub fn keep(&mut self) {
        if self.kept == Some(self.next) {
            return;
        }
        let draft = self.file.with_extension("draft");
        let kept = fs::write(&draft, self.next.to_string()).and_then(|()| fs::rename(&draft, &self.file));
        match kept {
            Ok(()) => self.kept = Some(self.next),
            Err(error) => warn!(%error, file = %self.file.display(), "place not kept"),
        }
    }
}
