//! When the certificates of targets end, as each agent was last shown them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use telemetry::{AgentId, Name, RegionName, ServiceName, TargetId, UnixSeconds, Wall};

use crate::entry::Certificate;
use crate::policy::Bounds;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Certificates {
    all: BTreeMap<AgentId, BTreeMap<(TargetId, Name), Shown>>,
}

/// Whether there is room for what was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    Here,
    /// It is of a new probe, where its agent has as many as it may have series, or there are as many agents.
    Beyond,
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
    pub fn shown(&mut self, certificate: &Certificate, bounds: Bounds) -> Kept {
        let Certificate { series, not_after, seen } = certificate;
        if !self.all.contains_key(&series.agent) && self.all.len() >= bounds.agents {
            return Kept::Beyond;
        }
        let of_agent = self.all.entry(series.agent.clone()).or_default();
        let key = (series.target.clone(), series.probe.clone());
        let known = of_agent.get(&key);
        if known.is_none() && of_agent.len() >= bounds.series_per_agent {
            return Kept::Beyond;
        }
        if known.is_none_or(|known| known.seen <= *seen) {
            let (source, region, service) = (series.source.clone(), series.region.clone(), series.service.clone());
            of_agent.insert(key, Shown { source, region, service, not_after: *not_after, seen: *seen });
        }
        Kept::Here
    }

    /// Each with the agent, the target and the probe that was shown it.
    pub fn iter(&self) -> impl Iterator<Item = (&AgentId, &TargetId, &Name, &Shown)> {
        let of_agent = |(agent, shown)| std::iter::repeat(agent).zip(shown);
        self.all.iter().flat_map(of_agent).map(|(agent, ((target, probe), shown))| (agent, target, probe, shown))
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
            certificates.shown(&certificate(probe, not_after, seen), Bounds::default());
        }
        let told: Vec<_> = certificates.iter().map(|(.., probe, shown)| (probe.as_str(), shown.not_after.0)).collect();
        assert_eq!(told, [("http", 700), ("tls", 900)]);
    }

    #[test]
    fn a_new_one_beyond_the_bounds_is_not_kept_and_what_is_known_goes_on() {
        let (mut certificates, bounds) = (Certificates::default(), Bounds { agents: 1, series_per_agent: 2 });
        let mut shown = |probe, seen| certificates.shown(&certificate(probe, 500, seen), bounds);
        assert_eq!(
            [shown("tls", 10), shown("http", 10), shown("websocket", 10)],
            [Kept::Here, Kept::Here, Kept::Beyond]
        );
        assert_eq!(shown("tls", 20), Kept::Here);
        let mut other = certificate("tls", 500, 10);
        other.series = Arc::new(Series { agent: "another".parse().unwrap(), ..(*other.series).clone() });
        assert_eq!(certificates.shown(&other, bounds), Kept::Beyond);
        assert_eq!(certificates.iter().count(), 2);
    }
}
