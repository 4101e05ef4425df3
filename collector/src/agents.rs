//! What is known of each agent itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use telemetry::{AgentId, RegionName, Wall};

use crate::entry::{Report, Vitals};

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
    pub fn heard(&mut self, report: &Report, received: Wall) {
        let Report { agent, source, version, vitals } = report;
        let heard =
            Agent { region: source.clone(), version: version.clone(), last_seen: received, vitals: vitals.clone() };
        self.all.insert(agent.clone(), heard);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&AgentId, &Agent)> {
        self.all.iter()
    }
}
