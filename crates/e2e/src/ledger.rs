//! What agents handed over and what the collector acknowledged, written down between them; and what it must show for that.

use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::Context as _;
use serde_json::Value;
use telemetry::histogram::Histogram;
use telemetry::otlp::walk::{self, BadPoint, Point, Visitor, walk};
use telemetry::otlp::{PROBE_DURATION, labels};
use telemetry::{AgentId, Outcome, RegionName, Standing};

use crate::answers::{Counted, Path, by_standing, path};
use crate::json::items;

/// By which a batch is counted once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Name {
    pub agent: String,
    pub boot: String,
    pub sequence: u64,
}

#[derive(Debug, Clone, Default)]
pub struct Ledger {
    batches: BTreeMap<Name, Batch>,
    /// In the order in which the collector acknowledged them first.
    taken: Vec<Name>,
    /// Handed over although the collector had acknowledged them.
    pub replays: u64,
    pub cuts: u64,
    /// Those whose bytes changed under their name.
    altered: Vec<Name>,
}

#[derive(Debug, Clone)]
struct Batch {
    body: Vec<u8>,
    acknowledged: bool,
}

/// What is on one path that should not be, or is not there that should.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// Outcomes of probes.
    pub lost: u64,
    pub doubled: u64,
    /// Batches, and quantiles of paths.
    pub altered: u64,
    pub said: Vec<String>,
}

/// Of one path.
#[derive(Debug, Default)]
struct Sum {
    counted: BTreeMap<&'static str, Counted>,
    regular: Histogram,
}

impl Ledger {
    pub(crate) fn came(&mut self, name: &Name, body: &[u8]) {
        match self.batches.get(name) {
            None => drop(self.batches.insert(name.clone(), Batch { body: body.to_owned(), acknowledged: false })),
            Some(before) if before.body != body => self.altered.push(name.clone()),
            Some(before) => self.replays += u64::from(before.acknowledged),
        }
    }

    pub(crate) fn acknowledged(&mut self, name: &Name) {
        let Some(batch) = self.batches.get_mut(name).filter(|batch| !batch.acknowledged) else { return };
        batch.acknowledged = true;
        self.taken.push(name.clone());
    }

    /// In the order in which the collector acknowledged them first.
    pub fn taken(&self) -> &[Name] {
        &self.taken
    }

    pub fn waiting(&self) -> Vec<&Name> {
        self.batches.iter().filter(|(_, batch)| !batch.acknowledged).map(|(name, _)| name).collect()
    }

    /// As the collector acknowledged it.
    pub fn body(&self, name: &Name) -> Option<&[u8]> {
        self.batches.get(name).filter(|batch| batch.acknowledged).map(|batch| &*batch.body)
    }

    /// Every acknowledged batch, once, against what `/api/v1/paths` shows of all time.
    pub fn faults(&self, paths: &Value) -> anyhow::Result<Faults> {
        let mut sums = BTreeMap::new();
        for Batch { body, .. } in self.batches.values().filter(|batch| batch.acknowledged) {
            add(&mut sums, body)?;
        }
        let mut faults = Faults::default();
        for name in &self.altered {
            faults.altered += 1;
            faults.said.push(format!("{name:?} came again with other bytes"));
        }
        for shown in items(paths) {
            let path = path(shown);
            let sum = sums.remove(&path).unwrap_or_default();
            faults.compare(&path, &sum.counted, &by_standing(shown));
            faults.compare_quantiles(&path, &sum.regular, shown);
        }
        for (path, sum) in sums {
            faults.compare(&path, &sum.counted, &BTreeMap::new());
        }
        Ok(faults)
    }
}

impl Faults {
    fn compare(&mut self, path: &Path, handed: &BTreeMap<&str, Counted>, shown: &BTreeMap<&str, Counted>) {
        for standing in ["regular", "confirming", "suspect"] {
            let [handed, shown] = [handed, shown].map(|all| all.get(standing).copied().unwrap_or_default());
            for (handed, shown) in [(handed.replies, shown.replies), (handed.failures, shown.failures)] {
                self.lost += handed.saturating_sub(shown);
                self.doubled += shown.saturating_sub(handed);
            }
            if handed != shown {
                self.said.push(format!("{path:?} {standing}: acknowledged {handed:?}, shown {shown:?}"));
            }
        }
    }

    /// They come from merged histograms, so that the same samples give the same to the last digits.
    fn compare_quantiles(&mut self, path: &Path, handed: &Histogram, shown: &Value) {
        for (name, q) in [("p50_ms", 0.5), ("p75_ms", 0.75), ("p95_ms", 0.95), ("p99_ms", 0.99)] {
            let (handed, shown) = (handed.quantile(q).map(|seconds| seconds * 1e3), shown[name].as_f64());
            let same = match (handed, shown) {
                (Some(handed), Some(shown)) => (handed - shown).abs() <= 1e-9 * handed,
                (handed, shown) => handed == shown,
            };
            if !same {
                self.altered += 1;
                self.said.push(format!("{path:?} {name}: acknowledged {handed:?}, shown {shown:?}"));
            }
        }
    }
}

fn add(sums: &mut BTreeMap<Path, Sum>, body: &[u8]) -> anyhow::Result<()> {
    let body = zstd::decode_all(body).context("inflate a batch")?;
    let mut reading = Reading { sums, sender: None, fault: None };
    walk(&body, &mut reading).context("read a batch")?;
    reading.fault.map_or(Ok(()), |fault| anyhow::bail!(fault))
}

/// One batch.
struct Reading<'s> {
    sums: &'s mut BTreeMap<Path, Sum>,
    sender: Option<(AgentId, RegionName)>,
    fault: Option<String>,
}

impl<'a> Visitor<'a> for Reading<'_> {
    fn resource(&mut self, attributes: &'a [u8]) {
        match labels::resource(attributes) {
            Ok(resource) => self.sender = Some((resource.agent, resource.source)),
            Err(fault) => self.fault = Some(fault.to_string()),
        }
    }

    fn point(&mut self, point: Point<'a>) {
        let (PROBE_DURATION, walk::Value::Histogram(histogram), Some((agent, source))) =
            (point.metric, point.value, &self.sender)
        else {
            return;
        };
        let (series, outcome) = match labels::series(&point.attributes, agent, source) {
            Ok(read) => read,
            Err(fault) => return self.fault = Some(fault.to_string()),
        };
        let path = [series.source.as_str(), series.target.as_str(), series.probe.as_str(), series.phase.as_str()];
        let sum = self.sums.entry(path.map(str::to_owned)).or_default();
        let standing = match series.standing {
            Standing::Regular => "regular",
            Standing::Confirming => "confirming",
            Standing::Suspect => "suspect",
        };
        let counted = sum.counted.entry(standing).or_default();
        match outcome {
            Outcome::Reply => {
                counted.replies += histogram.count();
                if series.standing == Standing::Regular {
                    sum.regular.merge(&histogram);
                }
            }
            Outcome::Failure(_) => counted.failures += histogram.count(),
        }
    }

    fn bad_point(&mut self, metric: &'a str, _: Cow<'a, [u8]>, fault: BadPoint) {
        self.fault = Some(format!("{metric}: {fault}"));
    }

    fn other(&mut self, _: &'a str) {}
}
