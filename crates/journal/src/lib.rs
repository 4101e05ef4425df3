//! An append-only journal of records on local disk: the agent's spool and the collector's log.
//!
//! # Promises
//! 1. A record whose [`Position`] is before [`Journal::durable`] is there after any crash, until it is cut.
//! 2. Positions are dense, begin at 0 and are never reused for another durable record. What [`Journal::open`] finds is an
//!    unbroken run of the records that were appended, in order, bit for bit.
//! 3. A record that was not durable at a crash is there whole or not at all, and nothing behind it is there without it.
//! 4. A full disk harms nothing: the append fails, what it half wrote is cut away, and a later append may succeed.
//! 5. After a failed fsync nobody knows what the disk holds (the kernel may have dropped the pages and called them clean), so
//!    the journal refuses all further writes. The next `open` writes the doubtful records again before it trusts them.
//! 6. Damage is never repaired by guessing. Only a torn tail, which no one was told is durable, is cut; every other damage is
//!    a [`Corruption`] that names the file and the byte.
//!
//! # Format
//! A journal is a directory of segments, `<first position, 20 digits>.segment`, and a file `lock`, held by the one process
//! that has it open. All integers are little-endian, all checksums CRC-32C (RFC 3720, B.4).
//!
//! ```text
//! segment  = header record*
//! header   = magic "isochrnj" | version u32 | crc u32 of the other fields | first position u64 | salt u64
//! record   = crc u32 of the salt and the next four fields
//!          | length u32 | position u64 | synced u64 | crc u32 of the payload | payload
//! ```
//!
//! - **synced**: everything before this position was durable when the record was written. It tells a torn write from
//!   corruption. A power cut may lose any part of what was written since the last fsync and keep what lies behind it, so a
//!   whole record behind a damaged one proves nothing by itself; one whose `synced` lies beyond the damage proves that the
//!   damaged record had been durable, and the journal is refused. Without such a proof the tail is torn and is cut at the
//!   first damage. So damage to the very last group of an fsync looks like a torn write: the price of one fsync a group.
//! - **salt**: random for each segment, so that no payload can pose as a record, whatever its author puts into it.
//! - The header has its own checksum: a garbage length is never believed, and never allocates.
//!
//! A segment is made durable (records, then the next segment's header, then the directory) before a record goes into the
//! next one. So only the last segment can be torn, and a hole between segments is corruption.
//!
//! Nothing here reads a clock or needs a runtime; every access to the disk goes through [`Disk`], whose twin
//! [`sim::SimDisk`] crashes, tears and fails on request.

mod active;
mod committer;
mod disk;
mod format;
mod journal;
mod marks;
mod position;
mod reader;
mod recover;
mod segment;
pub mod sim;

pub use committer::{Committer, QueueLimits, SubmitError, Worker};
pub use disk::{Disk, DiskFile, RealDisk, RealFile};
pub use format::MAX_RECORD_BYTES;
pub use journal::{Journal, Options, WriteError};
pub use position::Position;
pub use reader::{ReadError, Reader};
pub use recover::{OpenError, Recovery};
pub use segment::{Corruption, Damage};
