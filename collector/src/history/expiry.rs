//! What is too old or too much is dropped, a key space at a time.

use std::time::Duration;

use telemetry::Wall;

use super::key::Hour;
use super::store::{Store, StoreError};
use super::tier::Tier;
use crate::retention::Retention;

impl Retention {
    pub(super) fn of(&self, tier: Tier) -> Duration {
        match tier {
            Tier::Raw => self.raw,
            Tier::Minute => self.minute,
            Tier::Hour => self.hour,
        }
    }

    /// What should go first of these, the oldest of the finest tier in front, with their bytes. What is being written stays.
    pub(super) fn too_much(&self, sizes: &[((Tier, u32), u64)], now: Wall) -> Option<(Tier, u32)> {
        let over = |(tier, period): &(Tier, u32)| tier.end(*period) <= Hour::of(now - self.of(*tier));
        let mut places = sizes.iter().map(|(place, _)| *place);
        let bytes: u64 = sizes.iter().map(|(_, bytes)| bytes).sum();
        if let Some(old) = places.clone().find(over) {
            return Some(old);
        }
        let closed = |(tier, period): &(Tier, u32)| *period < tier.period(Hour::of(now));
        if bytes > self.max_bytes { places.find(closed) } else { None }
    }
}

impl Store {
    /// Drops one key space that is too old or too much. `false`: there is none. What is still to be rolled up is not dropped before.
    pub(super) fn expire(&self, retention: &Retention, now: Wall) -> Result<bool, StoreError> {
        let Some((tier, period)) = retention.too_much(&self.sizes(), now) else { return Ok(false) };
        let waits = tier == Tier::Raw && self.marks().keys().any(|hour| tier.period(*hour) == period);
        if waits {
            return Ok(false);
        }
        self.forget((tier, period))?;
        tracing::info!(tier = tier.as_str(), period, "history dropped");
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall::from_secs(1_800_000_000);

    fn drops(retention: &Retention, mut sizes: Vec<((Tier, u32), u64)>) -> Vec<(Tier, u32)> {
        let mut dropped = Vec::new();
        while let Some(place) = retention.too_much(&sizes, NOW) {
            sizes.retain(|(other, _)| *other != place);
            dropped.push(place);
        }
        dropped
    }

    fn each(days: u32) -> Vec<((Tier, u32), u64)> {
        let of = |tier: Tier, count| (0..count).rev().map(move |back| ((tier, tier.period(Hour::of(NOW)) - back), 100));
        of(Tier::Raw, days).chain(of(Tier::Minute, days)).chain(of(Tier::Hour, days / 30 + 1)).collect()
    }

    #[test]
    fn what_is_older_than_its_tier_is_kept_for_goes_a_day_or_a_month_at_a_time() {
        let today = Tier::Raw.period(Hour::of(NOW));
        let dropped = drops(&Retention::default(), each(17));
        let raw = (today - 16..=today - 3).map(|day| (Tier::Raw, day));
        let minute = (today - 16..=today - 15).map(|day| (Tier::Minute, day));
        assert_eq!(dropped, raw.chain(minute).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_too_much_goes_from_the_finest_and_oldest_and_what_is_written_stays() {
        let today = Tier::Raw.period(Hour::of(NOW));
        let month = Tier::Hour.period(Hour::of(NOW));
        let retention = Retention { raw: Duration::MAX, minute: Duration::MAX, max_bytes: 700, ..Retention::default() };
        let sizes = [(Tier::Raw, 3), (Tier::Minute, 5)]
            .into_iter()
            .flat_map(|(tier, count)| (0..count).rev().map(move |back| ((tier, today - back), 100)));
        let sizes: Vec<_> = sizes.chain([((Tier::Hour, month - 1), 100), ((Tier::Hour, month), 100)]).collect();
        assert_eq!(
            drops(&retention, sizes.clone()),
            [(Tier::Raw, today - 2), (Tier::Raw, today - 1), (Tier::Minute, today - 4)]
        );
        let none = Retention { max_bytes: 0, ..retention };
        assert_eq!(drops(&none, sizes).len(), 7, "all but one of each tier");
    }
}
