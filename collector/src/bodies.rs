//! What came lately under which name. A batch that comes again is the same bytes; other bytes under its name are a fault of the
//! sender's that would otherwise be swallowed as a repetition.

use std::collections::{HashMap, VecDeque};

use telemetry::Origin;
use xxhash_rust::xxh3::xxh3_64;

/// How many are remembered. Forgetting one, or a restart, only means that the fault is not noticed.
const REMEMBERED: usize = 4096;

#[derive(Debug, Default)]
pub struct Bodies {
    hashes: HashMap<Origin, u64>,
    order: VecDeque<Origin>,
}

impl Bodies {
    /// Whether this name is new, or came with this body before.
    pub fn agree(&mut self, origin: &Origin, body: &[u8]) -> bool {
        let hash = xxh3_64(body);
        if let Some(known) = self.hashes.get(origin) {
            return *known == hash;
        }
        if self.order.len() == REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.hashes.remove(&oldest);
        }
        self.hashes.insert(origin.clone(), hash);
        self.order.push_back(origin.clone());
        true
    }
}
