//! The journal's promises, on the simulated disk and on the real one.

#![expect(clippy::unwrap_used, reason = "what a helper cannot do fails its test")]

mod committer;
mod corruption;
mod every_crash;
mod faults;

mod model;
mod real_disk;

use journal::sim::SimDisk;
use journal::{Disk, Journal, OpenError, Options, Position};

/// Small, so that a few records turn segments.
const OPTIONS: Options = Options { segment_bytes: 160 };

/// The name of the segment that begins with `first`.
fn segment(first: u64) -> String {
    format!("{first:020}.segment")
}

fn open(disk: &SimDisk) -> Result<Journal<SimDisk>, OpenError> {
    Journal::open(disk.clone(), OPTIONS)
}

/// Every record from `from` on.
fn payloads<D: Disk>(journal: &Journal<D>, from: Position) -> Vec<Vec<u8>> {
    let mut expected = from;
    let read = journal.read(from).map(|record| {
        let (position, payload) = record.unwrap();
        assert_eq!(position, expected);
        expected = position.next();
        payload
    });
    read.collect()
}
