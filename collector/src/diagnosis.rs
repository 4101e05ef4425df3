//! Which layer broke: what the paths beside a cell's primary measurement say while the cell is bad. They never vote.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use telemetry::{FailureKind, Name, Series, Wall};

use crate::policy::Policy;
use crate::rings::{HORIZON, Rings, SeriesId};
use crate::slowness::{Slower, slower_than_before};

/// The layers of a connection, from the bottom up; what is none of them comes after.
const ORDER: [&str; 8] = ["dns", "icmp", "connect", "tls", "upgrade", "hello", "first_byte", "transfer"];

/// From the bottom layer up, each that has fresh data.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis(Vec<(Name, Verdict)>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Verdict {
    Ok,
    Slow(Slower),
    /// Most of its newest probes, and how most of those ended.
    Failing(FailureKind),
}

/// What a series' phase is a layer of: `connect` is the same layer whichever probe measures it.
fn layer(series: &Series) -> &Name {
    if series.phase.as_str() == "rtt" { &series.probe } else { &series.phase }
}

/// What is well counts only when it was heard after `since`: what was before the fault says nothing of it.
pub fn diagnose(
    rings: &Rings,
    beside: impl IntoIterator<Item = SeriesId>,
    since: Wall,
    policy: &Policy,
    now: Wall,
) -> Diagnosis {
    let from = (now - policy.health.recent).slot(policy.window);
    let mut layers: BTreeMap<&Name, Vec<SeriesId>> = BTreeMap::new();
    for id in beside {
        let ring = rings.get(id);
        if now.since(ring.newest) <= HORIZON {
            layers.entry(layer(&ring.series)).or_default().push(id);
        }
    }
    let judged = layers.into_iter().filter_map(|(name, series)| {
        let verdict = judge(rings, &series, from)?;
        let heard = series.iter().any(|id| rings.get(*id).newest > since);
        (heard || matches!(verdict, Verdict::Failing(_))).then(|| (name.clone(), verdict))
    });
    let mut judged: Vec<_> = judged.collect();
    judged.sort_by_key(|(name, _)| ORDER.iter().position(|known| *known == name.as_str()).unwrap_or(ORDER.len()));
    Diagnosis(without_followers(judged))
}

/// A connection that fails at a layer says nothing of those above it: they fail with it, or were last seen before. ICMP is no
/// layer of a connection: many hosts that are well do not answer it.
fn without_followers(layers: Vec<(Name, Verdict)>) -> Vec<(Name, Verdict)> {
    let mut broken = false;
    let is_told = |(name, verdict): &(Name, Verdict)| {
        let part = ORDER.contains(&name.as_str()) && name.as_str() != "icmp";
        let told = !(part && broken);
        broken |= part && matches!(verdict, Verdict::Failing(_));
        told
    };
    layers.into_iter().filter(is_told).collect()
}

/// `None`: it said nothing lately. Losses are judged by the newest slot alone: what was before the fault says nothing of it.
fn judge(rings: &Rings, series: &[SeriesId], from: Wall) -> Option<Verdict> {
    let newest = rings.by_slot(series, from, Wall(u64::MAX)).into_values().next_back()?;
    if newest.lost() * 2 > newest.samples() {
        let most = newest.failures.iter().max_by_key(|(_, count)| **count);
        return most.map(|(kind, _)| Verdict::Failing(*kind));
    }
    let recent = rings.merge(series.iter().copied(), from, Wall(u64::MAX));
    Some(slower_than_before(rings, series.iter().copied(), (from, &recent), 1.0).map_or(Verdict::Ok, Verdict::Slow))
}

impl Diagnosis {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (layer, verdict)) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{} {verdict}", layer.as_str().replace('_', " "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => write!(f, "ok"),
            Self::Slow(Slower { p50_ms, usual_ms }) => write!(f, "slow ({p50_ms:.1} ms, {usual_ms:.1} as usual)"),
            Self::Failing(FailureKind::Timeout) => write!(f, "silent"),
            Self::Failing(FailureKind::Refused) => write!(f, "refused"),
            Self::Failing(kind) => write!(f, "failing ({})", kind.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_on_a_layer_that_fails_is_not_told() {
        let (refused, silent) = (Verdict::Failing(FailureKind::Refused), Verdict::Failing(FailureKind::Timeout));
        let told = |layers: &[(&str, &Verdict)]| {
            let layers = layers.iter().map(|(name, verdict)| (name.parse().unwrap(), (*verdict).clone()));
            Diagnosis(without_followers(layers.collect())).to_string()
        };
        let all = [("icmp", &Verdict::Ok), ("connect", &refused), ("tls", &refused), ("transfer", &refused)];
        assert_eq!(told(&all), "icmp ok, connect refused");
        let from_before =
            [("connect", &refused), ("tls", &Verdict::Ok), ("hello", &Verdict::Ok), ("discovery", &silent)];
        assert_eq!(told(&from_before), "connect refused, discovery silent");
        assert_eq!(told(&[("icmp", &silent), ("connect", &silent), ("tls", &silent)]), "icmp silent, connect silent");
        assert_eq!(told(&[("connect", &Verdict::Ok), ("first_byte", &Verdict::Ok)]), "connect ok, first byte ok");
    }
}
