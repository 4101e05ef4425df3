//! What became of a trial's probes. Quantiles are exact: of the samples themselves, by nearest rank.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};
use telemetry::{FailureKind, Outcome};

use crate::endpoint::Endpoint;
use crate::flights::{End, Miss, Noise};

#[derive(Debug, Serialize)]
pub struct Summary {
    kind: &'static str,
    address: String,
    pub(super) sent: u64,
    /// By their last phase: that is whether a probe got what it went for.
    received: u64,
    lost: u64,
    late: u64,
    /// Through faults of ours, by reason: they say nothing of the target.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    missed: BTreeMap<&'static str, u64>,
    errors: BTreeMap<&'static str, u64>,
    phases: Phases,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "some_rounded")]
    jitter_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_not_after: Option<String>,
    /// As they were seen last.
    labels: BTreeMap<&'static str, String>,
}

/// The replies of each phase, in the order in which phases were first passed.
#[derive(Debug, Default)]
struct Phases(Vec<(&'static str, Vec<Duration>)>);

#[derive(Debug, Serialize)]
struct Phase {
    count: usize,
    #[serde(serialize_with = "rounded")]
    min_ms: f64,
    #[serde(serialize_with = "rounded")]
    p50_ms: f64,
    #[serde(serialize_with = "rounded")]
    p95_ms: f64,
    #[serde(serialize_with = "rounded")]
    p99_ms: f64,
    #[serde(serialize_with = "rounded")]
    max_ms: f64,
}

impl Summary {
    pub(super) fn new(kind: &'static str, endpoint: &Endpoint) -> Self {
        Self {
            kind,
            address: endpoint.to_string(),
            sent: 0,
            received: 0,
            lost: 0,
            late: 0,
            missed: BTreeMap::new(),
            errors: BTreeMap::new(),
            phases: Phases::default(),
            jitter_ms: None,
            certificate_not_after: None,
            labels: BTreeMap::new(),
        }
    }

    /// Whether anything came back.
    pub fn is_success(&self) -> bool {
        self.received > 0
    }

    pub(super) fn missed(&mut self, miss: Miss) {
        *self.missed.entry(miss.as_str()).or_default() += 1;
    }

    pub(super) fn noise(&mut self, noise: Noise) {
        self.late += u64::from(noise == Noise::Late);
    }

    pub(super) fn ended(&mut self, phase: &'static str, end: &End) {
        match end {
            End::Counted(outcome, duration) => {
                self.passed(phase, *outcome, *duration);
                self.last(*outcome);
            }
            End::Phased(samples, not_after) => {
                self.certificate_not_after = not_after.map(|end| end.to_string()).or(self.certificate_not_after.take());
                for sample in samples {
                    self.passed(sample.aspect.phase, sample.outcome, sample.duration);
                    let labels = sample.aspect.labels.iter();
                    self.labels.extend(labels.map(|(label, value)| (label.as_str(), value.to_string())));
                }
                samples.last().into_iter().for_each(|last| self.last(last.outcome));
            }
            End::Missed(miss) => self.missed(*miss),
        }
    }

    fn passed(&mut self, phase: &'static str, outcome: Outcome, duration: Duration) {
        if outcome != Outcome::Reply {
            return;
        }
        let replies = self.phases.of(phase);
        if let (Some(&before), "rtt") = (replies.last(), phase) {
            let difference = duration.abs_diff(before).as_secs_f64() * 1e3;
            let jitter = self.jitter_ms.unwrap_or_default();
            // RFC 3550, 6.4.1.
            self.jitter_ms = Some(jitter + (difference - jitter) / 16.0);
        }
        self.phases.of(phase).push(duration);
    }

    fn last(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Reply => self.received += 1,
            Outcome::Failure(kind) => self.failed(kind),
        }
    }

    fn failed(&mut self, kind: FailureKind) {
        self.lost += 1;
        *self.errors.entry(kind.as_str()).or_default() += 1;
    }
}

impl Phases {
    fn of(&mut self, phase: &'static str) -> &mut Vec<Duration> {
        let place = self.0.iter().position(|(known, _)| *known == phase).unwrap_or_else(|| {
            self.0.push((phase, Vec::new()));
            self.0.len() - 1
        });
        &mut self.0[place].1
    }

    fn iter(&self) -> impl Iterator<Item = (&'static str, Phase)> {
        self.0.iter().filter_map(|(phase, replies)| Some((*phase, Phase::of(replies)?)))
    }
}

impl Phase {
    fn of(replies: &[Duration]) -> Option<Self> {
        let mut sorted = replies.to_vec();
        sorted.sort_unstable();
        let (min, max) = (millis(*sorted.first()?), millis(*sorted.last()?));
        let rank = |q: f64| (q * sorted.len() as f64).ceil() as usize;
        let quantile = |q| millis(sorted[rank(q).max(1) - 1]);
        Some(Self {
            count: sorted.len(),
            min_ms: min,
            p50_ms: quantile(0.5),
            p95_ms: quantile(0.95),
            p99_ms: quantile(0.99),
            max_ms: max,
        })
    }
}

impl Serialize for Phases {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

/// A table, for people.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, address, sent, received, lost, late, .. } = self;
        writeln!(f, "{kind} {address}: {sent} sent, {received} received, {lost} lost, {late} late")?;
        let reasons = self.errors.iter().map(|reason| ("lost", reason));
        for (what, (reason, count)) in reasons.chain(self.missed.iter().map(|reason| ("missed", reason))) {
            writeln!(f, "{count} {what}: {reason}")?;
        }
        if !self.phases.0.is_empty() {
            let [min, p50, p95, p99, max] = ["min", "p50", "p95", "p99", "max"];
            writeln!(f, "{:<12}{:>7}{min:>10}{p50:>10}{p95:>10}{p99:>10}{max:>10}", "ms", "count")?;
        }
        for (phase, Phase { count, min_ms, p50_ms, p95_ms, p99_ms, max_ms }) in self.phases.iter() {
            writeln!(f, "{phase:<12}{count:>7}{min_ms:>10.3}{p50_ms:>10.3}{p95_ms:>10.3}{p99_ms:>10.3}{max_ms:>10.3}")?;
        }
        if let Some(jitter) = self.jitter_ms {
            writeln!(f, "jitter {jitter:.3} ms")?;
        }
        if let Some(end) = &self.certificate_not_after {
            writeln!(f, "certificate until {end}")?;
        }
        self.labels.iter().try_for_each(|(label, value)| writeln!(f, "{label} {value}"))
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// To a microsecond, which is what was measured.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn rounded<S: Serializer>(millis: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((millis * 1e3).round() / 1e3)
}

#[expect(clippy::ref_option, reason = "serde asks for it")]
fn some_rounded<S: Serializer>(millis: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    rounded(&millis.unwrap_or_default(), serializer)
}
