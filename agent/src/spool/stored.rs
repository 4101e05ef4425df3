//! On disk: a journal of batches, and of what became of them. A batch is durable before it is shown to anyone.
//!
//! While the disk takes nothing, batches wait in memory, within the same bounds; they go to the disk as soon as it takes them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use journal::{Disk, Journal, OpenError, Position, ReadError, RealDisk, WriteError};
use telemetry::{Boot, Gap, Sequence, Wall};

use super::gaps::Gaps;
use super::record::{self, Record};
use super::replay::{Found, options, replay};
use super::{Batch, Depth, Lane, Limits, Name, Offered, Spool};

/// Between two tries to open a journal that failed.
const RETRY: Duration = Duration::from_secs(10);

pub struct Stored<D: Disk = RealDisk> {
    disk: D,
    boot: Boot,
    limits: Limits,
    last: u64,
    /// `None`: it failed, and is opened again at some later offer.
    journal: Option<Journal<D>>,
    tried: Wall,
    /// Whether what earlier processes left is among those that wait.
    inherited: bool,
    /// Oldest first.
    waiting: VecDeque<Waiting>,
    gaps: Gaps,
    /// Whether the disk says what is lost.
    noted: bool,
    home: Home,
}

struct Waiting {
    name: Name,
    at: Wall,
    bytes: u64,
    place: Place,
    /// The gaps that it tells of; of an earlier process nobody knows.
    told: Vec<Gap>,
}

enum Place {
    Disk(Position),
    Memory(Bytes),
}

/// Where new batches go. A change of it is said, once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Home {
    Disk,
    Memory,
}

/// What a disk refused.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("record {0} is not the batch that was written there")]
    Record(Position),
}

impl Waiting {
    fn bytes_in_memory(&self) -> u64 {
        if let Place::Memory(body) = &self.place { body.len() as u64 } else { 0 }
    }
}

impl<D: Disk> Stored<D> {
    pub fn open(disk: D, boot: Boot, limits: Limits) -> Self {
        let opened = Journal::open(disk.clone(), options(limits));
        Self::new(disk, opened, boot, limits)
    }

    pub(super) fn new(disk: D, opened: Result<Journal<D>, OpenError>, boot: Boot, limits: Limits) -> Self {
        let mut stored = Self {
            disk,
            boot,
            limits,
            last: 0,
            journal: None,
            tried: Wall(0),
            inherited: false,
            waiting: VecDeque::new(),
            gaps: Gaps::default(),
            noted: true,
            home: Home::Disk,
        };
        if let Err(fault) = stored.mount(opened) {
            stored.fall_back(&fault);
        }
        stored
    }

    fn mount(&mut self, opened: Result<Journal<D>, OpenError>) -> Result<(), Fault> {
        let journal = opened?;
        let (found, gaps) = replay(&journal)?;
        self.journal = Some(journal);
        self.match_up(found, gaps);
        Ok(())
    }

    /// What is on disk against what is known to wait. They differ where a write failed halfway.
    fn match_up(&mut self, found: Vec<Found>, gaps: Gaps) {
        let mut found_at: BTreeMap<Name, Position> = found.iter().map(|found| (found.name, found.position)).collect();
        self.lose(|waiting| matches!(waiting.place, Place::Disk(_)) && !found_at.contains_key(&waiting.name));
        for waiting in &mut self.waiting {
            if let Some(position) = found_at.remove(&waiting.name) {
                waiting.place = Place::Disk(position);
            }
        }
        if self.inherited {
            // Taken while the disk could not be told.
            for name in found_at.into_keys() {
                self.write_off(name);
            }
            return;
        }
        self.inherited = true;
        let inherit = |found: Found| {
            let Found { name, at, bytes, position } = found;
            Waiting { name, at, bytes, place: Place::Disk(position), told: Vec::new() }
        };
        let ours = std::mem::take(&mut self.waiting);
        let left: VecDeque<_> = found.into_iter().filter(|found| found.name.boot != self.boot).map(inherit).collect();
        if !left.is_empty() {
            tracing::info!(batches = left.len(), "batches of an earlier process wait in the spool");
        }
        self.waiting = left.into_iter().chain(ours).collect();
        self.gaps.inherit(gaps);
    }

