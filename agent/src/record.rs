//! Closes windows. A window is the wall-clock slot `[begin, begin + width)`; every outcome belongs to the slot in which its
//! probe was *due*, so a stalled agent cannot move its own lateness into a quieter slot.
//!
//! A slot is complete when it is over and none of its probes is in flight. It may be told in parts, which add up: no outcome
//! is in two of them. Every part begins where its slot begins; their ends ascend, each at the moment when it was closed, and
//! the last one ends where the slot ends. Bad news does not wait: from the second failure in a row on, each closes what its
//! phase has so far, and so does the reply that ends the row. One loss alone does not.
//!
//! A series is registered when a probe first meets its aspect. What a target may say of itself is bounded: beyond [`ASPECTS`]
//! of one probe, the labels that come from it become `other`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use runtime::Wall;
use telemetry::time::nanos;
use telemetry::{Label, Labels, Outcome, Standing, UnixSeconds};

use crate::flights::{End, Ended};
use crate::plan::{Aspect, ProbeIndex};
use crate::probe::Sample;
use crate::samples::Samples;
use crate::schedule::Due;

/// How many failures in a row are bad news.
const BAD_NEWS: u32 = 2;

/// From here on a new aspect of a probe loses its [`OPEN_LABELS`]; the labels that are left have few values.
const ASPECTS: usize = if cfg!(test) { 4 } else { 64 };
const OPEN_LABELS: [Label; 2] = [Label::Pop, Label::Node];

/// What a series saw in one slot, or in a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub probe: ProbeIndex,
    pub aspect: Arc<Aspect>,
    pub standing: Standing,
    pub begin: Wall,
    pub end: Wall,
    pub samples: Samples,
}

/// What the pacer hands over.
#[derive(Debug, Default)]
pub struct Handover {
    pub parts: Vec<Part>,
    /// How long after it was due each probe was sent, since the last time.
    pub lateness: Vec<Duration>,
    /// How long the probes of ourselves took since then.
    pub noise_floor: Vec<Duration>,
    /// Of probes of which that is news: the share of source ports that lose.
    pub losing_ports: BTreeMap<ProbeIndex, f64>,
    /// Probes that say nothing, with our own reason.
    pub missed: BTreeMap<(ProbeIndex, &'static str), u64>,
    /// What handshakes were shown since then, the last of each probe.
    pub certificates: BTreeMap<ProbeIndex, Shown>,
    pub at: Wall,
}

/// Certificates that a server showed: until when they are good, and when that was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    pub not_after: UnixSeconds,
    pub at: Wall,
}

#[derive(Debug)]
pub struct Recorder {
    width: Duration,
    /// The slot that was open when this was last looked at.
    current: Wall,
    probes: Vec<Open>,
    /// Probes that may have something to tell before the current slot is over.
    ripe: Vec<ProbeIndex>,
}

/// A probe: its series, the first of them that of its own phase, and the slots it is not done with.
#[derive(Debug)]
struct Open {
    series: Vec<Row>,
    /// How many in a row, by phase: there are few.
    failures: Vec<(&'static str, u32)>,
    slots: Vec<Slot>,
}

/// A series of the probe's.
#[derive(Debug)]
struct Row {
    aspect: Arc<Aspect>,
    standing: Standing,
    urgent: bool,
}

#[derive(Debug)]
struct Slot {
    begin: Wall,
    in_flight: u64,
    gathered: Vec<Gathered>,
}

/// What one series has in a slot.
#[derive(Debug)]
struct Gathered {
    /// Its place among the probe's.
    series: usize,
    /// Where its last part ended.
    told: Wall,
    samples: Samples,
}

impl Recorder {
    /// For so many probes, each with the aspect of its own phase.
    pub fn new(probes: impl IntoIterator<Item = Aspect>, width: Duration, now: Wall) -> Self {
        // Most probes have the aspect of others.
        let mut known = BTreeSet::<Arc<Aspect>>::new();
        let mut shared = |own: Aspect| {
            let aspect = known.get(&own).cloned().unwrap_or_else(|| Arc::new(own));
            known.insert(aspect.clone());
            aspect
        };
        let open = |own| Open { series: vec![Row::new(shared(own))], failures: Vec::new(), slots: Vec::new() };
        Self { width, current: now.slot(width), probes: probes.into_iter().map(open).collect(), ripe: Vec::new() }
    }

