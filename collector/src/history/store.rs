//! History on disk: a database of key spaces, each dropped as a whole when its time is over.
//!
//! | key space | key | value |
//! |---|---|---|
//! | `meta` | `position` | up to where the log is stored |
//! | | `s` and a series' number | the series, postcard |
//! | | `f` and a tier's name | the first hour of which the tier still holds all |
//! | `dirty` | series, hour | nothing: a row came after it was last rolled up |
//! | `raw-<day>` | series, hour, position | the windows that came in the part of history that ends there; 0: those that were rolled up |
//! | `minute-<day>` | series, hour | the hour's minutes |
//! | `hour-<thirty days>` | series, hour | the hour as one window |
//!
//! Numbers are big endian: positions of 8 bytes, the rest of 4. Days are counted from the epoch. Windows are [rows](super::row).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable as _, Snapshot};
use journal::Position;
use telemetry::{PathId, Series, Wall};

use super::gather::Part;
use super::key::{Hour, Number, key, of_key};
use super::row::{self, RowError, Windows};
use super::tier::Tier;
use crate::rings::Seen;

/// Of all journals of the database: what a start reads again at most, and what idle key spaces may keep from being dropped.
const JOURNALS: u64 = 128 << 20;
/// Fewer, and a flush that waits for a compaction would wait for itself.
const WORKERS: usize = 2;
const POSITION: &[u8] = b"position";
const SERIES: u8 = b's';
const FLOOR: u8 = b'f';

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("history: {0}")]
    Database(#[from] fjall::Error),
    #[error(transparent)]
    Row(#[from] RowError),
    #[error("the history's list of series does not decode")]
    Series(#[source] postcard::Error),
    #[error("the history's own {0} does not decode")]
    Number(&'static str),
    #[error("history is closed until it can be written again")]
    Closed,
}

pub(super) struct Store {
    database: Database,
    pub(super) meta: Keyspace,
    pub(super) dirty: Keyspace,
    rows: RwLock<BTreeMap<(Tier, u32), Keyspace>>,
    catalog: RwLock<Catalog>,
    /// What `dirty` holds.
    marks: Mutex<Marks>,
}

pub(super) type Marks = BTreeMap<Hour, BTreeSet<Number>>;

/// Every series that was ever stored.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    all: Vec<Arc<Series>>,
    numbers: HashMap<Arc<Series>, Number>,
    paths: BTreeMap<PathId, Vec<Number>>,
}

/// The store at one moment.
pub(super) struct View<'a> {
    store: &'a Store,
    snapshot: Snapshot,
}

impl Store {
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        let database = Database::builder(dir).worker_threads(WORKERS).max_journaling_size(JOURNALS).open()?;
        let existing = |name: &str| database.keyspace(name, KeyspaceCreateOptions::default);
        let (meta, dirty) = (existing("meta")?, existing("dirty")?);
        let mut rows = BTreeMap::new();
        for name in database.list_keyspace_names() {
            if let Some(place) = place(&name) {
                rows.insert(place, existing(&name)?);
            }
        }
        let mut catalog = Catalog::default();
        for item in meta.prefix([SERIES]) {
            let series = postcard::from_bytes(&item.value()?).map_err(StoreError::Series)?;
            catalog.add(&Arc::new(series));
        }
        let mut marks = Marks::new();
        for item in dirty.iter() {
            let (number, hour) = of_key(&item.key()?).ok_or(StoreError::Number("mark"))?;
            marks.entry(hour).or_default().insert(number);
        }
        let (rows, catalog, marks) = (RwLock::new(rows), RwLock::new(catalog), Mutex::new(marks));
        Ok(Self { database, meta, dirty, rows, catalog, marks })
    }

    pub(super) fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn view(&self) -> View<'_> {
        View { store: self, snapshot: self.database.snapshot() }
    }

    /// What is durable once it is committed, all of it or nothing.
    pub(super) fn batch(&self) -> OwnedWriteBatch {
        self.database.batch().durability(Some(PersistMode::SyncData))
    }

    /// Stores a part and its position. The same part again changes nothing.
    pub(super) fn keep(&self, part: &Part) -> Result<(), StoreError> {
        let mut batch = self.batch();
        let mut marked = Vec::new();
        for held in part.held.values() {
            let number = self.number(&held.series, &mut batch)?;
            for (hour, windows) in by_hour(&held.windows) {
                let place = key(number, hour);
                let whole = [&place[..], &part.position.0.to_be_bytes()].concat();
                batch.insert(&self.rows(Tier::Raw, hour)?, whole, row::encode(hour.begin(), &windows));
                if self.marks().get(&hour).is_none_or(|marked| !marked.contains(&number)) {
                    batch.insert(&self.dirty, place, b"");
                    marked.push((hour, number));
                }
            }
        }
        batch.insert(&self.meta, POSITION, part.position.0.to_be_bytes());
        batch.commit()?;
        let mut marks = self.marks();
        for (hour, number) in marked {
            marks.entry(hour).or_default().insert(number);
        }
        Ok(())
    }

    fn number(&self, series: &Arc<Series>, batch: &mut OwnedWriteBatch) -> Result<Number, StoreError> {
        if let Some(number) = self.catalog().numbers.get(series) {
            return Ok(*number);
        }
        let number = self.catalog.write().unwrap_or_else(PoisonError::into_inner).add(series);
        let key = [&[SERIES][..], &number.0.to_be_bytes()].concat();
        batch.insert(&self.meta, key, postcard::to_stdvec(&**series).map_err(StoreError::Series)?);
        Ok(number)
    }

    /// The key space for rows of this hour.
    pub(super) fn rows(&self, tier: Tier, hour: Hour) -> Result<Keyspace, StoreError> {
        let place = (tier, tier.period(hour));
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = rows.get(&place) {
            return Ok(known.clone());
        }
        let new = self.database.keyspace(&name(place), KeyspaceCreateOptions::default)?;
        rows.insert(place, new.clone());
        Ok(new)
    }

    /// Every key space by its name, and all of them at one moment.
    pub(super) fn whole(&self) -> (Vec<(String, Keyspace)>, Snapshot) {
        let own = [("meta".to_owned(), self.meta.clone()), ("dirty".to_owned(), self.dirty.clone())];
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        let rows = rows.iter().map(|(place, keyspace)| (name(*place), keyspace.clone()));
        (own.into_iter().chain(rows).collect(), self.database.snapshot())
    }

    /// Every key space of rows, the oldest of the finest tier first, and its bytes on disk.
    pub(super) fn sizes(&self) -> Vec<((Tier, u32), u64)> {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        rows.iter().map(|(place, keyspace)| (*place, keyspace.disk_space())).collect()
    }

    /// Of this tier only what begins then is whole from here on.
    pub(super) fn forget(&self, (tier, period): (Tier, u32)) -> Result<(), StoreError> {
        let mut batch = self.batch();
        batch.insert(&self.meta, floor(tier), tier.end(period).0.to_be_bytes());
        batch.commit()?;
        let gone = self.rows.write().unwrap_or_else(PoisonError::into_inner).remove(&(tier, period));
        Ok(gone.map_or(Ok(()), |keyspace| self.database.delete_keyspace(keyspace))?)
    }
}

