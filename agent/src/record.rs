//! Closes windows. A window is the wall-clock slot `[begin, begin + width)`; every outcome belongs to the slot in which its
//! probe was *due*, so a stalled agent cannot move its own lateness into a quieter slot.
//!
//! A slot is complete when it is over and none of its probes is in flight. It may be told in parts, which add up: no outcome
//! is in two of them. Every part begins where its slot begins; their ends ascend, each at the moment when it was closed, and
//! the last one ends where the slot ends. Bad news does not wait: from the second failure in a row on, each closes what its
//! series has so far, and so does the reply that ends the row. One loss alone does not.

use std::time::Duration;

use runtime::Wall;
use telemetry::Outcome;
use telemetry::time::nanos;

use crate::flights::{End, Ended};
use crate::plan::SeriesIndex;
use crate::schedule::Due;

/// How many failures in a row are bad news.
const BAD_NEWS: u32 = 2;

/// What a series saw in one slot, or in a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub series: SeriesIndex,
    pub begin: Wall,
    pub end: Wall,
    pub samples: Vec<(Outcome, Duration)>,
}

/// What the pacer hands over.
#[derive(Debug, Default)]
pub struct Handover {
    pub parts: Vec<Part>,
    /// How long after it was due each probe was sent, since the last time.
    pub lateness: Vec<Duration>,
    pub at: Wall,
}

#[derive(Debug)]
pub struct Recorder {
    width: Duration,
    /// The slot that was open when this was last looked at.
    current: Wall,
    series: Vec<Open>,
    /// Series that may have something to tell before the current slot is over.
    ripe: Vec<SeriesIndex>,
}

#[derive(Debug, Clone, Default)]
struct Open {
    slots: Vec<Slot>,
    failures: u32,
    urgent: bool,
}

#[derive(Debug, Clone)]
struct Slot {
    begin: Wall,
    /// Where its last part ended.
    told: Wall,
    in_flight: u64,
    samples: Vec<(Outcome, Duration)>,
}

impl Recorder {
    pub fn new(series: usize, width: Duration, now: Wall) -> Self {
        Self { width, current: now.slot(width), series: vec![Open::default(); series], ripe: Vec::new() }
    }

    /// A probe is out.
    pub fn begin(&mut self, due: Due) {
        let begin = due.wall.slot(self.width);
        self.series[due.series.0 as usize].slot(begin).in_flight += 1;
    }

    /// It has ended.
    pub fn record(&mut self, ended: &Ended) {
        let Ended { due, end } = ended;
        let begin = due.wall.slot(self.width);
        let open = &mut self.series[due.series.0 as usize];
        let slot = open.slot(begin);
        slot.in_flight = slot.in_flight.saturating_sub(1);
        if let End::Counted(outcome, duration) = end {
            slot.samples.push((*outcome, *duration));
            open.hear(*outcome);
        }
        if open.urgent || begin != self.current {
            self.ripe.push(due.series);
        }
    }

    /// Takes what is complete, and what cannot wait.
    pub fn close(&mut self, now: Wall) -> Vec<Part> {
        let current = now.slot(self.width);
        if current != self.current {
            self.current = current;
            self.ripen_all();
        }
        let mut parts = Vec::new();
        for series in self.ripe.drain(..) {
            self.series[series.0 as usize].take(series, now, self.width, &mut parts);
        }
        parts
    }

    /// Takes everything: we stop, and nothing is in flight any more.
    pub fn finish(&mut self, now: Wall) -> Vec<Part> {
        self.series.iter_mut().for_each(|open| open.urgent = true);
        self.ripen_all();
        self.close(now)
    }

    /// When the current slot is over.
    pub fn slot_ends(&self) -> Wall {
        self.current + self.width
    }

    fn ripen_all(&mut self) {
        let open = self.series.iter().enumerate().filter(|(_, open)| !open.slots.is_empty());
        self.ripe = open.map(|(index, _)| SeriesIndex(index as u32)).collect();
    }
}

impl Handover {
    /// Adds what was handed over after it.
    pub fn absorb(&mut self, more: Self) {
        self.parts.extend(more.parts);
        self.lateness.extend(more.lateness);
        self.at = more.at;
    }
}

impl Open {
    fn slot(&mut self, begin: Wall) -> &mut Slot {
        let place = self.slots.iter().position(|slot| slot.begin == begin).unwrap_or_else(|| {
            self.slots.push(Slot { begin, told: begin, in_flight: 0, samples: Vec::new() });
            self.slots.len() - 1
        });
        &mut self.slots[place]
    }

    fn hear(&mut self, outcome: Outcome) {
        let in_a_row = self.failures;
        self.failures = match outcome {
            Outcome::Reply => 0,
            Outcome::Failure(_) => in_a_row + 1,
        };
        self.urgent |= self.failures.max(in_a_row) >= BAD_NEWS;
    }

    fn take(&mut self, series: SeriesIndex, now: Wall, width: Duration, parts: &mut Vec<Part>) {
        let urgent = std::mem::take(&mut self.urgent);
        self.slots.retain_mut(|slot| {
            // A slot that lies ahead is over as well: the wall clock was set back.
            let over = slot.begin != now.slot(width);
            let complete = over && slot.in_flight == 0;
            if (urgent || complete) && !slot.samples.is_empty() {
                slot.told = slot.end(now, over, width);
                let samples = std::mem::take(&mut slot.samples);
                parts.push(Part { series, begin: slot.begin, end: slot.told, samples });
            }
            !complete
        });
    }
}

impl Slot {
    /// Now, or the slot's end if that is past; less a nanosecond for each probe that may yet make a part of its own, so that
    /// no two parts of a slot end at the same moment.
    fn end(&self, now: Wall, over: bool, width: Duration) -> Wall {
        let last = Wall(self.begin.0 + nanos(width).saturating_sub(self.in_flight));
        let end = if over { last } else { last.min(now) };
        end.max(Wall(self.told.0 + 1))
    }
}

#[cfg(test)]
mod tests;
