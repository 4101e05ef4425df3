//! An engine in memory that takes every liberty that an engine may: the twin of [`super::Embedded`], for the tests of everything
//! that stands on a log.
//!
//! - What waits together becomes durable in any order.
//! - A record may be kept twice, and one whose append is said to have failed may be kept all the same.
//! - What was handed over to the fold comes again, out of order, between new entries and among them.
//! - A crash forgets what waits, or keeps it untold.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use journal::sim::Dice;
use journal::{Position, ReadError, SubmitError, WriteError};

use super::engine::{Done, Engine, Feeder, Records};
use super::{Durable, decode};
use crate::admission::Ticket;
use crate::decode::Catalog;
use crate::entry::Entry;

/// Clones are handles to the same log.
#[derive(Clone)]
pub struct SimLog(Arc<Mutex<State>>);

struct State {
    dice: Dice,
    /// With the position of the first.
    first: usize,
    records: VecDeque<Vec<u8>>,
    waiting: Vec<(Vec<u8>, Done)>,
    following: Option<Following>,
}

struct Following {
    fold: Feeder,
    /// Up to where entries were handed over.
    next: usize,
    catalog: Catalog,
}

struct Reading {
    log: SimLog,
    next: Option<usize>,
}

impl SimLog {
    pub fn new(seed: u64) -> Self {
        let dice = Dice::new(seed);
        let state = State { dice, first: 0, records: VecDeque::new(), waiting: Vec::new(), following: None };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Makes what waits durable, or fails it, and hands over what is new and some of what is old.
    pub fn step(&self) {
        let mut told = Vec::new();
        {
            let mut state = self.state();
            let mut waiting = mem::take(&mut state.waiting);
            while !waiting.is_empty() {
                let (record, done) = waiting.swap_remove(state.dice.roll(waiting.len()));
                told.push((state.keep(record), done));
            }
            state.hand_over();
        }
        for (kept, done) in told {
            done(kept);
        }
    }

    /// The collector is gone, and with it whatever waits; some of that is in the log all the same.
    pub fn crash(&self) {
        let mut state = self.state();
        state.following = None;
        for (record, _) in mem::take(&mut state.waiting) {
            if state.dice.roll(2) == 0 {
                state.records.push_back(record);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn end(&self) -> usize {
        self.first + self.records.len()
    }

    fn keep(&mut self, record: Vec<u8>) -> Result<Position, WriteError> {
        let position = Position(self.end() as u64);
        let failed = || WriteError::Append { file: "sim".into(), source: Arc::new(io::Error::other("no answer")) };
        match self.dice.roll(8) {
            0 => return Err(failed()),
            1 => {
                self.records.push_back(record);
                return Err(failed());
            }
            2 => self.records.extend([record.clone(), record]),
            _ => self.records.push_back(record),
        }
        Ok(position)
    }

    fn hand_over(&mut self) {
        let (end, first) = (self.end(), self.first);
        let Some(following) = &mut self.following else { return };
        while following.next < end {
            following.hand(following.next - first, &self.records, first);
            following.next += 1;
            while self.dice.roll(3) == 0 {
                following.hand(self.dice.roll(following.next - first), &self.records, first);
            }
        }
    }
}

impl Following {
    fn hand(&mut self, index: usize, records: &VecDeque<Vec<u8>>, first: usize) {
        let position = Position((first + index) as u64);
        let Some(record) = records.get(index) else { return };
        match decode(position, record, &mut self.catalog) {
            Ok(entry) => drop(self.fold.send(Durable { position, entry, ticket: None })),
            Err(error) => tracing::error!(%error, "not handed over"),
        }
    }
}

impl Engine for SimLog {
    fn append(&self, record: Vec<u8>, _: Entry, _: Option<Ticket>, done: Done) -> Result<(), SubmitError> {
        self.state().waiting.push((record, done));
        Ok(())
    }

    fn follow(&self, from: Position, fold: Feeder) {
        self.state().following = Some(Following { fold, next: from.0 as usize, catalog: Catalog::new(0) });
    }

    fn read(&self, from: Position) -> Box<dyn Records> {
        Box::new(Reading { log: self.clone(), next: Some(from.0 as usize) })
    }

    fn first(&self) -> Position {
        Position(self.state().first as u64)
    }

    fn durable(&self) -> Position {
        Position(self.state().end() as u64)
    }

    fn cut_before(&self, position: Position) {
        let mut state = self.state();
        let most = (position.0 as usize).min(state.end()).saturating_sub(state.first);
        let cut = state.dice.roll(most + 1);
        state.records.drain(..cut);
        state.first += cut;
    }

    fn bytes(&self) -> u64 {
        self.state().records.iter().map(|record| record.len() as u64).sum()
    }
}

impl Iterator for Reading {
    type Item = Result<(Position, Vec<u8>), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next?;
        let state = self.log.state();
        let Some(index) = next.checked_sub(state.first) else {
            self.next = None;
            return Some(Err(ReadError::Cut { wanted: Position(next as u64), first: Position(state.first as u64) }));
        };
        let record = state.records.get(index)?.clone();
        self.next = Some(next + 1);
        Some(Ok((Position(next as u64), record)))
    }
}

impl Records for Reading {
    fn seek(&mut self, position: Position) {
        self.next = Some(position.0 as usize);
    }
}
