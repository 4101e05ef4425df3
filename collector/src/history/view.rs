//! The store as it was at one moment.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use fjall::{Keyspace, Readable as _, Snapshot};
use journal::Position;
use telemetry::Wall;

use super::key::{self, Hour, Number};
use super::row;
use super::span::Span;
use super::store::{POSITION, Store, StoreError, floor};
use super::tier::Tier;
use crate::rings::Seen;

/// Where so many times the rows that are wanted lie together, each is looked up, instead of all of them read.
const SPARSE: usize = 4;

pub(super) struct View<'a> {
    store: &'a Store,
    snapshot: Snapshot,
}

/// Something that was handed over, and is not rolled up in this hour.
pub(super) type Part = (Position, Span);

impl<'a> View<'a> {
    pub(super) fn new(store: &'a Store, snapshot: Snapshot) -> Self {
        Self { store, snapshot }
    }

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

    /// The windows of a series. Hours of which something is not rolled up are told as they came.
    pub(super) fn read(
        &self,
        tier: Tier,
        series: Number,
        range: &Range<Wall>,
        mut tell: impl FnMut(Wall, Seen),
    ) -> Result<(), StoreError> {
        let hours = Hour::of_range(range);
        let fresh = self.parts(&hours)?;
        let raw = |hour: &Hour| tier == Tier::Raw || fresh.contains_key(hour);
        for (keyspace, hour) in self.hours(Tier::Raw, &hours).filter(|(_, hour)| raw(hour)) {
            for position in positions(fresh.get(&hour), range) {
                if let Some(row) = self.snapshot.get(&keyspace, key::in_part(hour, position, series))? {
                    row::decode(hour.begin(), &row, range, &mut tell)?;
                }
            }
        }
        match tier {
            Tier::Raw => {}
            Tier::Minute => {
                for (keyspace, hour) in self.hours(tier, &hours).filter(|(_, hour)| !fresh.contains_key(hour)) {
                    if let Some(row) = self.snapshot.get(&keyspace, key::by_hour(hour, series))? {
                        row::decode(hour.begin(), &row, range, &mut tell)?;
                    }
                }
            }
            Tier::Hour => {
                let (from, to) = (key::by_series(series, *hours.start()), key::by_series(series, *hours.end()));
                for (_, keyspace) in self.store.rows_of(tier, &hours) {
                    for item in self.snapshot.range(&keyspace, from..=to) {
                        let (key, row) = item.into_inner()?;
                        let (_, hour) = key::of_series(&key).ok_or(StoreError::Number("key"))?;
                        if !fresh.contains_key(&hour) {
                            row::decode(hour.begin(), &row, range, &mut tell)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// The windows of many series, in ascending order, of minutes or as they came.
    pub(super) fn read_all(
        &self,
        series: &[Number],
        range: &Range<Wall>,
        mut tell: impl FnMut(Number, Wall, Seen),
    ) -> Result<(), StoreError> {
        let hours = Hour::of_range(range);
        let fresh = self.parts(&hours)?;
        let mut decode = |hour: Hour, number, row: &[u8]| {
            Ok(row::decode(hour.begin(), row, range, |begin, seen| tell(number, begin, seen))?)
        };
        for (keyspace, hour) in self.hours(Tier::Raw, &hours).filter(|(_, hour)| fresh.contains_key(hour)) {
            for position in positions(fresh.get(&hour), range) {
                let place = |number| key::in_part(hour, position, number).to_vec();
                self.rows(&keyspace, place, series, |number, _, row| decode(hour, number, row))?;
            }
        }
        for (keyspace, hour) in self.hours(Tier::Minute, &hours).filter(|(_, hour)| !fresh.contains_key(hour)) {
            let place = |number| key::by_hour(hour, number).to_vec();
            self.rows(&keyspace, place, series, |number, _, row| decode(hour, number, row))?;
        }
        Ok(())
    }

    /// Those that lie together and are of these series, in ascending order: one after the other, or each by its key.
    pub(super) fn rows(
        &self,
        keyspace: &Keyspace,
        place: impl Fn(Number) -> Vec<u8>,
        series: &[Number],
        mut tell: impl FnMut(Number, &[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (series.first(), series.last()) else { return Ok(()) };
        if series.len() * SPARSE < (last.0 - first.0) as usize {
            for number in series {
                let key = place(*number);
                if let Some(row) = self.snapshot.get(keyspace, &key)? {
                    tell(*number, &key, &row)?;
                }
            }
            return Ok(());
        }
        let mut wanted = series.iter().peekable();
        for item in self.snapshot.range(keyspace, place(*first)..=place(*last)) {
            let (key, row) = item.into_inner()?;
            let number = key::series_of(&key).ok_or(StoreError::Number("key"))?;
            while wanted.next_if(|it| **it < number).is_some() {}
            if wanted.next_if(|it| **it == number).is_some() {
                tell(number, &key, &row)?;
            }
        }
        Ok(())
    }

    /// What was handed over and is not rolled up, by hour.
    pub(super) fn parts(&self, hours: &RangeInclusive<Hour>) -> Result<BTreeMap<Hour, Vec<Part>>, StoreError> {
        let mut parts: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let ends = [*hours.start(), hours.end().next()].map(|hour| key::part(hour, Position::START));
        for item in self.snapshot.range(&self.store.parts, ends[0]..ends[1]) {
            let (key, span) = item.into_inner()?;
            let (hour, position) = key::of_part(&key).ok_or(StoreError::Number("part"))?;
            let span = Span::read(hour, &span).ok_or(StoreError::Number("part"))?;
            parts.entry(hour).or_default().push((position, span));
        }
        Ok(parts)
    }

    /// Each of them that has a key space.
    fn hours(&self, tier: Tier, hours: &RangeInclusive<Hour>) -> impl Iterator<Item = (Keyspace, Hour)> + use<> {
        let hours = hours.clone();
        self.store.rows_of(tier, &hours).into_iter().flat_map(move |(period, keyspace)| {
            let first = Hour(period * tier.span()).max(*hours.start());
            let last = Hour(tier.end(period).0.saturating_sub(1)).min(*hours.end());
            (first.0..=last.0).map(move |hour| (keyspace.clone(), Hour(hour)))
        })
    }
}

/// Where an hour's raw rows are: what was rolled up, and the parts that hold any of this range.
fn positions(parts: Option<&Vec<Part>>, range: &Range<Wall>) -> impl Iterator<Item = Position> {
    let parts = parts.into_iter().flatten().filter(|(_, span)| span.is_in(range));
    [Position::START].into_iter().chain(parts.map(|(position, _)| *position))
}
