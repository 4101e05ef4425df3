//! Everything of a range, series by series: for what leaves, and for what is concluded again.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use telemetry::{Series, Wall};

use super::key::Hour;
use super::row::Windows;
use super::tier::Tier;
use super::{History, StoreError};

impl History {
    /// The first moment of which the tier still has all.
    pub fn kept(&self, tier: Tier) -> Result<Wall, StoreError> {
        let store = self.shared.store.load_full().ok_or(StoreError::Closed)?;
        let floor = store.view().floor(tier)?;
        Ok(floor.begin())
    }

    /// Tells what is stored of windows that begin in this range, in the order of series, and of each in the order of time. No more than a key space of one series is
    /// in memory; all of it is from the moment of the call.
    pub fn walk<E: From<StoreError>>(
        &self,
        range: &Range<Wall>,
        tier: Tier,
        mut tell: impl FnMut(&Arc<Series>, Windows) -> Result<(), E>,
    ) -> Result<(), E> {
        let store = self.shared.store.load_full().ok_or(StoreError::Closed)?;
        let view = store.view();
        let mut series: Vec<_> = store.catalog().iter().map(|(number, series)| (Arc::clone(series), number)).collect();
        // The same wherever it is stored: numbers are in the order in which series came.
        series.sort();
        for (series, number) in &series {
            for hours in spans(range, tier) {
                let mut windows = Windows::new();
                view.read(tier, *number, &hours, |begin, seen| {
                    let begin = tier.width().map_or(begin, |width| begin.slot(width));
                    if range.contains(&begin) {
                        windows.entry(begin).or_default().merge(&seen);
                    }
                })?;
                if !windows.is_empty() {
                    tell(series, windows)?;
                }
            }
        }
        Ok(())
    }
}

/// The hours of a range, parted where key spaces are.
fn spans(range: &Range<Wall>, tier: Tier) -> impl Iterator<Item = RangeInclusive<Hour>> + use<> {
    let hours = Hour::of_range(range.start, range.end);
    let (first, last) = (*hours.start(), *hours.end());
    (tier.period(first)..=tier.period(last)).map(move |period| {
        let end = Hour(tier.end(period).0 - 1);
        let begin = Hour(tier.end(period).0 - tier.span());
        first.max(begin)..=last.min(end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_parted_into_its_hours_once_each() {
        let hour = |hour: u64| Wall::from_secs(hour * 3600);
        for (from, to) in [(0, 1), (5, 24), (23, 25), (24, 48), (1000, 1100)] {
            let hours: Vec<_> =
                spans(&(hour(from)..hour(to)), Tier::Raw).flat_map(|it| it.start().0..=it.end().0).collect();
            assert_eq!(hours, (from as u32..to as u32).collect::<Vec<_>>(), "{from} to {to}");
        }
    }
}
