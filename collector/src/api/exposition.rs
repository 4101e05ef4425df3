//! What was measured, under the names that Prometheus's blackbox exporter made usual, so that dashboards and rules written for
//! it find them: one set for each probe of a target, from a source, over an address family.
//!
//! A set tells the newest window, and vanishes when its path goes stale. Phases carry the exporter's names (`resolve`, not
//! `dns`). Durations are means: they are additive, as dashboards that stack phases expect. The percentiles are in `/api/v1`.

use std::collections::BTreeMap;
use std::sync::Arc;

use telemetry::{Family, Name, RegionName, Series, TargetId, UnixSeconds, Wall};

use crate::rings::{Rings, Seen, SeriesId};
use crate::state::State;

/// Beyond so many sets an answer would be a burden to whoever scrapes it. The rest is left out, from the end of the order, and
/// counted.
pub(super) const MOST: usize = 10_000;

/// One probe of a target, and what each of its phases saw in the newest window.
pub(super) struct Probe {
    series: Arc<Series>,
    phases: BTreeMap<Name, Seen>,
    /// When the first certificate that it was shown ends.
    not_after: Option<UnixSeconds>,
}

/// A value, by phase where it has one.
type Sample = (Option<&'static str>, f64);

struct Metric {
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    values: fn(&Probe) -> Vec<Sample>,
}

const METRICS: [Metric; 6] = [
    Metric {
        name: "probe_success",
        unit: "",
        help: "Whether most probes of the newest window got what they went for.",
        values: |probe| probe.one(|end| Some(f64::from(end.loss()? < 0.5))),
    },
    Metric {
        name: "isochrone_probe_loss_ratio",
        unit: "ratio",
        help: "The share of the probes of the newest window that did not.",
        values: |probe| probe.one(Seen::loss),
    },
    Metric {
        name: "probe_duration_seconds",
        unit: "seconds",
        help: "How long a probe took that got what it went for, all phases together: the mean of the newest window.",
        values: |probe| probe.one(|end| probe.seconds(end)),
    },
    Metric {
        name: "probe_http_duration_seconds",
        unit: "seconds",
        help: "How long a phase of an HTTP probe took: the mean of the newest window.",
        values: |probe| probe.by_phase("http"),
    },
    Metric {
        name: "probe_icmp_duration_seconds",
        unit: "seconds",
        help: "How long a phase of an ICMP probe took: the mean of the newest window.",
        values: |probe| probe.by_phase("icmp"),
    },
    Metric {
        name: "probe_ssl_earliest_cert_expiry",
        unit: "",
        help: "When the first certificate of the chain that was shown ends, in seconds since 1970.",
        values: |probe| probe.not_after.map(|end| (None, end.0 as f64)).into_iter().collect(),
    },
];

/// Those that have fresh data, in the order of their names.
pub(super) fn probes(state: &State) -> Vec<Probe> {
    let mut probes: BTreeMap<(RegionName, TargetId, Name, Family), Probe> = BTreeMap::new();
    let Some(policy) = &state.policy else { return Vec::new() };
    for (_, all) in state.rings.paths() {
        let heard = all.iter().map(|id| state.rings.get(*id).newest).max().unwrap_or_default();
        if state.now.since(heard) > policy.stale_after() {
            continue;
        }
        let from = (heard - policy.window).slot(policy.window);
        let Some((series, seen)) = newest(&state.rings, all, from) else { continue };
        let key = (series.source.clone(), series.target.clone(), series.probe.clone(), series.family);
        let probe = probes.entry(key).or_insert_with(|| Probe::new(Arc::clone(series)));
        probe.phases.insert(series.phase.clone(), seen);
    }
    for (_, target, probe, shown) in state.certificates.iter() {
        for family in [Family::Ipv4, Family::Ipv6] {
            if let Some(probe) = probes.get_mut(&(shown.source.clone(), target.clone(), probe.clone(), family)) {
                probe.not_after = Some(probe.not_after.map_or(shown.not_after, |known| known.min(shown.not_after)));
            }
        }
    }
    probes.into_values().collect()
}

fn newest<'a>(rings: &'a Rings, all: &[SeriesId], from: Wall) -> Option<(&'a Arc<Series>, Seen)> {
    let (_, seen) = rings.by_slot(all, from, Wall(u64::MAX)).pop_last()?;
    Some((&rings.get(*all.first()?).series, seen))
}

/// The Prometheus text format, version 0.0.4. Names need no escapes.
pub(super) fn render(probes: &[Probe], most: usize) -> String {
    let (shown, left_out) = probes.split_at(most.min(probes.len()));
    let mut text = format!(
        "# HELP isochrone_metrics_probes Probes whose metrics are here, and those beyond the limit.\n\
         # TYPE isochrone_metrics_probes gauge\n\
         isochrone_metrics_probes{{state=\"shown\"}} {}\n\
         isochrone_metrics_probes{{state=\"left_out\"}} {}\n",
        shown.len(),
        left_out.len(),
    );
    for metric in METRICS {
        metric.render(&mut text, shown);
    }
    text
}

impl Metric {
    fn render(&self, text: &mut String, probes: &[Probe]) {
        let Self { name, unit, help, values } = self;
        text.extend([format!("# HELP {name} {help}\n# TYPE {name} gauge\n")]);
        if !unit.is_empty() {
            text.extend([format!("# UNIT {name} {unit}\n")]);
        }
        for probe in probes {
            let labels = probe.labels();
            for (phase, value) in values(probe) {
                let phase = phase.map(|phase| format!(",phase=\"{phase}\"")).unwrap_or_default();
                text.extend([format!("{name}{{{labels}{phase}}} {}\n", to_nanos(value))]);
            }
        }
    }
}

