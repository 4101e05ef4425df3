//! What agents handed over and what the collector acknowledged, written down between them; and what it must show for that.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use serde_json::Value;
use telemetry::histogram::Histogram;
use telemetry::otlp::walk::{self, BadPoint, Point, Visitor, walk};
use telemetry::otlp::{AGENT_SPOOL_GAP, PROBE_DURATION, labels};
use telemetry::{AgentId, Gap, Outcome, RegionName, Standing};

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
    /// Every answer that was no acknowledgement.
    pub refusals: Vec<Refusal>,
    /// Those whose bytes changed under their name.
    altered: Vec<Name>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub retry_after_s: Option<u64>,
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

    /// What agents said they have lost, by boot: the sequences from one to another.
    pub fn gaps(&self) -> anyhow::Result<BTreeSet<Gap>> {
        let mut gaps = BTreeSet::new();
        for Batch { body, .. } in self.batches.values().filter(|batch| batch.acknowledged) {
            gaps.extend(read(&mut BTreeMap::new(), body)?);
        }
        Ok(gaps)
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

    /// What every acknowledged batch holds, once, by path and standing.
    pub fn counted(&self) -> anyhow::Result<BTreeMap<Path, BTreeMap<&'static str, Counted>>> {
        Ok(self.sums()?.into_iter().map(|(path, sum)| (path, sum.counted)).collect())
    }

    fn sums(&self) -> anyhow::Result<BTreeMap<Path, Sum>> {
        let mut sums = BTreeMap::new();
        for Batch { body, .. } in self.batches.values().filter(|batch| batch.acknowledged) {
            read(&mut sums, body)?;
        }
        Ok(sums)
    }

    /// Every acknowledged batch, once, against what `/api/v1/paths` shows of all time.
    pub fn faults(&self, paths: &Value) -> anyhow::Result<Faults> {
        let mut sums = self.sums()?;
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

/// Adds a batch to the sums; answers the gaps that it tells of.
fn read(sums: &mut BTreeMap<Path, Sum>, body: &[u8]) -> anyhow::Result<Vec<Gap>> {
    let body = zstd::decode_all(body).context("inflate a batch")?;
    let mut reading = Reading { sums, sender: None, gaps: Vec::new(), fault: None };
    walk(&body, &mut reading).context("read a batch")?;
    reading.fault.map_or(Ok(reading.gaps), |fault| anyhow::bail!(fault))
}

/// One batch.
struct Reading<'s> {
    sums: &'s mut BTreeMap<Path, Sum>,
    sender: Option<(AgentId, RegionName)>,
    gaps: Vec<Gap>,
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
        if point.metric == AGENT_SPOOL_GAP {
            match labels::gap(&point.attributes) {
                Ok(gap) => self.gaps.push(gap),
                Err(fault) => self.fault = Some(fault.to_string()),
            }
        }
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
