//! What became of a trial's probes, as it goes on and as one JSON object.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Serialize, Serializer};
use telemetry::emodel::{Codec, Mos};
use telemetry::{FailureKind, Outcome};

use super::samples::{Samples, Spread};
use crate::endpoint::Endpoint;
use crate::flights::{End, Miss, Noise};
use crate::probe::why::Why;

const VOICE: &str = "voice";

#[derive(Debug, Serialize)]
pub struct Summary {
    pub(super) kind: &'static str,
    pub(super) address: String,
    /// What a name stood for when the trial began, where that is what was probed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) resolved: Option<IpAddr>,
    pub(super) sent: u64,
    /// By their last phase: that is whether a probe got what it went for.
    pub(super) received: u64,
    pub(super) lost: u64,
    pub(super) late: u64,
    /// What else was heard and counts for nothing, by reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) noise: BTreeMap<&'static str, u64>,
    /// Through faults of ours, by reason: they say nothing of the target.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) missed: BTreeMap<&'static str, Missed>,
    pub(super) errors: BTreeMap<&'static str, u64>,
    /// Of those the last one's reason in words, where somebody gave any.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) reasons: BTreeMap<&'static str, String>,
    pub(super) phases: Phases,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "some_rounded")]
    pub(super) jitter_ms: Option<f64>,
    /// How a call would sound, of a kind that travels as calls do.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "some_rounded")]
    pub(super) mos: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) certificate_not_after: Option<String>,
    /// As they were seen last.
    pub(super) labels: BTreeMap<&'static str, String>,
}

/// How many, and why in words.
#[derive(Debug)]
pub(super) struct Missed {
    pub(super) count: u64,
    pub(super) why: String,
}

/// The replies of each phase, in the order in which phases were first passed.
#[derive(Debug, Default)]
pub(super) struct Phases(Vec<(&'static str, Samples)>);

impl Summary {
    pub(super) fn new(kind: &'static str, endpoint: &Endpoint) -> Self {
        Self {
            kind,
            address: endpoint.to_string(),
            resolved: None,
            sent: 0,
            received: 0,
            lost: 0,
            late: 0,
            noise: BTreeMap::new(),
            missed: BTreeMap::new(),
            errors: BTreeMap::new(),
            reasons: BTreeMap::new(),
            phases: Phases::default(),
            jitter_ms: None,
            mos: None,
            certificate_not_after: None,
            labels: BTreeMap::new(),
        }
    }

    /// What follows from the whole.
    pub(super) fn conclude(&mut self, why: &Why) {
        self.mos = self.rate().map(|Mos(score)| score);
        let counted = |(kind, words): (FailureKind, String)| Some((self.errors.get_key_value(kind.as_str())?.0, words));
        self.reasons = why.words().into_iter().filter_map(counted).map(|(kind, words)| (*kind, words)).collect();
    }

    /// With the constants that a collector has where nobody configured others.
    fn rate(&self) -> Option<Mos> {
        let (_, replies) = self.phases.last().filter(|_| self.kind == VOICE)?;
        let jitter = Duration::from_secs_f64(self.jitter_ms.unwrap_or_default() / 1e3);
        let loss = self.lost as f64 / (self.received + self.lost) as f64;
        Some(Codec::default().mos(replies.quantile(0.5)?, jitter, loss))
    }

    /// Whether anything came back.
    pub fn is_success(&self) -> bool {
        self.received > 0
    }

    pub(super) fn missed(&mut self, miss: Miss) {
        let missed = self.missed.entry(miss.as_str()).or_insert_with(|| Missed { count: 0, why: miss.to_string() });
        missed.count += 1;
    }

    pub(super) fn noise(&mut self, noise: Noise) {
        match noise {
            Noise::Late => self.late += 1,
            other => *self.noise.entry(other.as_str()).or_default() += 1,
        }
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
        let before = replies.last();
        replies.push(duration);
        if let (Some(before), "rtt") = (before, phase) {
            let difference = telemetry::time::millis(duration.abs_diff(before));
            let jitter = self.jitter_ms.unwrap_or_default();
            // RFC 3550, 6.4.1.
            self.jitter_ms = Some(jitter + (difference - jitter) / 16.0);
        }
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
    fn of(&mut self, phase: &'static str) -> &mut Samples {
        let place = self.0.iter().position(|(known, _)| *known == phase).unwrap_or_else(|| {
            self.0.push((phase, Samples::default()));
            self.0.len() - 1
        });
        &mut self.0[place].1
    }

    /// The one that was passed for the first time last: what the probes go for, if any got so far.
    pub(super) fn last(&self) -> Option<(&'static str, &Samples)> {
        self.0.last().map(|(phase, samples)| (*phase, samples))
    }

    pub(super) fn spreads(&self) -> impl Iterator<Item = (&'static str, Spread)> {
        self.0.iter().filter_map(|(phase, replies)| Some((*phase, replies.spread()?)))
    }
}

impl Serialize for Phases {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.spreads())
    }
}

impl Serialize for Missed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.count)
    }
}

/// To a microsecond, which is what was measured.
#[expect(clippy::ref_option, reason = "serde asks for it")]
fn some_rounded<S: Serializer>(millis: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((millis.unwrap_or_default() * 1e3).round() / 1e3)
}