impl Probe {
    fn new(series: Arc<Series>) -> Self {
        Self { series, phases: BTreeMap::new(), not_after: None }
    }

    fn labels(&self) -> String {
        let Series { source, target, service, region, probe, family, .. } = &*self.series;
        let family = family.as_str();
        format!(
            "source=\"{source}\",target=\"{target}\",service=\"{service}\",region=\"{region}\",probe=\"{probe}\",\
             family=\"{family}\""
        )
    }

    /// A value of the phase that every probe reaches, or fails with one before it.
    fn one(&self, value: impl Fn(&Seen) -> Option<f64>) -> Vec<Sample> {
        let end = self.phases.values().max_by_key(|seen| (seen.samples(), seen.lost()));
        end.and_then(value).map(|value| (None, value)).into_iter().collect()
    }

    fn seconds(&self, end: &Seen) -> Option<f64> {
        // A gateway is asked on a connection that is held: what made the connection is not part of it.
        let is_held = self.phases.contains_key("heartbeat");
        let parts = self.phases.iter().filter(|(phase, _)| !is_held || phase.as_str() == "heartbeat");
        // Not every probe makes a connection: a phase weighs as often as it was gone through.
        let weighed = parts.filter_map(|(_, seen)| Some(mean(seen)? * seen.samples() as f64 / end.samples() as f64));
        (!end.replies.is_empty()).then(|| weighed.sum())
    }

    fn by_phase(&self, probe: &str) -> Vec<Sample> {
        if self.series.probe.as_str() != probe {
            return Vec::new();
        }
        self.phases.iter().filter_map(|(phase, seen)| Some((Some(usual(phase)?), mean(seen)?))).collect()
    }
}

/// As fine as anything was measured.
fn to_nanos(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}

fn mean(seen: &Seen) -> Option<f64> {
    let count = seen.replies.count();
    (count > 0).then(|| seen.replies.sum() / count as f64)
}

/// What the exporter calls a phase of ours.
fn usual(phase: &Name) -> Option<&'static str> {
    Some(match phase.as_str() {
        "dns" => "resolve",
        "connect" => "connect",
        "tls" => "tls",
        "first_byte" => "processing",
        "transfer" => "transfer",
        "rtt" => "rtt",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use telemetry::histogram::Scratch;
    use telemetry::{FailureKind, Histogram, Outcome};

    use super::*;
    use crate::config::Config;
    use crate::entry::{Batch, Certificate, Entry, Point};

    const NOW: Wall = Wall(1_000_000_000_000);

    fn point(probe: &str, phase: &str, outcome: Outcome, ms: &[u64]) -> Point {
        let series =
            Series { probe: probe.parse().unwrap(), phase: phase.parse().unwrap(), ..telemetry::sample::series() };
        let histogram: Histogram = Scratch::default().fold(ms.iter().copied().map(Duration::from_millis));
        Point { series: series.into(), outcome, begin: NOW - Duration::from_secs(5), end: NOW, histogram }
    }

    fn state(points: Vec<Point>) -> State {
        shown(points, Vec::new())
    }

    fn shown(points: Vec<Point>, certificates: Vec<Certificate>) -> State {
        let policy = Arc::new(Config::load(Path::new("../config/collector.toml")).unwrap().policy);
        let mut state = State::default();
        let batch =
            Batch { origin: None, received: NOW, points, reports: Vec::new(), certificates, losing_ports: Vec::new() };
        for entry in [Entry::Config { at: NOW, policy }, Entry::Batch(batch), Entry::Mark { now: NOW }] {
            drop(state.apply(&entry));
        }
        state
    }

    fn http(phase: &str, ms: &[u64]) -> Point {
        point("http", phase, Outcome::Reply, ms)
    }

    #[test]
    fn a_probe_is_told_under_the_usual_names_and_the_mean_of_its_phases_adds_up() {
        let lost = Outcome::Failure(FailureKind::Timeout);
        let points = vec![
            http("connect", &[10]),
            http("first_byte", &[40, 40]),
            http("transfer", &[5, 5]),
            point("icmp", "rtt", Outcome::Reply, &[90]),
            point("icmp", "rtt", lost, &[1000, 1000]),
        ];
        let series = Series { agent: "fra-2".parse().unwrap(), ..Series::clone(&http("tls", &[1]).series) };
        let certificate = |series: Arc<Series>, end| Certificate { series, not_after: UnixSeconds(end), seen: NOW };
        let certificates =
            vec![certificate(http("tls", &[1]).series, 1_795_000_000), certificate(series.into(), 1_790_000_000)];
        insta::assert_snapshot!(render(&probes(&shown(points, certificates)), MOST));
    }

    #[test]
    fn what_goes_stale_vanishes() {
        let mut state = state(vec![http("transfer", &[5])]);
        assert_eq!(probes(&state).len(), 1);
        drop(state.apply(&Entry::Mark { now: NOW + Duration::from_mins(1) }));
        assert_eq!(probes(&state).len(), 0);
    }

    #[test]
    fn what_is_beyond_the_limit_is_left_out_and_counted() {
        let points = ["icmp", "stun", "tcp"].map(|probe| point(probe, "rtt", Outcome::Reply, &[5]));
        let text = render(&probes(&state(points.into())), 2);
        assert!(text.contains("isochrone_metrics_probes{state=\"left_out\"} 1\n"), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("probe_success{")).count(), 2, "{text}");
    }
}