    fn mount_again(&mut self, now: Wall) {
        if self.journal.is_some() || !self.is_due(now) {
            return;
        }
        self.tried = now;
        let opened = Journal::open(self.disk.clone(), options(self.limits));
        if let Err(fault) = self.mount(opened) {
            self.fall_back(&fault);
        }
    }

    /// Also where the wall clock was set back.
    fn is_due(&self, now: Wall) -> bool {
        now < self.tried || now.since(self.tried) >= RETRY
    }

    /// Moves what waits in memory to the disk, with one fsync for all of it.
    fn write(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        let (mut written, mut fault) = (Vec::new(), None);
        for (index, waiting) in self.waiting.iter().enumerate() {
            let Waiting { name, at, place: Place::Memory(body), .. } = waiting else { continue };
            match journal.append(&Record::Batch { name: *name, at: *at, body }.encode()) {
                Ok(position) => written.push((index, position)),
                Err(WriteError::TooLarge { .. }) => {}
                Err(error) => {
                    fault = Some(error);
                    break;
                }
            }
        }
        // What went in before a fault counts as soon as it is durable.
        match journal.sync() {
            Ok(()) => {
                for (index, position) in written {
                    self.waiting[index].place = Place::Disk(position);
                }
            }
            Err(error) => fault = Some(error),
        }
        match fault {
            Some(error) => self.fall_back(&error.into()),
            None if self.home == Home::Memory => {
                tracing::info!("the spool's disk takes batches again");
                self.home = Home::Disk;
            }
            None => {}
        }
    }

    /// Drops what is too old or too much. Answers how many batches that were.
    fn bound(&mut self, now: Wall) -> u64 {
        let Limits { bytes: limit, age } = self.limits;
        // However large: it is what is true now.
        let newest = self.waiting.back().map(|waiting| waiting.name);
        let mut lost = self.lose(|waiting| now.since(waiting.at) > age && newest != Some(waiting.name));
        let in_memory: u64 = self.waiting.iter().map(Waiting::bytes_in_memory).sum();
        let mut too_much = in_memory.saturating_sub(limit);
        lost += self.lose(|waiting| {
            let bytes = waiting.bytes_in_memory();
            let goes = too_much > 0 && bytes > 0 && newest != Some(waiting.name);
            too_much = too_much.saturating_sub(if goes { bytes } else { 0 });
            goes
        });
        if let Err(error) = self.note() {
            self.fall_back(&error.into());
        }
        // What the cuts themselves write is not cut for, or a bound that is small next to it would never be met.
        let Some(end) = self.journal.as_ref().map(Journal::next) else { return lost };
        while let Some(cut) = self.cut_due(limit).filter(|cut| *cut < end) {
            lost += self.lose(|waiting| matches!(waiting.place, Place::Disk(position) if position < cut));
            if !self.cut(cut) {
                break;
            }
        }
        self.tidy();
        lost
    }

    /// Where the oldest segment ends, when all of them are too much.
    fn cut_due(&self, limit: u64) -> Option<Position> {
        self.journal.as_ref().filter(|journal| journal.bytes() > limit)?.cuts().next()
    }

    /// Takes those away and makes gaps of them. The oldest are asked first.
    fn lose(&mut self, mut goes: impl FnMut(&Waiting) -> bool) -> u64 {
        let mut lost = Vec::new();
        self.waiting.retain(|waiting| {
            let goes = goes(waiting);
            lost.extend(goes.then_some(waiting.name));
            !goes
        });
        self.gaps.lose(&lost, self.waiting.iter().map(|waiting| waiting.name));
        self.noted &= lost.is_empty();
        lost.len() as u64
    }

    /// Writes down what is lost, where that is not done: after a crash nothing else would name what was in memory, and what is still in a
    /// segment would come back.
    fn note(&mut self) -> Result<(), WriteError> {
        let Some(journal) = self.journal.as_mut().filter(|_| !self.noted) else { return Ok(()) };
        journal.append(&Record::Lost(self.gaps.all()).encode())?;
        journal.sync()?;
        self.noted = true;
        Ok(())
    }

    /// Removes the segments in which nothing waits.
    fn tidy(&mut self) {
        let Some(journal) = &self.journal else { return };
        let on_disk = |waiting: &Waiting| if let Place::Disk(position) = waiting.place { Some(position) } else { None };
        let needed = self.waiting.iter().filter_map(on_disk).min().unwrap_or(journal.next());
        if journal.cuts().next().is_some_and(|cut| cut <= needed) {
            self.cut(needed);
        }
    }

