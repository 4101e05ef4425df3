//! What is known of each agent itself.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use telemetry::{AgentId, Histogram, RegionName, Wall};

use crate::clocks::{AgentClock, Offset, Sample};
use crate::entry::{Report, Vitals};

/// How far back an agent's figures look: one to two of these.
const SPAN: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Agents {
    all: BTreeMap<AgentId, Agent>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Agent {
    pub region: RegionName,
    pub version: String,
    pub last_seen: Wall,
    pub clock: AgentClock,
    pub lateness: Lately,
    pub noise_floor: Lately,
    pub spool_batches: u64,
    pub spool_bytes: u64,
    /// When the agent said what it says of its spool.
    said: Wall,
}

/// What was measured lately, whatever of it the last batch carried.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Lately {
    since: Wall,
    now: Histogram,
    before: Histogram,
}

impl Agents {
    /// One more than there may be is not kept.
    pub fn heard(&mut self, report: &Report, received: Wall, most: usize) {
        if self.all.len() >= most && !self.all.contains_key(&report.agent) {
            return;
        }
        let Report { agent, source, version, vitals } = report;
        let Vitals { lateness, noise_floor, spool_batches, spool_bytes, at, .. } = vitals;
        let known = self.all.entry(agent.clone()).or_insert_with(|| Agent {
            region: source.clone(),
            version: version.clone(),
            last_seen: received,
            clock: AgentClock::default(),
            lateness: Lately::default(),
            noise_floor: Lately::default(),
            spool_batches: 0,
            spool_bytes: 0,
            said: Wall(0),
        });
        known.last_seen = received;
        // After an outage the newest batch comes first. An agent's clock that ran ahead holds nothing up for longer than that.
        let said = at.map_or(received, |at| at.min(received));
        if said >= known.said {
            (known.region, known.version, known.said) = (source.clone(), version.clone(), said);
            (known.spool_batches, known.spool_bytes) = (*spool_batches, *spool_bytes);
        }
        known.lateness.add(lateness, received);
        known.noise_floor.add(noise_floor, received);
    }

    /// Takes note of when a batch of an agent's own was made and came; says by how much its points are to be moved.
    pub fn correct(&mut self, report: &Report, received: Wall, window: Duration) -> Option<Offset> {
        let clock = &mut self.all.get_mut(&report.agent)?.clock;
        let sample = Sample { made: report.vitals.at?, received, queued: report.vitals.spool_batches > 0 };
        clock.heard(sample);
        clock.correction(sample, window)
    }

    /// The same while nobody knows what time it is.
    pub fn correct_as_before(&self, agent: &AgentId, window: Duration) -> Option<Offset> {
        self.all.get(agent)?.clock.correction_as_before(window)
    }

    /// How many were heard since then.
    pub fn heard_since(&self, since: Wall) -> usize {
        self.all.values().filter(|agent| agent.last_seen >= since).count()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&AgentId, &Agent)> {
        self.all.iter()
    }
}

impl Lately {
    pub fn quantile_ms(&self, q: f64) -> Option<f64> {
        let mut all = self.before.clone();
        all.merge(&self.now);
        all.quantile(q).map(|seconds| seconds * 1e3)
    }

    fn add(&mut self, more: &Histogram, at: Wall) {
        if at.since(self.since) >= SPAN {
            // What is older than two spans is gone.
            let before = std::mem::take(&mut self.now);
            self.before = if at.since(self.since) < SPAN * 2 { before } else { Histogram::default() };
            self.since = at;
        }
        self.now.merge(more);
    }
}

#[cfg(test)]
mod tests {
    use telemetry::histogram::Scratch;

    use super::*;

    #[test]
    fn what_was_measured_lately_outlasts_a_batch_that_carries_nothing_and_no_more_than_a_minute() {
        let mut lately = Lately::default();
        let slow = Scratch::default().fold([Duration::from_millis(8)]);
        let quick = Scratch::default().fold([Duration::from_millis(1)]);
        let shown = |lately: &Lately| lately.quantile_ms(1.0).map(f64::round);
        lately.add(&slow, Wall::from_secs(1000));
        lately.add(&Histogram::default(), Wall::from_secs(1001));
        assert_eq!(shown(&lately), Some(8.0));
        lately.add(&quick, Wall::from_secs(1031));
        assert_eq!(shown(&lately), Some(8.0));
        lately.add(&quick, Wall::from_secs(1062));
        assert_eq!(shown(&lately), Some(1.0));
        lately.add(&Histogram::default(), Wall::from_secs(2000));
        assert_eq!(shown(&lately), None);
    }
}
