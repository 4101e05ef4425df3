//! The document that a router reads.

use serde::{Deserialize, Serialize};
use telemetry::emodel::Mos;
use telemetry::{RegionName, ServiceName, Wall};
use utoipa::ToSchema;

use super::View;
use super::ranking::{Basis, Challenger, Ranking, Why};
use crate::policy::{HintPolicy, Mode};

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Hint)]
pub struct HintDocument {
    pub source: RegionName,
    pub service: ServiceName,
    /// A new epoch means a new data directory; within one the version never goes back.
    pub epoch: String,
    /// Grows when the meaning changes: order, weights, basis, mode, addresses, exclusions; not with every figure.
    pub version: u64,
    #[schema(format = DateTime)]
    pub generated_at: String,
    #[schema(format = DateTime)]
    pub stale_after: String,
    #[schema(format = DateTime)]
    pub valid_until: String,
    pub mode: Mode,
    pub basis: Basis,
    pub ranked: Vec<Ranked>,
    pub excluded: Vec<Excluded>,
    pub stability: Stability,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Ranked {
    pub region: RegionName,
    pub rank: usize,
    /// Of every hundred new sessions of this source.
    pub weight: u32,
    /// What it costs to send a session there: RTT, jitter and loss in one figure.
    pub cost_ms: Option<f64>,
    /// Its interval of confidence, 95 %.
    #[schema(min_items = 2, max_items = 2)]
    pub cost_ci_ms: Option<[f64; 2]>,
    pub p50_ms: Option<f64>,
    pub p75_ms: Option<f64>,
    pub p95_ms: Option<f64>,
    /// Round-trip loss, 0–1.
    pub loss: Option<f64>,
    pub jitter_ms: Option<f64>,
    /// An estimate of voice quality, 1–4.5.
    pub mos: Option<f64>,
    pub samples: u64,
    pub age_s: Option<f64>,
    /// What the configuration advertises.
    pub addresses: Vec<String>,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Excluded {
    pub region: RegionName,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Stability {
    pub incumbent: Option<RegionName>,
    #[schema(format = DateTime)]
    pub since: String,
    pub challenger: Option<RegionName>,
    pub margin_ms: Option<f64>,
    pub wins: u32,
}

/// What a version stands for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Meaning {
    ranked: Vec<(RegionName, u32, Vec<String>)>,
    excluded: Vec<RegionName>,
    basis: Basis,
    mode: Option<Mode>,
}

pub(super) fn meaning(ranking: &Ranking, view: &View<'_>, service: &ServiceName) -> Meaning {
    let addresses = view.policy.regions_of(service);
    let ranked = ranking.order.iter().map(|region| {
        let addresses = addresses.get(region).into_iter().flatten().map(ToString::to_string).collect();
        (region.clone(), weight(ranking, region), addresses)
    });
    Meaning {
        ranked: ranked.collect(),
        excluded: excluded(ranking).map(|(region, _)| region.clone()).collect(),
        basis: ranking.basis,
        mode: view.policy.services.get(service).map(|service| service.mode),
    }
}

pub(super) fn write(ranking: &Ranking, view: &View<'_>, source: &RegionName, service: &ServiceName) -> HintDocument {
    let addresses = view.policy.regions_of(service);
    let ranked = ranking.order.iter().enumerate().map(|(index, region)| {
        let cost = ranking.costs.get(region);
        let mos = cost.and_then(|cost| {
            let primary = &view.policy.services.get(service)?.primary;
            view.policy.mos(&primary.probe, cost.p50_ms, cost.jitter_ms, cost.loss)
        });
        Ranked {
            region: region.clone(),
            rank: index + 1,
            weight: weight(ranking, region),
            cost_ms: cost.map(|cost| tidy(cost.ms)),
            cost_ci_ms: cost.and_then(|cost| cost.interval_ms).map(|interval| interval.map(tidy)),
            p50_ms: cost.map(|cost| tidy(cost.p50_ms)),
            p75_ms: cost.map(|cost| tidy(cost.p75_ms)),
            p95_ms: cost.map(|cost| tidy(cost.p95_ms)),
            loss: cost.map(|cost| cost.loss),
            jitter_ms: cost.map(|cost| tidy(cost.jitter_ms)),
            mos: mos.map(|Mos(score)| tidy(score)),
            samples: cost.map_or(0, |cost| cost.samples),
            age_s: cost.map(|cost| tidy(view.now.since(cost.newest).as_secs_f64())),
            addresses: addresses.get(region).into_iter().flatten().map(ToString::to_string).collect(),
            reason: if index == 0 {
                why_first(ranking, region, &view.policy.hints)
            } else {
                why_behind(ranking, region)
            },
        }
    });
    let excluded = excluded(ranking).map(|(region, reason)| Excluded { region: region.clone(), reason });
    HintDocument {
        source: source.clone(),
        service: service.clone(),
        epoch: format!("{:016x}", view.epoch.0),
        version: ranking.version,
        generated_at: view.now.to_string(),
        stale_after: (view.now + view.policy.stale_after()).to_string(),
        valid_until: (view.now + view.policy.hints.forget_after).to_string(),
        mode: view.policy.services.get(service).map_or(Mode::Shadow, |service| service.mode),
        basis: ranking.basis,
        ranked: ranked.collect(),
        excluded: excluded.collect(),
        stability: stability(ranking),
    }
}

/// Those that are not in the order; a frozen order lists again what it can no longer vouch for, and excludes nobody.
fn excluded(ranking: &Ranking) -> impl Iterator<Item = (&RegionName, String)> {
    let excluded = ranking.excluded.iter().filter(|(region, _)| !ranking.order.contains(region));
    excluded.map(|(region, exclusion)| (region, exclusion.to_string()))
}

/// Before anything was measured everything goes to the nearest.
fn weight(ranking: &Ranking, region: &RegionName) -> u32 {
    if ranking.weights.is_empty() {
        return if ranking.order.first() == Some(region) { 100 } else { 0 };
    }
    ranking.weights.get(region).copied().unwrap_or(0)
}

fn stability(ranking: &Ranking) -> Stability {
    let challenger = ranking.challenger.as_ref();
    Stability {
        incumbent: ranking.order.first().cloned(),
        since: ranking.since.to_string(),
        challenger: challenger.map(|challenger| challenger.region.clone()),
        margin_ms: challenger.map(|challenger| tidy(challenger.margin_ms)),
        wins: challenger.map_or(0, |challenger| challenger.wins),
    }
}

fn why_first(ranking: &Ranking, first: &RegionName, policy: &HintPolicy) -> String {
    match &ranking.why {
        Why::Nearest => "nearest by great circle; nothing measured yet".to_owned(),
        Why::Cheapest => match lead(ranking, first) {
            Some((next, ms)) => format!("lowest cost, {ms:.1} ms before {next}"),
            None => "the only region that can be ranked".to_owned(),
        },
        Why::Holds => match &ranking.challenger {
            Some(Challenger { region, margin_ms, wins: 0 }) => {
                format!("holds: {region} is {margin_ms:.1} ms cheaper, which is not enough")
            }
            Some(Challenger { region, margin_ms, wins }) if *wins < policy.wins => {
                let needed = policy.wins;
                format!(
                    "holds: {region} is {margin_ms:.1} ms cheaper and has won {wins} of the {needed} windows it needs"
                )
            }
            Some(Challenger { region, margin_ms, .. }) => {
                let dwell = humantime::format_duration(policy.dwell);
                format!("holds: {region} is {margin_ms:.1} ms cheaper, but a first place stands for {dwell} at least")
            }
            None => "holds".to_owned(),
        },
        Why::Won { over, by_ms } => format!("won over {over} by {by_ms:.1} ms"),
        Why::Left { region, because } => format!("{region} was left at once: {because}"),
        Why::Frozen => "no fresh data: the last order stands".to_owned(),
        Why::TooMuchLost => "more than half of the capacity looks lost: the last good order stands".to_owned(),
        Why::SourceIsolated => "this source sees nearly everything fail: the last good order stands".to_owned(),
    }
}

fn why_behind(ranking: &Ranking, region: &RegionName) -> String {
    let first = ranking.order.first().and_then(|first| ranking.costs.get(first));
    match (first, ranking.costs.get(region)) {
        (Some(first), Some(cost)) => format!("{:+.1} ms against the first", cost.ms - first.ms),
        (_, None) => ranking.excluded.get(region).map_or_else(|| "by distance".to_owned(), ToString::to_string),
        (None, Some(_)) => "measured".to_owned(),
    }
}

fn lead<'a>(ranking: &'a Ranking, first: &RegionName) -> Option<(&'a RegionName, f64)> {
    let ms = |region: &RegionName| ranking.costs.get(region).map(|cost| cost.ms);
    let next = ranking.order.get(1)?;
    Some((next, ms(next)? - ms(first)?))
}

/// Microseconds are as fine as anyone reads.
fn tidy(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// The entity tag: the meaning, not the clock.
impl HintDocument {
    pub fn etag(&self) -> String {
        format!("\"{}-{}\"", self.epoch, self.version)
    }

    pub fn generated(&self) -> Option<Wall> {
        self.generated_at.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_place_that_holds_says_what_its_challenger_still_lacks() {
        let first = "fra".parse().unwrap();
        let said = |wins| {
            let mut ranking = Ranking::default();
            ranking.why = Why::Holds;
            ranking.challenger = Some(Challenger { region: "ams".parse().unwrap(), margin_ms: 6.25, wins });
            why_first(&ranking, &first, &HintPolicy::default())
        };
        assert_eq!(said(0), "holds: ams is 6.2 ms cheaper, which is not enough");
        assert_eq!(said(2), "holds: ams is 6.2 ms cheaper and has won 2 of the 3 windows it needs");
        assert_eq!(said(3), "holds: ams is 6.2 ms cheaper, but a first place stands for 10m at least");
    }
}
