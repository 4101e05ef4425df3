//! Minutes and hours: what the raw rows of an hour come to, written over what was there. So it may be done again at any time, and late
//! windows only have it done once more.

use std::collections::BTreeMap;
use std::ops::Range;

use fjall::OwnedWriteBatch;
use journal::Position;
use telemetry::Wall;

use super::key::{self, Hour, Number};
use super::row::{self, Windows};
use super::store::{Store, StoreError};
use super::tier::Tier;

/// Series in one batch: few enough that what the fold hands over in the meantime does not wait for long.
const AT_ONCE: usize = 256;
const ALWAYS: Range<Wall> = Wall(0)..Wall(u64::MAX);

/// Series of an hour, in ascending order.
struct Due {
    hour: Hour,
    series: Vec<Number>,
    /// After these the hour has none.
    are_all: bool,
}

impl Store {
    /// Rolls up some series of the oldest hour that is dirty and lies before this one. `false`: there is none.
    pub(super) fn roll_up(&self, before: Hour) -> Result<bool, StoreError> {
        let Some(due) = self.due(before) else { return Ok(false) };
        let mut batch = self.batch();
        for (number, windows) in self.take_raw(&due, &mut batch)? {
            self.put(number, due.hour, windows, &mut batch)?;
        }
        for number in &due.series {
            batch.remove(&self.dirty, key::by_series(*number, due.hour));
        }
        batch.commit()?;
        let mut marks = self.marks();
        if let Some(marked) = marks.get_mut(&due.hour) {
            marked.retain(|number| due.series.binary_search(number).is_err());
        }
        marks.retain(|_, marked| !marked.is_empty());
        Ok(true)
    }

    fn due(&self, before: Hour) -> Option<Due> {
        let marks = self.marks();
        let (hour, marked) = marks.range(..before).next()?;
        let series: Vec<_> = marked.iter().take(AT_ONCE).copied().collect();
        Some(Due { hour: *hour, are_all: series.len() == marked.len(), series })
    }

    /// All their windows of the hour; the parts that they came in have none of them any more.
    fn take_raw(&self, due: &Due, batch: &mut OwnedWriteBatch) -> Result<BTreeMap<Number, Windows>, StoreError> {
        let (view, raw) = (self.view(), self.rows(Tier::Raw, due.hour)?);
        let mut all: BTreeMap<_, Windows> = BTreeMap::new();
        let parts = view.parts(&(due.hour..=due.hour))?.remove(&due.hour).unwrap_or_default();
        // Of no part: no position that history ends at is 0.
        for position in [Position::START].into_iter().chain(parts.into_iter().map(|(position, _)| position)) {
            let place = |number| key::in_part(due.hour, position, number).to_vec();
            view.rows(&raw, place, &due.series, |number, key, row| {
                let windows = all.entry(number).or_default();
                let add = |begin, seen| windows.entry(begin).or_default().merge(&seen);
                row::decode(due.hour.begin(), row, &ALWAYS, add)?;
                if position != Position::START {
                    batch.remove(&raw, key);
                }
                Ok(())
            })?;
            if due.are_all && position != Position::START {
                batch.remove(&self.parts, key::part(due.hour, position));
            }
        }
        Ok(all)
    }

    fn put(
        &self,
        number: Number,
        hour: Hour,
        mut windows: Windows,
        batch: &mut OwnedWriteBatch,
    ) -> Result<(), StoreError> {
        for tier in Tier::ALL {
            windows = coarser(windows, tier);
            let place = match tier {
                Tier::Raw => key::in_part(hour, Position::START, number).to_vec(),
                Tier::Minute => key::by_hour(hour, number).to_vec(),
                Tier::Hour => key::by_series(number, hour).to_vec(),
            };
            batch.insert(&self.rows(tier, hour)?, place, row::encode(hour.begin(), &windows));
        }
        Ok(())
    }
}

fn coarser(windows: Windows, tier: Tier) -> Windows {
    let Some(width) = tier.width() else { return windows };
    let mut coarse = Windows::new();
    for (begin, seen) in windows {
        coarse.entry(begin.slot(width)).or_default().merge(&seen);
    }
    coarse
}
