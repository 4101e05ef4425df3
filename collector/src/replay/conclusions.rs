//! What changes from mark to mark.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use telemetry::{RegionName, ServiceName, Wall};

use crate::alerts::{AlertId, AlertState, Severity};
use crate::cells::{self, CellKey};
use crate::entry::Entry;
use crate::hints::HintDocument;
use crate::policy::Policy;
use crate::regions::Health;
use crate::state::{Effect, State};

/// Something is otherwise than before.
#[derive(Debug, Clone, PartialEq)]
pub struct Conclusion {
    pub at: Wall,
    pub what: What,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum What {
    Cell {
        service: ServiceName,
        source: RegionName,
        region: RegionName,
        was: Option<cells::State>,
        state: cells::State,
    },
    Region {
        service: ServiceName,
        region: RegionName,
        was: Option<Health>,
        health: Health,
    },
    Alert {
        service: ServiceName,
        region: RegionName,
        state: AlertState,
        severity: Severity,
    },
    Hint {
        service: ServiceName,
        source: RegionName,
        was: Option<RegionName>,
        ranked: Vec<Place>,
        excluded: Vec<RegionName>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    pub region: RegionName,
    pub weight: u32,
}

/// How often.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub cells: u64,
    pub regions: u64,
    pub alerts_fired: u64,
    pub alerts_resolved: u64,
    /// Of hints.
    pub first_places: u64,
    pub versions: u64,
}

/// A state, and what of it was seen last.
pub(super) struct Watch {
    state: State,
    cells: BTreeMap<CellKey, cells::State>,
    regions: BTreeMap<(ServiceName, RegionName), Health>,
    alerts: BTreeMap<AlertId, (AlertState, Severity)>,
    hints: BTreeMap<(ServiceName, RegionName), (u64, Option<RegionName>)>,
}

impl Conclusion {
    /// Then and the same, whatever the reason.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (self.at, &self.what) == (other.at, &other.what)
    }
}

impl Watch {
    pub(super) fn new(policy: &Arc<Policy>, begin: Wall) -> Self {
        let mut state = State::default();
        drop(state.apply(&Entry::Config { at: begin, policy: Arc::clone(policy) }));
        let (cells, regions, alerts, hints) = Default::default();
        Self { state, cells, regions, alerts, hints }
    }

    /// Cells first, then regions, alerts and hints, each in the order of names.
    pub(super) fn apply(&mut self, entry: &Entry) -> Vec<Conclusion> {
        let effects = self.state.apply(entry);
        if !matches!(entry, Entry::Mark { .. }) {
            return Vec::new();
        }
        let mut told = Vec::new();
        self.look_at_cells(&mut told);
        self.look_at_regions(&mut told);
        self.look_at_alerts(&mut told);
        for effect in effects {
            if let Effect::Hint(document) = effect {
                self.look_at_hint(&document, &mut told);
            }
        }
        told
    }

    fn look_at_cells(&mut self, told: &mut Vec<Conclusion>) {
        for (key, cell) in self.state.cells.iter() {
            let was = self.cells.get(key).copied();
            if was == Some(cell.state) {
                continue;
            }
            self.cells.insert(key.clone(), cell.state);
            let CellKey { service, source, region } = key.clone();
            let what = What::Cell { service, source, region, was, state: cell.state };
            told.push(Conclusion { at: self.state.now, what, reason: cell.says() });
        }
    }

    fn look_at_regions(&mut self, told: &mut Vec<Conclusion>) {
        for (service, region, judged) in self.state.regions.iter() {
            let was = self.regions.insert((service.clone(), region.clone()), judged.health);
            if was != Some(judged.health) {
                let what =
                    What::Region { service: service.clone(), region: region.clone(), was, health: judged.health };
                told.push(Conclusion { at: self.state.now, what, reason: judged.to_string() });
            }
        }
    }

