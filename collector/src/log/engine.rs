//! What the one ordered record stands on: the journal of this machine, or a log that several collectors share.
//!
//! # What an engine promises
//! 1. **Order.** Records stand at dense positions, from 0 on. Whoever reads, whenever and wherever, finds the same record at a
//!    position, or is told that it was cut.
//! 2. **Durable before told.** A position is told, be it to who appended, to a reader or to the fold, only when the record in
//!    it outlives every crash that the engine is made for.
//! 3. **Nothing by itself.** Every record was appended by someone, and is there bit for bit.
//! 4. **New ones in order.** The fold is handed a position for the first time only after all before it, from where it began
//!    to follow. None is left out.
//! 5. **Read from anywhere.** From any position that was not cut, every durable record, in order.
//! 6. **Cut behind.** A cut takes nothing at or behind its position. What lies before it goes when, and as far as, suits the
//!    engine.
//!
//! # What it need not
//! - Keep a record **once**: one may stand at two positions, and one whose append failed may stand in the log all the same.
//!   Whoever appended sends it again, and the fold counts a batch by its name, a point without one by itself.
//! - Hand over a position **once**: what was handed over may come again, at any time and in any order. The fold passes it by,
//!   so that what it concludes follows from the positions alone, on every engine and on every collector.
//! - Keep the order of appends that wait together, or tell of them in the order of their positions.

use std::sync::mpsc::SyncSender;

use journal::{Disk, Position, ReadError, Reader, SubmitError, WriteError};

use super::Durable;
use crate::admission::Ticket;
use crate::entry::Entry;

/// See the module for what it promises.
pub trait Engine: Send + Sync + 'static {
    /// Takes a record; `entry` is what it decodes to, and `ticket` goes with it to the fold or is dropped. `done` is called once,
    /// with its position or with why it is not known to be durable. When the record is refused here, `done` is dropped uncalled.
    fn append(&self, record: Vec<u8>, entry: Entry, ticket: Option<Ticket>, done: Done) -> Result<(), SubmitError>;

    /// Hands over every entry from `from` on, as it becomes durable. Called once, with the end of what is durable, before
    /// anything is appended here.
    fn follow(&self, from: Position, fold: Feeder);

    /// Durable records from `from` on.
    fn read(&self, from: Position) -> Box<dyn Records>;

    /// The oldest record that is still there.
    fn first(&self) -> Position;

    /// Everything before this is durable.
    fn durable(&self) -> Position;

    /// What lies before it is not needed any more.
    fn cut_before(&self, position: Position);

    /// What the log takes on disk.
    fn bytes(&self) -> u64;
}

/// Where an append is told its position.
pub type Done = Box<dyn FnOnce(Result<Position, WriteError>) + Send>;

/// Where entries go to be folded. When it is full the engine waits, and then refuses.
pub type Feeder = SyncSender<Durable>;

/// Records in order. `None` means nothing more by now: it may be asked again. After an error it yields nothing until it is told
/// where to go on.
pub trait Records: Iterator<Item = Result<(Position, Vec<u8>), ReadError>> + Send + Sync {
    fn seek(&mut self, position: Position);
}

impl<D: Disk> Records for Reader<D> {
    fn seek(&mut self, position: Position) {
        Reader::seek(self, position);
    }
}
