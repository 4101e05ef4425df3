//! Folds parts of windows into histograms and makes batches of them. A thread of its own: a fold passes through a dense
//! histogram, and thousands of them at the end of a slot would hold up sends.
//!
//! What is closed within [`GATHER`] goes out together, so that an outage seen by many series is a few batches, not hundreds.
//! While earlier batches still wait, so does what comes next, up to [`BEHIND`]: over a long way many small ones would never catch up.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use runtime::{Clock, Wall};
use telemetry::histogram::Scratch;
use telemetry::otlp::build::{AgentHealth, Certificate, LosingPorts, Measured, Missed, Sender, Subject, encode};
use telemetry::{Gap, Outcome, Standing, Window};

use crate::meters::Instruments;
use crate::plan::{Aspect, Plan, ProbeIndex};
use crate::record::{Handover, Part, Shown};
use crate::spool::{Depth, Offered, Shared};

const GATHER: Duration = Duration::from_millis(50);
const BEHIND: Duration = Duration::from_secs(if cfg!(test) { 60 } else { 1 });
/// Some 200 kB before compression: below what a collector calls too big. A batch is a tree of ten times that before it is encoded, and the
/// room for one tree is kept.
const WINDOWS_IN_A_BATCH: usize = if cfg!(test) { 3 } else { 500 };
const ZSTD_LEVEL: i32 = 3;
/// A certificate is told of when it is new, and again after so long: a collector may have lost it, and we do not know.
const TELL_AGAIN: Duration = Duration::from_mins(10);

/// Runs until the pacer is gone and its last parts are in the spool.
pub fn run(
    handovers: &Receiver<Handover>,
    mut assembler: Assembler,
    spool: &Shared,
    clock: Clock,
    tally: &Instruments,
) -> Result<(), Infallible> {
    while let Ok(first) = handovers.recv() {
        let gathered = gather(first, handovers, spool, clock);
        let offered = assembler.store(gathered, spool, || clock.wall());
        tally.spool_dropped(offered.dropped);
        tally.spool_unwritten(offered.unwritten);
    }
    spool.close();
    Ok(())
}

fn gather(first: Handover, handovers: &Receiver<Handover>, spool: &Shared, clock: Clock) -> Handover {
    let (begun, mut gathered) = (clock.mono(), first);
    loop {
        let until = clock.mono() + GATHER;
        loop {
            match handovers.recv_timeout(until.since(clock.mono())) {
                Ok(more) => gathered.absorb(more),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return gathered,
            }
        }
        if spool.depth().batches == 0 || clock.mono().since(begun) >= BEHIND {
            return gathered;
        }
    }
}

pub fn compress(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut compressed = zstd::bulk::compress(body, ZSTD_LEVEL)?;
    // It comes with room for the worst case, and a batch may wait for hours.
    compressed.shrink_to_fit();
    Ok(compressed)
}

/// From parts to batches, encoded.
#[derive(Debug)]
pub struct Assembler {
    plan: Plan,
    /// Those that were met beside the plan's own; the recorder bounds how many there are.
    subjects: BTreeMap<(ProbeIndex, Arc<Aspect>, Standing), Arc<Subject>>,
    certificates: BTreeMap<ProbeIndex, Known>,
    sender: Sender,
    scratch: Scratch,
    /// When the last batch was made.
    told: Wall,
}

/// A server's certificates, and when the collector was last told of them.
#[derive(Debug)]
struct Known {
    subject: Arc<Subject>,
    shown: Shown,
    told: Option<Wall>,
}

impl Assembler {
    pub fn new(plan: Plan, sender: Sender, start: Wall) -> Self {
        Self {
            plan,
            subjects: BTreeMap::new(),
            certificates: BTreeMap::new(),
            sender,
            scratch: Scratch::default(),
            told: start,
        }
    }

