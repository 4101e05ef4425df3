//! The store as a whole at one moment, for a backup; and another store made of that.

use std::path::Path;
use std::sync::Arc;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable as _, Snapshot};
use journal::Position;

use super::store::Store;
use super::{History, StoreError};

/// What comes later is not in it, and what is dropped meanwhile stays until it is gone.
pub struct Copy {
    spaces: Vec<(String, Keyspace)>,
    snapshot: Snapshot,
    position: Position,
    _store: Arc<Store>,
}

/// A store that is being filled.
pub struct Rebuild(Database);

impl History {
    pub fn copy(&self) -> Result<Copy, StoreError> {
        let store = self.shared.store.load_full().ok_or(StoreError::Closed)?;
        // Nothing is stored behind the position that is looked at first.
        let position = store.view().position()?;
        let (spaces, snapshot) = store.whole();
        Ok(Copy { spaces, snapshot, position, _store: store })
    }
}

impl Copy {
    /// Up to there the log is in it, or further.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The names of its key spaces.
    pub fn spaces(&self) -> impl Iterator<Item = &str> {
        self.spaces.iter().map(|(name, _)| name.as_str())
    }

    /// Tells the keys of a space in their order, with their values.
    pub fn read<E: From<StoreError>>(
        &self,
        space: &str,
        mut tell: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for (_, keyspace) in self.spaces.iter().filter(|(name, _)| name == space) {
            for item in self.snapshot.iter(keyspace) {
                let (key, value) = item.into_inner().map_err(StoreError::from)?;
                tell(&key, &value)?;
            }
        }
        Ok(())
    }
}

impl Rebuild {
    pub fn begin(data_dir: &Path) -> Result<Self, StoreError> {
        Ok(Self(Database::builder(data_dir.join("history")).open()?))
    }

    /// Fills a key space with what `next` gives, in the order of keys.
    pub fn fill<E: From<StoreError>>(
        &self,
        space: &str,
        mut next: impl FnMut() -> Result<Option<(Vec<u8>, Vec<u8>)>, E>,
    ) -> Result<(), E> {
        let keyspace = self.0.keyspace(space, KeyspaceCreateOptions::default).map_err(StoreError::from)?;
        let mut rows = keyspace.start_ingestion().map_err(StoreError::from)?;
        while let Some((key, value)) = next()? {
            rows.write(key, value).map_err(StoreError::from)?;
        }
        Ok(rows.finish().map_err(StoreError::from)?)
    }

    pub fn end(self) -> Result<(), StoreError> {
        Ok(self.0.persist(PersistMode::SyncAll)?)
    }
}

impl std::fmt::Debug for Copy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Copy").field("position", &self.position).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Rebuild {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rebuild").finish_non_exhaustive()
    }
}