    /// A probe is out.
    pub fn begin(&mut self, due: Due) {
        let begin = due.wall.slot(self.width);
        self.probes[due.probe.0 as usize].slot(begin).in_flight += 1;
    }

    /// It has ended.
    pub fn record(&mut self, ended: &Ended) {
        let Ended { due, standing, end, .. } = ended;
        let begin = due.wall.slot(self.width);
        let open = &mut self.probes[due.probe.0 as usize];
        let slot = open.slot(begin);
        slot.in_flight = slot.in_flight.saturating_sub(1);
        match end {
            End::Counted(outcome, duration) => {
                let series = open.own(*standing);
                open.hear(begin, series, *outcome, *duration);
            }
            End::Phased(samples, _) => {
                for Sample { aspect, outcome, duration } in samples {
                    let series = open.series(aspect, *standing);
                    open.hear(begin, series, *outcome, *duration);
                }
            }
            End::Missed(_) => {}
        }
        if begin != self.current || open.series.iter().any(|row| row.urgent) {
            self.ripe.push(due.probe);
        }
    }

    /// What that probe has cannot wait.
    pub fn hurry(&mut self, probe: ProbeIndex) {
        self.probes[probe.0 as usize].series.iter_mut().for_each(|row| row.urgent = true);
        self.ripe.push(probe);
    }

    /// Takes what is complete, and what cannot wait.
    pub fn close(&mut self, now: Wall) -> Vec<Part> {
        let current = now.slot(self.width);
        if current != self.current {
            self.current = current;
            self.ripen_all();
        }
        // Most of those have one; grown by doubling it would take twice the room at a slot's end.
        let mut parts = Vec::with_capacity(self.ripe.len());
        for probe in self.ripe.drain(..) {
            self.probes[probe.0 as usize].take(probe, now, self.width, &mut parts);
        }
        parts
    }

    /// Takes everything: we stop, and nothing is in flight any more.
    pub fn finish(&mut self, now: Wall) -> Vec<Part> {
        self.probes.iter_mut().flat_map(|open| &mut open.series).for_each(|row| row.urgent = true);
        self.ripen_all();
        self.close(now)
    }

    /// When the current slot is over.
    pub fn slot_ends(&self) -> Wall {
        self.current + self.width
    }

    fn ripen_all(&mut self) {
        let open = self.probes.iter().enumerate().filter(|(_, open)| !open.slots.is_empty());
        self.ripe = open.map(|(index, _)| ProbeIndex(index as u32)).collect();
    }
}

impl Handover {
    /// Adds what was handed over after it.
    pub fn absorb(&mut self, more: Self) {
        self.parts.extend(more.parts);
        self.lateness.extend(more.lateness);
        self.noise_floor.extend(more.noise_floor);
        self.losing_ports.extend(more.losing_ports);
        for (what, count) in more.missed {
            *self.missed.entry(what).or_default() += count;
        }
        self.certificates.extend(more.certificates);
        self.at = more.at;
    }
}

impl Open {
    fn slot(&mut self, begin: Wall) -> &mut Slot {
        let place = self.slots.iter().position(|slot| slot.begin == begin).unwrap_or_else(|| {
            // Most probes have one series and one slot at a time: room for four of each would be the greater part of them.
            self.slots.reserve_exact(1);
            self.slots.push(Slot { begin, in_flight: 0, gathered: Vec::with_capacity(1) });
            self.slots.len() - 1
        });
        &mut self.slots[place]
    }

    /// The place of the series of the probe's own phase.
    fn own(&mut self, standing: Standing) -> usize {
        if standing == Standing::Regular {
            return 0;
        }
        let own = self.series[0].aspect.clone();
        self.series(&own, standing)
    }

