//! Everything of a range, series by series: for what leaves, and for what is concluded again.

use std::ops::Range;
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
            for span in spans(range, tier) {
                let mut windows = Windows::new();
                view.read(tier, *number, &span, |begin, seen| {
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

/// A range, parted where key spaces are.
fn spans(range: &Range<Wall>, tier: Tier) -> impl Iterator<Item = Range<Wall>> + use<> {
    let (hours, range) = (Hour::of_range(range), range.clone());
    (tier.period(*hours.start())..=tier.period(*hours.end())).map(move |period| {
        let end = tier.end(period);
        let begin = Hour(end.0 - tier.span());
        range.start.max(begin.begin())..range.end.min(end.begin())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_parted_at_midnight_and_nothing_of_it_is_left_out() {
        let hour = |hour: u64| Wall::from_secs(hour * 3600);
        let parted = [
            (0, 1, vec![]),
            (5, 24, vec![]),
            (23, 25, vec![24]),
            (24, 48, vec![]),
            (1000, 1100, vec![1008, 1032, 1056, 1080]),
        ];
        for (from, to, parts) in parted {
            let ends: Vec<_> = [from].into_iter().chain(parts).chain([to]).map(hour).collect();
            let wanted: Vec<_> = ends.windows(2).map(|ends| ends[0]..ends[1]).collect();
            assert_eq!(spans(&(hour(from)..hour(to)), Tier::Raw).collect::<Vec<_>>(), wanted);
        }
    }
}
