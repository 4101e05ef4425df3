//! What a window takes on disk, once all of it is in tables and these are compacted.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use collector::history::Tier;
use fjall::{Database, KeyspaceCreateOptions};

const WINDOWS_A_DAY: [(Tier, usize); 3] = [(Tier::Raw, 8640), (Tier::Minute, 1440), (Tier::Hour, 24)];

pub(crate) fn by_tier(data_dir: &Path, paths: usize, days: u32) -> anyhow::Result<BTreeMap<&'static str, f64>> {
    let database = Database::builder(data_dir.join("history")).open().context("open history")?;
    let mut weighed = BTreeMap::new();
    for (tier, windows) in WINDOWS_A_DAY {
        let prefix = format!("{}-", tier.as_str());
        let (mut bytes, mut keyspaces) = (0, 0);
        for name in database.list_keyspace_names().iter().filter(|name| name.starts_with(&prefix)) {
            let keyspace = database.keyspace(name, KeyspaceCreateOptions::default)?;
            if keyspace.is_empty()? {
                continue;
            }
            keyspace.rotate_memtable_and_wait()?;
            keyspace.major_compact()?;
            bytes += keyspace.disk_space();
            keyspaces += 1;
        }
        // Of windows only so many days are kept; of hours one key space has them all.
        let days = if tier == Tier::Hour { days } else { keyspaces };
        weighed.insert(tier.as_str(), bytes as f64 / (windows * paths) as f64 / f64::from(days));
    }
    Ok(weighed)
}
