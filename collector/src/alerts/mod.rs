//! Alerts: what is wrong with the health of a region, from when it is believed until it is over, and who was told.
//!
//! An alert is about one service in one configured region. It is pending while a degraded region may be on its way down or
//! back, fires, and is resolved when the region is healthy again or is not configured any more. Unknown is not healthy: an
//! alert about a region of which nothing is known goes on. While it fires, its severity may change: everyone is told, under
//! the same alert. Whoever was told of an alert is told of its end.

pub mod alertmanager;
mod notice;
mod outbox;
mod retry;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use telemetry::{ReceiverName, RegionName, ServiceName, Wall};
use utoipa::ToSchema;

pub use notice::{Finding, Notice, Severity};
pub use outbox::{Lane, Outbox, Outcome, Row, RowState, Why};

use crate::policy::Policy;
use crate::regions::{Health, RegionHealth};

/// Degraded is told when it has lasted so long, since a region may pass through it on its way down; and when it has lasted
/// longer where the region was down, since each passes through it on its way back. Down is told at once.
const DEGRADED_FOR: Duration = Duration::from_secs(5);
const BETTER_FOR: Duration = Duration::from_mins(1);
/// So many that are over are kept to be looked at.
const RESOLVED_KEPT: usize = 256;

/// The alerts of a log are counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AlertId(pub u64);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Alert {
    pub id: AlertId,
    pub state: AlertState,
    /// As it stands: `severity` is what was told last.
    pub notice: Notice,
    told: BTreeMap<ReceiverName, Severity>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    Pending,
    Firing,
    Resolved,
}

/// The health of a service in a region.
type Judged<'a> = (&'a ServiceName, &'a RegionName, &'a RegionHealth);

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Alerts {
    open: BTreeMap<(ServiceName, RegionName), Alert>,
    /// The newest last.
    resolved: VecDeque<Alert>,
    opened: u64,
    pub outbox: Outbox,
}

impl Alerts {
    /// Follows the health of every configured region. Whether someone is to be told.
    pub fn judge<'a>(&mut self, regions: impl Iterator<Item = Judged<'a>>, policy: &Policy, now: Wall) -> bool {
        let written = self.outbox.written();
        let configured: BTreeSet<_> = policy.targets.values().map(|target| (&target.service, &target.region)).collect();
        for (service, region, health) in
            regions.filter(|(service, region, _)| configured.contains(&(*service, *region)))
        {
            self.consider((service.clone(), region.clone()), health, now);
        }
        let gone = |(service, region): &&(ServiceName, RegionName)| !configured.contains(&(service, region));
        for key in self.open.keys().filter(gone).cloned().collect::<Vec<_>>() {
            self.end(&key, Finding::Removed, now);
        }
        for alert in self.open.values_mut().filter(|alert| alert.state == AlertState::Firing) {
            alert.tell(policy.receivers.keys(), &mut self.outbox, now);
        }
        written != self.outbox.written()
    }

    /// Takes note of who hears alerts from now on.
    pub fn adopt(&mut self, policy: &Policy) {
        let knows = |name: &ReceiverName| {
            policy.receivers.get(name).is_some_and(|receiver| !self.outbox.begins_anew(name, receiver))
        };
        for alert in self.open.values_mut() {
            alert.told.retain(|name, _| knows(name));
        }
        self.outbox.adopt(&policy.receivers);
    }

    /// Those that are not over, then those that are, the newest of them first.
    pub fn iter(&self) -> impl Iterator<Item = &Alert> {
        self.open.values().chain(self.resolved.iter().rev())
    }

    fn consider(&mut self, key: (ServiceName, RegionName), health: &RegionHealth, now: Wall) {
        let severity = match health.health {
            Health::Healthy => return self.end(&key, Finding::Recovered(health.clone()), now),
            Health::Unknown => {
                self.open.retain(|open, alert| *open != key || alert.state == AlertState::Firing);
                return;
            }
            Health::Degraded => Severity::Warning,
            Health::Down => Severity::Critical,
        };
        let finding = Finding::Unwell(health.clone());
        let alert = self.open.entry(key).or_insert_with_key(|(service, region)| {
            self.opened += 1;
            let (service, region, finding) = (service.clone(), region.clone(), finding.clone());
            Alert {
                id: AlertId(self.opened),
                state: AlertState::Pending,
                notice: Notice { service, region, severity, finding, since: health.since, ended: None },
                told: BTreeMap::new(),
            }
        });
        alert.notice.finding = finding;
        let lasts = match (severity, alert.notice.severity) {
            (Severity::Critical, _) => Duration::ZERO,
            (Severity::Warning, Severity::Critical) => BETTER_FOR,
            (Severity::Warning, Severity::Warning) => DEGRADED_FOR,
        };
        if now.since(health.since) >= lasts {
            alert.state = AlertState::Firing;
            alert.notice.severity = severity;
        }
    }

    /// One that never fired leaves no trace.
    fn end(&mut self, key: &(ServiceName, RegionName), finding: Finding, now: Wall) {
        let Some(mut alert) = self.open.remove(key).filter(|alert| alert.state == AlertState::Firing) else { return };
        alert.state = AlertState::Resolved;
        alert.notice = Notice { finding, ended: Some(now), ..alert.notice };
        for receiver in alert.told.keys() {
            self.outbox.write(receiver, alert.id, &alert.notice, now);
        }
        self.resolved.push_back(alert);
        self.resolved.drain(..self.resolved.len().saturating_sub(RESOLVED_KEPT));
    }
}

impl Alert {
    /// Whoever does not know its severity yet.
    fn tell<'a>(&mut self, receivers: impl Iterator<Item = &'a ReceiverName>, outbox: &mut Outbox, now: Wall) {
        let severity = self.notice.severity;
        for receiver in receivers {
            if self.told.insert(receiver.clone(), severity) != Some(severity) {
                outbox.write(receiver, self.id, &self.notice, now);
            }
        }
    }
}

impl AlertId {
    /// As outsiders see it: no other log has the same.
    pub fn name(self, epoch: Wall) -> String {
        format!("alert_{:x}_{}", epoch.0, self.0)
    }
}

impl AlertState {
    pub const ALL: [Self; 3] = [Self::Pending, Self::Firing, Self::Resolved];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}
