//! History on disk: a database of key spaces, each dropped as a whole when its time is over.
//!
//! | key space | key | value |
//! |---|---|---|
//! | `meta` | `format` | of all this, 2 |
//! | | `position` | up to where the log is stored |
//! | | `s` and a series' number | the series, postcard |
//! | | `f` and a tier's name | the first hour of which the tier still holds all |
//! | `dirty` | series, hour | nothing: a row came after it was last rolled up |
//! | `parts` | hour, position | of a part that is not rolled up: when its first window of the hour begins and its last, in milliseconds of the hour |
//! | `raw-<day>` | hour, position, series | the windows that came in the part of history that ends there; 0: those that were rolled up |
//! | `minute-<day>` | hour, series | the hour's minutes |
//! | `hour-<thirty days>` | series, hour | the hour as one window |
//!
//! Numbers are big endian: positions of 8 bytes, the rest of 4. Days are counted from the epoch. Windows are [rows](super::row). What is asked of
//! every series at once, a past minute, lies together, and so do the hours of a series.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Snapshot};
use telemetry::{PathId, Series};

use super::gather::{Kind, Part};
use super::key::{self, Hour, Number};
use super::row::{self, RowError, Windows};
use super::span::Span;
use super::tier::Tier;
use super::view::View;

/// Of all journals of the database: what a start reads again at most, and what idle key spaces may keep from being dropped.
const JOURNALS: u64 = 128 << 20;
/// Fewer, and a flush that waits for a compaction would wait for itself.
const WORKERS: usize = 2;
/// Counts up with every change of what is said above.
const FORMAT: (&[u8], u8) = (b"format", 2);
pub(super) const POSITION: &[u8] = b"position";
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
    #[error("history was written by another release: move {} away, and it begins anew from the log", .0.display())]
    Format(PathBuf),
    #[error("history is closed until it can be written again")]
    Closed,
}

pub(super) struct Store {
    database: Database,
    pub(super) meta: Keyspace,
    pub(super) dirty: Keyspace,
    /// Apart from their rows: to find those that are there must not be to pass by all that are gone.
    pub(super) parts: Keyspace,
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
    kinds: BTreeMap<Kind, Vec<Number>>,
}

impl Store {
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        let database = Database::builder(dir).worker_threads(WORKERS).max_journaling_size(JOURNALS).open()?;
        let existing = |name: &str| database.keyspace(name, KeyspaceCreateOptions::default);
        let (meta, dirty, parts) = (existing("meta")?, existing("dirty")?, existing("parts")?);
        let (format, ours) = FORMAT;
        match meta.get(format)? {
            Some(found) if found[..] == [ours] => {}
            None if meta.is_empty()? => meta.insert(format, [ours])?,
            _ => return Err(StoreError::Format(dir.to_owned())),
        }
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
            let (number, hour) = key::of_series(&item.key()?).ok_or(StoreError::Number("mark"))?;
            marks.entry(hour).or_default().insert(number);
        }
        let (rows, catalog, marks) = (RwLock::new(rows), RwLock::new(catalog), Mutex::new(marks));
        Ok(Self { database, meta, dirty, parts, rows, catalog, marks })
    }

    pub(super) fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn view(&self) -> View<'_> {
        View::new(self, self.database.snapshot())
    }

    /// What is durable once it is committed, all of it or nothing.
    pub(super) fn batch(&self) -> OwnedWriteBatch {
        self.database.batch().durability(Some(PersistMode::SyncData))
    }

    /// Stores a part and its position. The same part again changes nothing.
    pub(super) fn keep(&self, part: &Part) -> Result<(), StoreError> {
        let mut batch = self.batch();
        let (mut marked, mut spans) = (Vec::new(), BTreeMap::new());
        for held in part.gathered.held.values() {
            let number = self.number(&held.series, &mut batch)?;
            for (hour, windows) in hours_of(&held.windows) {
                let place = key::in_part(hour, part.position, number);
                batch.insert(&self.rows(Tier::Raw, hour)?, place, row::encode(hour.begin(), &windows));
                let begins = || windows.keys().copied();
                begins().for_each(|begin| spans.entry(hour).or_insert_with(|| Span::of(begin)).take(begin));
                if self.marks().get(&hour).is_none_or(|marked| !marked.contains(&number)) {
                    batch.insert(&self.dirty, key::by_series(number, hour), b"");
                    marked.push((hour, number));
                }
            }
        }
        for (hour, span) in spans {
            batch.insert(&self.parts, key::part(hour, part.position), span.told(hour));
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

    /// The key spaces that have rows of these hours, each with its period.
    pub(super) fn rows_of(&self, tier: Tier, hours: &RangeInclusive<Hour>) -> Vec<(u32, Keyspace)> {
        let (first, last) = (tier.period(*hours.start()), tier.period(*hours.end()));
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        rows.range((tier, first)..=(tier, last)).map(|((_, period), keyspace)| (*period, keyspace.clone())).collect()
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
        let own = [("meta", &self.meta), ("dirty", &self.dirty), ("parts", &self.parts)];
        let own = own.map(|(name, keyspace)| (name.to_owned(), keyspace.clone()));
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

    /// In the order of their numbers.
    pub(super) fn of_kind(&self, kind: &Kind) -> impl Iterator<Item = (Number, &Arc<Series>)> {
        let numbers = self.kinds.get(kind).map_or(&[][..], Vec::as_slice);
        numbers.iter().map(|number| (*number, &self.all[number.0 as usize]))
    }

    fn add(&mut self, series: &Arc<Series>) -> Number {
        let number = Number(self.all.len() as u32);
        self.all.push(Arc::clone(series));
        self.numbers.insert(Arc::clone(series), number);
        self.paths.entry(series.path()).or_default().push(number);
        self.kinds.entry(Kind::of(series)).or_default().push(number);
        number
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

pub(super) fn floor(tier: Tier) -> Vec<u8> {
    [&[FLOOR][..], tier.as_str().as_bytes()].concat()
}

fn hours_of(windows: &Windows) -> BTreeMap<Hour, Windows> {
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
