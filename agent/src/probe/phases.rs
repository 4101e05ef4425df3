//! The phases of a probe, one after the other, under one timeout. What fails at a phase fails at each phase that was to come
//! after it as well, and in the same way: the last phase says whether the probe got what it went for.

use std::collections::VecDeque;
use std::time::Duration;

use runtime::{Clock, Mono};
use telemetry::{FailureKind, Label, Labels, Outcome, UnixSeconds};

use super::{Order, Report, Sample, SendFault};
use crate::plan::Aspect;

/// Why a phase did not end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// What the target or the way to it did.
    Failure(FailureKind),
    Ours(SendFault),
}

#[derive(Debug)]
pub struct Phases {
    clock: Clock,
    begun: Mono,
    /// When the phase before ended.
    since: Mono,
    ahead: VecDeque<&'static str>,
    labels: Labels,
    not_after: Option<UnixSeconds>,
    samples: Vec<Sample>,
}

/// Carries a probe through its phases. What it learns before the timeout is kept.
pub async fn carry_through(
    order: Order,
    ahead: impl IntoIterator<Item = &'static str>,
    clock: Clock,
    probe: impl AsyncFnOnce(&mut Phases) -> Result<(), Fault>,
) -> Report {
    let Order { token, timeout, .. } = order;
    let now = clock.mono();
    let ahead = ahead.into_iter().collect();
    let (labels, samples) = (Labels::new(), Vec::new());
    let mut phases = Phases { clock, begun: now, since: now, ahead, labels, not_after: None, samples };
    match tokio::time::timeout(timeout, probe(&mut phases)).await {
        Ok(Ok(())) => {}
        Ok(Err(Fault::Failure(kind))) => phases.fail(kind, Duration::ZERO),
        Ok(Err(Fault::Ours(fault))) => return Report::NotSent { token, fault },
        Err(_) => phases.fail(FailureKind::Timeout, timeout),
    }
    let Phases { samples, not_after, .. } = phases;
    Report::Phased { token, samples, not_after }
}

impl Phases {
    /// The phase that was under way has ended well.
    pub fn passed(&mut self) {
        let now = self.clock.mono();
        if let Some(phase) = self.ahead.pop_front() {
            self.add(phase, Outcome::Reply, now.since(self.since));
        }
        self.since = now;
    }

    /// From here on, what was learned is told of each phase.
    pub fn learn(&mut self, label: Label, value: &str) {
        if let Ok(value) = value.parse() {
            self.labels.insert(label, value);
        }
    }

    /// The server's certificates are good until then.
    pub fn certified(&mut self, not_after: Option<UnixSeconds>) {
        self.not_after = not_after;
    }

    fn fail(&mut self, kind: FailureKind, at_least: Duration) {
        let after = self.clock.mono().since(self.begun).max(at_least);
        while let Some(phase) = self.ahead.pop_front() {
            self.add(phase, Outcome::Failure(kind), after);
        }
    }

    fn add(&mut self, phase: &'static str, outcome: Outcome, duration: Duration) {
        let aspect = Aspect { phase, labels: self.labels.clone() };
        self.samples.push(Sample { aspect, outcome, duration });
    }
}