    /// Makes batches of it and puts them into the spool, with what that has to tell; `now` is asked when they are ready.
    pub fn store(&mut self, gathered: Handover, spool: &Shared, now: impl FnOnce() -> Wall) -> Offered {
        let gaps = spool.gaps();
        let bodies = self.assemble(gathered, spool.depth(), &gaps);
        // Only memory can run out here, and then nothing helps.
        let compressed = |body: Vec<u8>| compress(&body).expect("zstd compresses from memory to memory").into();
        let bodies = bodies.map(compressed).collect();
        spool.offer(bodies, gaps, now())
    }

    /// One batch after the other, so that only one of them is in memory in the clear.
    pub fn assemble(&mut self, handover: Handover, depth: Depth, gaps: &[Gap]) -> impl Iterator<Item = Vec<u8>> {
        let Handover { parts, lateness, noise_floor, losing_ports, missed, certificates, at } = handover;
        let mut certificates = self.news_of(certificates, at);
        let mut lateness = self.scratch.fold(lateness);
        let mut noise_floor = self.scratch.fold(noise_floor);
        let subject = |probe| self.plan.get(probe).subject.clone();
        let losing = |(probe, share)| LosingPorts { subject: subject(probe), share, seen: at };
        let mut losing_ports: Vec<_> = losing_ports.into_iter().map(losing).collect();
        let missed =
            missed.into_iter().map(|((probe, reason), count)| Missed { subject: subject(probe), reason, count });
        let mut missed: Vec<_> = missed.collect();
        let mut parts = parts.into_iter();
        std::iter::from_fn(move || {
            let parts = parts.by_ref().take(WINDOWS_IN_A_BATCH);
            let windows: Vec<_> = parts.map(|part| self.measured(part)).collect();
            // The first batch takes what was missed, so without windows there is one batch at most.
            if windows.is_empty() && missed.is_empty() {
                return None;
            }
            let health = AgentHealth {
                lateness: std::mem::take(&mut lateness),
                noise_floor: std::mem::take(&mut noise_floor),
                losing_ports: std::mem::take(&mut losing_ports),
                missed: std::mem::take(&mut missed),
                certificates: std::mem::take(&mut certificates),
                spool_batches: depth.batches,
                spool_bytes: depth.bytes,
                // In each: which of them is taken first nobody knows.
                gaps: gaps.to_vec(),
                // The wall clock may have been set back in between.
                begin: self.told.min(at),
                end: at,
            };
            self.told = at;
            Some(encode(&self.sender, &windows, &health))
        })
    }

    /// Those that are new, have changed, or were told of long ago.
    fn news_of(&mut self, certificates: BTreeMap<ProbeIndex, Shown>, at: Wall) -> Vec<Certificate> {
        for (probe, shown) in certificates {
            let subject = || self.plan.get(probe).subject.clone();
            let known =
                self.certificates.entry(probe).or_insert_with(|| Known { subject: subject(), shown, told: None });
            if known.shown.not_after != shown.not_after {
                known.told = None;
            }
            known.shown = shown;
        }
        // Where the wall clock was set back, too.
        let old = |told: Wall| told > at || at.since(told) >= TELL_AGAIN;
        let due = self.certificates.values_mut().filter(|known| known.told.is_none_or(old));
        due.map(|Known { subject, shown, told }| {
            *told = Some(at);
            Certificate { subject: subject.clone(), not_after: shown.not_after, seen: shown.at }
        })
        .collect()
    }

    fn measured(&mut self, part: Part) -> Measured {
        let Part { probe, aspect, standing, begin, end, samples } = part;
        let mut durations: BTreeMap<Outcome, Vec<Duration>> = BTreeMap::new();
        for (outcome, duration) in samples.iter() {
            durations.entry(outcome).or_default().push(duration);
        }
        let fold = |(outcome, durations)| (outcome, self.scratch.fold(durations));
        let outcomes = durations.into_iter().map(fold).collect();
        let planned = self.plan.get(probe);
        let subject = if planned.is_own(&aspect, standing) {
            planned.subject.clone()
        } else {
            let named = || planned.subject_of(&aspect, standing);
            self.subjects.entry((probe, aspect.clone(), standing)).or_insert_with(named).clone()
        };
        Measured { subject, window: Window { begin, end, outcomes } }
    }
}

#[cfg(test)]
mod tests;