    /// The place of an aspect's series, which is registered when it is first met.
    fn series(&mut self, aspect: &Aspect, standing: Standing) -> usize {
        let place = |series: &[Row], aspect: &Aspect| {
            series.iter().position(|row| row.standing == standing && *row.aspect == *aspect)
        };
        if let Some(known) = place(&self.series, aspect) {
            return known;
        }
        let bounded = if self.series.len() < ASPECTS { aspect.clone() } else { without_open_labels(aspect) };
        place(&self.series, &bounded).unwrap_or_else(|| {
            self.series.push(Row { standing, ..Row::new(Arc::new(bounded)) });
            self.series.len() - 1
        })
    }

    /// A row of failures is of a phase, whichever of its series they fall into: a held connection that breaks fails on as a
    /// new one.
    fn hear(&mut self, begin: Wall, series: usize, outcome: Outcome, duration: Duration) {
        self.slot(begin).gathered(series).samples.push(outcome, duration);
        if self.series[series].standing != Standing::Regular {
            return;
        }
        let phase = self.series[series].aspect.phase;
        let place = self.failures.iter().position(|(known, _)| *known == phase).unwrap_or_else(|| {
            self.failures.reserve_exact(1);
            self.failures.push((phase, 0));
            self.failures.len() - 1
        });
        let (_, failures) = &mut self.failures[place];
        let in_a_row = *failures;
        *failures = match outcome {
            Outcome::Reply => 0,
            Outcome::Failure(_) => in_a_row + 1,
        };
        if in_a_row.max(*failures) >= BAD_NEWS {
            self.series.iter_mut().filter(|row| row.aspect.phase == phase).for_each(|row| row.urgent = true);
        }
    }

    fn take(&mut self, probe: ProbeIndex, now: Wall, width: Duration, parts: &mut Vec<Part>) {
        let Self { series, slots, .. } = self;
        slots.retain_mut(|slot| {
            // A slot that lies ahead is over as well: the wall clock was set back.
            let over = slot.begin != now.slot(width);
            let complete = over && slot.in_flight == 0;
            let Slot { begin, in_flight, gathered } = slot;
            for gathered in gathered.iter_mut().filter(|gathered| !gathered.samples.is_empty()) {
                let row = &series[gathered.series];
                if row.urgent || complete {
                    // Less a nanosecond for each probe that may yet make a part of its own, so that no two parts of a slot
                    // end at the same moment.
                    let last = Wall(begin.0 + nanos(width).saturating_sub(*in_flight));
                    let end = if over { last } else { last.min(now) };
                    gathered.told = end.max(Wall(gathered.told.0 + 1));
                    let (aspect, samples) = (row.aspect.clone(), std::mem::take(&mut gathered.samples));
                    let (standing, begin, end) = (row.standing, *begin, gathered.told);
                    parts.push(Part { probe, aspect, standing, begin, end, samples });
                }
            }
            !complete
        });
        for row in series {
            row.urgent = false;
        }
    }
}

impl Row {
    fn new(aspect: Arc<Aspect>) -> Self {
        Self { aspect, standing: Standing::Regular, urgent: false }
    }
}

impl Slot {
    fn gathered(&mut self, series: usize) -> &mut Gathered {
        let place = self.gathered.iter().position(|gathered| gathered.series == series).unwrap_or_else(|| {
            self.gathered.push(Gathered { series, told: self.begin, samples: Samples::default() });
            self.gathered.len() - 1
        });
        &mut self.gathered[place]
    }
}

fn without_open_labels(aspect: &Aspect) -> Aspect {
    let mut labels: Labels = aspect.labels.clone();
    for (label, value) in &mut labels {
        if OPEN_LABELS.contains(label) {
            *value = "other".parse().expect("other is a label");
        }
    }
    Aspect { phase: aspect.phase, labels }
}

#[cfg(test)]
mod tests;
