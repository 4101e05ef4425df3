//! What was measured, as entries in the order of time.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use telemetry::histogram::SCALE;
use telemetry::{Histogram, Outcome, Series, Wall};

use super::ReplayError;
use crate::entry::{Batch, Entry, Point, Record};
use crate::history::Tier;
use crate::log::{Log, LogError};
use crate::marks::EVERY;
use crate::rings::{Seen, slot_of};
use crate::stopped::Stopped;

/// So much of history is in memory at once.
const AT_ONCE: Duration = Duration::from_mins(10);

/// Tells entries for slots that begin in the range, and marks before its end.
pub(super) fn feed(
    stopped: &Stopped,
    range: Range<Wall>,
    width: Duration,
    mut tell: impl FnMut(&Entry) -> Result<(), ReplayError>,
) -> Result<(), ReplayError> {
    let end = range.end.min(super::end(stopped));
    // From the first slot on of which the log has everything. History has all that is older, also what came after it.
    let seam = first_mark(&stopped.log)?.map_or(Wall(u64::MAX), |mark| mark.slot(width) + width).max(range.start);
    let begin = range.start.slot(width);
    rows(stopped, begin..end.min(seam), (width, end), &mut tell)?;
    if seam < end { log(&stopped.log, seam..end, width, tell) } else { Ok(()) }
}

fn rows(
    stopped: &Stopped,
    range: Range<Wall>,
    (width, end): (Duration, Wall),
    tell: &mut impl FnMut(&Entry) -> Result<(), ReplayError>,
) -> Result<(), ReplayError> {
    let mut slot = range.start;
    while slot < range.end {
        let until = (slot + AT_ONCE.max(width)).slot(width).min(range.end);
        let mut slots: BTreeMap<Wall, Vec<Point>> = BTreeMap::new();
        stopped.history.walk(&(slot..until), Tier::Raw, |series, windows| {
            for (begin, seen) in windows {
                let of = begin.slot(width);
                slots.entry(of).or_default().extend(points(series, (begin, of + width), seen));
            }
            Ok::<_, ReplayError>(())
        })?;
        while slot < until {
            let closed = slot + width;
            if let Some(points) = slots.remove(&slot) {
                tell(&Entry::Batch(batch(points, closed)))?;
            }
            let mut now = closed;
            while now < closed + width && now < end {
                tell(&Entry::Mark { now })?;
                now += EVERY;
            }
            slot = closed;
        }
    }
    Ok(())
}

/// Without what history has for slots before.
fn log(
    log: &Log,
    range: Range<Wall>,
    width: Duration,
    mut tell: impl FnMut(&Entry) -> Result<(), ReplayError>,
) -> Result<(), ReplayError> {
    let mut told = Ok(());
    log.replay(log.first(), log.next(), |entry| {
        let wanted = match entry {
            Entry::Mark { now } if range.contains(&now) => Some(entry),
            Entry::Batch(mut batch) => {
                batch.points.retain(|point| slot_of(point, width) >= range.start);
                Some(Entry::Batch(batch))
            }
            _ => None,
        };
        if let (Some(entry), Ok(())) = (wanted, &told) {
            told = tell(&entry);
        }
    })?;
    told
}

fn first_mark(log: &Log) -> Result<Option<Wall>, LogError> {
    for record in log.reading().records(log.first()) {
        let (position, record) = record?;
        if let Record::Mark(now) = Record::decode(&record).map_err(|fault| LogError::Record { position, fault })? {
            return Ok(Some(now));
        }
    }
    Ok(None)
}

/// A batch that no agent's name is on: each of its points is counted once.
fn batch(points: Vec<Point>, received: Wall) -> Batch {
    Batch { origin: None, received, points, certificates: Vec::new(), losing_ports: Vec::new(), reports: Vec::new() }
}

fn points(series: &Arc<Series>, (begin, end): (Wall, Wall), seen: Seen) -> impl Iterator<Item = Point> {
    let failures = seen.failures.into_iter().map(|(kind, count)| {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        (Outcome::Failure(kind), Histogram::from_buckets(SCALE, count, []))
    });
    let replies = (!seen.replies.is_empty()).then_some((Outcome::Reply, seen.replies));
    let series = Arc::clone(series);
    replies.into_iter().chain(failures).map(move |(outcome, histogram)| Point {
        series: Arc::clone(&series),
        outcome,
        begin,
        end,
        histogram,
    })
}
