//! What is known of each agent itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use telemetry::{AgentId, RegionName, Wall};

use crate::entry::{Batch, Vitals};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Agents {
    all: BTreeMap<AgentId, Agent>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Agent {
    pub region: RegionName,
    pub version: String,
    pub last_seen: Wall,
    pub vitals: Vitals,
}

impl Agents {
    pub fn heard(&mut self, batch: &Batch) {
        let Batch { origin, source, received, version, vitals, .. } = batch;
        let agent =
            Agent { region: source.clone(), version: version.clone(), last_seen: *received, vitals: vitals.clone() };
        self.all.insert(origin.agent.clone(), agent);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&AgentId, &Agent)> {
        self.all.iter()
    }
}