    /// What is lost is written down before it goes, and again before the segment goes that says so.
    fn cut(&mut self, before: Position) -> bool {
        self.noted &= self.gaps.is_empty();
        let noted = self.note();
        let Some(journal) = &mut self.journal else { return false };
        // Without room for a note the cut comes first: it makes some.
        let cut = match noted {
            Err(error) if !error.is_no_space() => Err(error),
            _ => journal.cut_before(before),
        };
        match cut.and_then(|_| self.note()) {
            Ok(()) => true,
            Err(error) => {
                self.fall_back(&error.into());
                false
            }
        }
    }

    /// Durable with the next batch. Lost or refused it costs a repeat.
    fn write_off(&mut self, name: Name) {
        let Some(journal) = &mut self.journal else { return };
        if let Err(error) = journal.append(&Record::Done(name).encode()) {
            self.fall_back(&error.into());
        }
    }

    fn read(journal: &Journal<D>, position: Position, name: Name) -> Result<Bytes, Fault> {
        let (_, bytes) = journal.read(position).next().ok_or(Fault::Record(position))??;
        match Record::decode(&bytes) {
            Some(Record::Batch { name: found, .. }) if found == name => Ok(Bytes::from(bytes).slice(record::HEAD..)),
            _ => Err(Fault::Record(position)),
        }
    }

    fn fall_back(&mut self, fault: &Fault) {
        // A full disk may have room again; in any other case only opening it again tells what it holds.
        if !matches!(
            fault,
            Fault::Write(WriteError::Append { .. } | WriteError::Start { .. } | WriteError::Remove { .. })
        ) {
            self.journal = None;
        }
        if self.home == Home::Disk {
            tracing::error!(error = fault as &dyn std::error::Error, "the spool's disk fails; batches wait in memory");
            self.home = Home::Memory;
        }
    }
}

impl<D: Disk> Spool for Stored<D> {
    fn offer(&mut self, bodies: Vec<Bytes>, told: Vec<Gap>, now: Wall) -> Offered {
        for body in bodies {
            self.last += 1;
            let name = Name { boot: self.boot, sequence: Sequence(self.last) };
            let (bytes, place) = (body.len() as u64, Place::Memory(body));
            self.waiting.push_back(Waiting { name, at: now, bytes, place, told: told.clone() });
        }
        self.mount_again(now);
        self.write();
        let fresh = self.waiting.iter().rev().take_while(|waiting| waiting.at == now);
        let unwritten = fresh.filter(|waiting| matches!(waiting.place, Place::Memory(_))).count() as u64;
        Offered { dropped: self.bound(now), unwritten }
    }

    fn next(&mut self, lane: Lane) -> Option<Batch> {
        loop {
            // What is on a disk that fails waits for it.
            let readable = |waiting: &&Waiting| self.journal.is_some() || matches!(waiting.place, Place::Memory(_));
            let Waiting { name, place, .. } = match lane {
                Lane::Oldest => self.waiting.iter().find(readable)?,
                Lane::Newest => self.waiting.iter().rev().find(readable)?,
            };
            let read = match (place, &self.journal) {
                (Place::Memory(body), _) => Ok(body.clone()),
                (Place::Disk(position), Some(journal)) => Self::read(journal, *position, *name),
                (Place::Disk(_), None) => return None,
            };
            match read {
                Ok(body) => return Some(Batch { name: *name, body }),
                Err(fault) => self.fall_back(&fault),
            }
        }
    }

    fn forget(&mut self, name: Name) {
        let place = self.waiting.iter().position(|waiting| waiting.name == name);
        let Some(forgotten) = place.and_then(|place| self.waiting.remove(place)) else { return };
        self.gaps.told(&forgotten.told);
        if let Place::Disk(_) = forgotten.place {
            self.write_off(name);
        }
        self.tidy();
    }

    fn gaps(&self) -> Vec<Gap> {
        self.gaps.all()
    }

    fn depth(&self) -> Depth {
        let bytes = self.waiting.iter().map(|waiting| waiting.bytes).sum();
        Depth { batches: self.waiting.len() as u64, bytes }
    }
}
