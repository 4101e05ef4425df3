//! What an earlier process left on disk.

use std::collections::HashMap;
use std::path::Path;
use std::{fs, io};

use journal::{Disk, Journal, OpenError, Options, Position, ReadError, RealDisk};
use telemetry::{Boot, Wall};

use super::gaps::Gaps;
use super::record::Record;
use super::{Limits, Name, Stored};

/// A batch that was not taken, by all that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) name: Name,
    pub(super) at: Wall,
    pub(super) bytes: u64,
    pub(super) position: Position,
}

pub(super) fn options(limits: Limits) -> Options {
    Options { segment_bytes: limits.bytes / 16 }
}

/// Opens the journal in `data_dir/spool`. One that is damaged is set aside, once: what can be probed now is worth more than
/// what was measured then, and whoever cares for that finds it whole.
pub(super) fn open(data_dir: &Path, boot: Boot, limits: Limits) -> io::Result<Stored> {
    let dir = data_dir.join("spool");
    let mut disk = RealDisk::open(&dir)?;
    let mut opened = Journal::open(disk.clone(), options(limits));
    if let Err(OpenError::Corrupt(damage)) = &opened {
        let aside = data_dir.join("spool.damaged");
        if aside.exists() {
            tracing::error!(%damage, kept = %aside.display(), "the spool is damaged, again: an earlier one is still kept");
        } else {
            fs::rename(&dir, &aside)?;
            tracing::error!(%damage, kept = %aside.display(), "the spool is damaged: it is set aside, and an empty one begun");
            disk = RealDisk::open(&dir)?;
            opened = Journal::open(disk.clone(), options(limits));
        }
    }
    Ok(Stored::new(disk, opened, boot, limits))
}

/// Oldest first, with what is lost and was not told.
pub(super) fn replay<D: Disk>(journal: &Journal<D>) -> Result<(Vec<Found>, Gaps), ReadError> {
    let (mut waiting, mut gaps) = (HashMap::new(), Gaps::default());
    for item in journal.read(journal.first()) {
        let (position, bytes) = item?;
        match Record::decode(&bytes) {
            Some(Record::Batch { name, at, body }) => {
                waiting.insert(name, Found { name, at, bytes: body.len() as u64, position });
            }
            Some(Record::Done(name)) => drop(waiting.remove(&name)),
            Some(Record::Lost(lost)) => {
                gaps = Gaps::of(lost);
                waiting.retain(|name, _| !gaps.hold(*name));
            }
            None => {
                tracing::warn!(%position, "the spool holds a record of an unknown kind: written by another version?");
            }
        }
    }
    let mut waiting: Vec<Found> = waiting.into_values().collect();
    waiting.sort_unstable_by_key(|found| found.position);
    Ok((waiting, gaps))
}
