//! Minutes and hours: what the raw rows of an hour come to, written over what was there. So it may be done again at any time, and late
//! windows only have it done once more.

use std::collections::BTreeSet;

use fjall::OwnedWriteBatch;

use super::key::{Hour, Number, key};
use super::row::{self, Windows};
use super::store::{Store, StoreError, View};
use super::tier::Tier;

/// Series in one batch: few enough that what the fold hands over in the meantime does not wait for long.
const AT_ONCE: usize = 256;

impl Store {
    /// Rolls up some series of the oldest hour that is dirty and lies before this one. `false`: there is none.
    pub(super) fn roll_up(&self, before: Hour) -> Result<bool, StoreError> {
        let due = {
            let marks = self.marks();
            let oldest = marks.range(..before).next();
            oldest.map(|(hour, marked)| (*hour, marked.iter().take(AT_ONCE).copied().collect::<BTreeSet<_>>()))
        };
        let Some((hour, due)) = due else { return Ok(false) };
        let (view, mut batch) = (self.view(), self.batch());
        for number in &due {
            self.roll_up_one(&view, *number, hour, &mut batch)?;
            batch.remove(&self.dirty, key(*number, hour));
        }
        batch.commit()?;
        let mut marks = self.marks();
        if let Some(marked) = marks.get_mut(&hour) {
            marked.retain(|number| !due.contains(number));
        }
        marks.retain(|_, marked| !marked.is_empty());
        Ok(true)
    }

    fn roll_up_one(
        &self,
        view: &View<'_>,
        number: Number,
        hour: Hour,
        batch: &mut OwnedWriteBatch,
    ) -> Result<(), StoreError> {
        let (mut windows, mut parts) = (Windows::new(), Vec::new());
        view.rows(Tier::Raw, number, &(hour..=hour), |hour, key, row| {
            parts.push(key.to_vec());
            Ok(row::decode(hour.begin(), row, |begin, seen| windows.entry(begin).or_default().merge(&seen))?)
        })?;
        if parts.is_empty() {
            return Ok(());
        }
        let (place, raw) = (key(number, hour), self.rows(Tier::Raw, hour)?);
        // Of no part: no position that history ends at is 0.
        let whole = [&place[..], &[0; 8]].concat();
        for part in parts.into_iter().filter(|part| *part != whole) {
            batch.remove(&raw, part);
        }
        batch.insert(&raw, whole, row::encode(hour.begin(), &windows));
        for tier in [Tier::Minute, Tier::Hour] {
            windows = coarser(&windows, tier);
            batch.insert(&self.rows(tier, hour)?, place, row::encode(hour.begin(), &windows));
        }
        Ok(())
    }
}

fn coarser(windows: &Windows, tier: Tier) -> Windows {
    let mut coarse = Windows::new();
    for (begin, seen) in windows {
        let begin = tier.width().map_or(*begin, |width| begin.slot(width));
        coarse.entry(begin).or_default().merge(seen);
    }
    coarse
}
