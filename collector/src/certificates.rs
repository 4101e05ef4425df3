//! When the certificates of targets end, as each agent was last shown them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use telemetry::{AgentId, Name, RegionName, ServiceName, TargetId, UnixSeconds, Wall};

use crate::entry::Certificate;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Certificates {
    all: BTreeMap<(AgentId, TargetId, Name), Shown>,
}

/// What one agent's probe of one target was shown last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    pub source: RegionName,
    pub region: RegionName,
    pub service: ServiceName,
    /// When the first certificate of the chain ends.
    pub not_after: UnixSeconds,
    /// When the handshake was. Agents repeat themselves every ten minutes, with the time of the handshake that they speak of.
    pub seen: Wall,
}

impl Certificates {
    /// What was seen before what is known changes nothing: a backlog may come after the news.
    pub fn shown(&mut self, certificate: &Certificate) {
        let Certificate { series, not_after, seen } = certificate;
        let key = (series.agent.clone(), series.target.clone(), series.probe.clone());
        if self.all.get(&key).is_some_and(|known| known.seen > *seen) {
            return;
        }
        let (source, region, service) = (series.source.clone(), series.region.clone(), series.service.clone());
        self.all.insert(key, Shown { source, region, service, not_after: *not_after, seen: *seen });
    }

    /// Each with the agent, the target and the probe that was shown it.
    pub fn iter(&self) -> impl Iterator<Item = (&AgentId, &TargetId, &Name, &Shown)> {
        self.all.iter().map(|((agent, target, probe), shown)| (agent, target, probe, shown))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use telemetry::Series;

    use super::*;

    fn certificate(probe: &str, not_after: i64, seen: u64) -> Certificate {
        let series = Series { probe: probe.parse().unwrap(), ..telemetry::sample::series() };
        Certificate { series: Arc::new(series), not_after: UnixSeconds(not_after), seen: Wall::from_secs(seen) }
    }

    #[test]
    fn the_last_that_was_seen_stands_whenever_it_comes() {
        let mut certificates = Certificates::default();
        for (probe, not_after, seen) in [("tls", 500, 10), ("tls", 900, 30), ("tls", 500, 20), ("http", 700, 10)] {
            certificates.shown(&certificate(probe, not_after, seen));
        }
        let told: Vec<_> = certificates.iter().map(|(.., probe, shown)| (probe.as_str(), shown.not_after.0)).collect();
        assert_eq!(told, [("http", 700), ("tls", 900)]);
    }
}