impl Catalog {
    pub(super) fn of_path(&self, path: PathId) -> impl Iterator<Item = (Number, &Arc<Series>)> {
        let numbers = self.paths.get(&path).map_or(&[][..], Vec::as_slice);
        numbers.iter().map(|number| (*number, &self.all[number.0 as usize]))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Number, &Arc<Series>)> {
        self.all.iter().enumerate().map(|(number, series)| (Number(number as u32), series))
    }

    fn add(&mut self, series: &Arc<Series>) -> Number {
        let number = Number(self.all.len() as u32);
        self.all.push(Arc::clone(series));
        self.numbers.insert(Arc::clone(series), number);
        self.paths.entry(series.path()).or_default().push(number);
        number
    }
}

impl View<'_> {
    /// Up to where the log is stored.
    pub(super) fn position(&self) -> Result<Position, StoreError> {
        let bytes = self.snapshot.get(&self.store.meta, POSITION)?;
        let position = bytes.map(|bytes| bytes[..].try_into().map_err(|_| StoreError::Number("position")));
        Ok(Position(u64::from_be_bytes(position.transpose()?.unwrap_or_default())))
    }

    /// The first hour of which the tier still holds all.
    pub(super) fn floor(&self, tier: Tier) -> Result<Hour, StoreError> {
        let bytes = self.snapshot.get(&self.store.meta, floor(tier))?;
        let hour = bytes.map(|bytes| bytes[..].try_into().map_err(|_| StoreError::Number("floor")));
        Ok(Hour(u32::from_be_bytes(hour.transpose()?.unwrap_or_default())))
    }

    /// Every window of these hours. What was not rolled up since its last row came is told as it came.
    pub(super) fn read(
        &self,
        tier: Tier,
        series: Number,
        hours: &RangeInclusive<Hour>,
        mut tell: impl FnMut(Wall, Seen),
    ) -> Result<(), StoreError> {
        let mut fresh = BTreeSet::new();
        if tier != Tier::Raw {
            for item in self.snapshot.range(&self.store.dirty, key(series, *hours.start())..=key(series, *hours.end()))
            {
                fresh.extend(of_key(&item.key()?).map(|(_, hour)| hour));
            }
        }
        self.rows(tier, series, hours, |hour, _, row| {
            let rolled_up = !fresh.contains(&hour);
            if rolled_up { Ok(row::decode(hour.begin(), row, &mut tell)?) } else { Ok(()) }
        })?;
        for hour in fresh {
            self.rows(Tier::Raw, series, &(hour..=hour), |hour, _, row| {
                Ok(row::decode(hour.begin(), row, &mut tell)?)
            })?;
        }
        Ok(())
    }

    /// Every row of these hours, with its key.
    pub(super) fn rows(
        &self,
        tier: Tier,
        series: Number,
        hours: &RangeInclusive<Hour>,
        mut tell: impl FnMut(Hour, &[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let (first, last) = (tier.period(*hours.start()), tier.period(*hours.end()));
        let keyspaces: Vec<_> = {
            let rows = self.store.rows.read().unwrap_or_else(PoisonError::into_inner);
            rows.range((tier, first)..=(tier, last)).map(|(_, keyspace)| keyspace.clone()).collect()
        };
        let (from, to) = (key(series, *hours.start()), key(series, Hour(hours.end().0.saturating_add(1))));
        for item in keyspaces.iter().flat_map(|keyspace| self.snapshot.range(keyspace, from..to)) {
            let (key, row) = item.into_inner()?;
            let (_, hour) = of_key(&key).ok_or(StoreError::Number("key"))?;
            tell(hour, &key, &row)?;
        }
        Ok(())
    }
}

fn name((tier, period): (Tier, u32)) -> String {
    format!("{}-{period}", tier.as_str())
}

fn place(name: &str) -> Option<(Tier, u32)> {
    let (tier, period) = name.split_once('-')?;
    let tier = Tier::ALL.into_iter().find(|it| it.as_str() == tier)?;
    Some((tier, period.parse().ok()?))
}

fn floor(tier: Tier) -> Vec<u8> {
    [&[FLOOR][..], tier.as_str().as_bytes()].concat()
}

fn by_hour(windows: &Windows) -> BTreeMap<Hour, Windows> {
    let mut hours: BTreeMap<_, Windows> = BTreeMap::new();
    for (begin, seen) in windows {
        hours.entry(Hour::of(*begin)).or_default().insert(*begin, seen.clone());
    }
    hours
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}