    /// One that is pending is not told: it may leave no trace.
    fn look_at_alerts(&mut self, told: &mut Vec<Conclusion>) {
        for alert in self.state.alerts.iter().filter(|alert| alert.state != AlertState::Pending) {
            let now = (alert.state, alert.notice.severity);
            if self.alerts.insert(alert.id, now) != Some(now) {
                let (service, region) = (alert.notice.service.clone(), alert.notice.region.clone());
                let what = What::Alert { service, region, state: alert.state, severity: alert.notice.severity };
                told.push(Conclusion { at: self.state.now, what, reason: alert.notice.finding.to_string() });
            }
        }
    }

    fn look_at_hint(&mut self, hint: &HintDocument, told: &mut Vec<Conclusion>) {
        let key = (hint.service.clone(), hint.source.clone());
        let first = hint.ranked.first().map(|first| first.region.clone());
        let before = self.hints.insert(key, (hint.version, first));
        if before.as_ref().is_some_and(|(version, _)| *version == hint.version) {
            return;
        }
        let ranked = hint.ranked.iter().map(|it| Place { region: it.region.clone(), weight: it.weight });
        let what = What::Hint {
            service: hint.service.clone(),
            source: hint.source.clone(),
            was: before.and_then(|(_, first)| first),
            ranked: ranked.collect(),
            excluded: hint.excluded.iter().map(|excluded| excluded.region.clone()).collect(),
        };
        let reason = hint.ranked.first().map(|first| first.reason.clone()).unwrap_or_default();
        told.push(Conclusion { at: self.state.now, what, reason });
    }
}

impl What {
    /// Of a hint whose first place is another than before.
    fn moves_first(&self) -> bool {
        matches!(self, Self::Hint { was, ranked, .. } if was.as_ref() != ranked.first().map(|first| &first.region))
    }
}

impl Tally {
    pub(super) fn count(&mut self, conclusion: &Conclusion) {
        let which = match conclusion.what {
            What::Cell { .. } => &mut self.cells,
            What::Region { .. } => &mut self.regions,
            What::Alert { state: AlertState::Resolved, .. } => &mut self.alerts_resolved,
            What::Alert { .. } => &mut self.alerts_fired,
            What::Hint { .. } => &mut self.versions,
        };
        *which += 1;
        self.first_places += u64::from(conclusion.what.moves_first());
    }

    /// By what people call them.
    pub fn rows(&self) -> [(&'static str, u64); 6] {
        [
            ("states of cells changed", self.cells),
            ("health of regions changed", self.regions),
            ("alerts fired, or got another severity", self.alerts_fired),
            ("alerts resolved", self.alerts_resolved),
            ("versions of hints", self.versions),
            ("of these with another first place", self.first_places),
        ]
    }
}

/// One line, without the time and the reason.
impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cell { service, source, region, was, state } => {
                write!(f, "cell    {service} {source} to {region}: ")?;
                was.iter().try_for_each(|was| write!(f, "{was} → "))?;
                write!(f, "{state}")
            }
            Self::Region { service, region, was, health } => {
                write!(f, "region  {service} in {region}: ")?;
                was.iter().try_for_each(|was| write!(f, "{} → ", health_word(*was)))?;
                write!(f, "{}", health_word(*health))
            }
            Self::Alert { service, region, state, severity } => {
                write!(f, "alert   {service} in {region}: {}, {}", state.as_str(), severity.as_str())
            }
            Self::Hint { service, source, was, ranked, excluded } => {
                write!(f, "hint    {service} from {source}:")?;
                ranked.iter().try_for_each(|place| write!(f, " {} {}", place.region, place.weight))?;
                if let Some(was) = was.as_ref().filter(|_| self.moves_first()) {
                    write!(f, ", first was {was}")?;
                }
                if excluded.is_empty() {
                    return Ok(());
                }
                write!(f, ", without")?;
                excluded.iter().try_for_each(|region| write!(f, " {region}"))
            }
        }
    }
}

fn health_word(health: Health) -> &'static str {
    match health {
        Health::Healthy => "healthy",
        Health::Degraded => "degraded",
        Health::Down => "down",
        Health::Unknown => "unknown",
    }
}
