//! What is said of an alert, whoever is told and in whatever form.

use std::fmt;

use serde::{Deserialize, Serialize};
use telemetry::{RegionName, ServiceName, Wall};
use utoipa::ToSchema;

use crate::regions::{Health, RegionHealth};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    pub service: ServiceName,
    pub region: RegionName,
    pub severity: Severity,
    pub finding: Finding,
    /// When it began.
    pub since: Wall,
    /// When it was over, if it is.
    pub ended: Option<Wall>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Degraded.
    Warning,
    /// Down.
    Critical,
}

/// Why it is said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Finding {
    Unwell(RegionHealth),
    Recovered(RegionHealth),
    /// Nobody looks at this region any more.
    Removed,
}

impl Notice {
    /// `voice in fra is down`.
    pub fn summary(&self) -> String {
        let Self { service, region, finding, .. } = self;
        let says = match finding {
            Finding::Unwell(RegionHealth { health: Health::Down, .. }) => "is down",
            Finding::Unwell(_) => "is degraded",
            Finding::Recovered(_) => "is healthy again",
            Finding::Removed => "is not watched any more",
        };
        format!("{service} in {region} {says}")
    }
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl Finding {
    /// The share of the sources that see it badly.
    pub fn bad_share(&self) -> Option<f64> {
        match self {
            Self::Unwell(health) | Self::Recovered(health) if health.eligible > 0 => {
                Some(health.bad as f64 / health.eligible as f64)
            }
            _ => None,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unwell(health) | Self::Recovered(health) => health.fmt(f),
            Self::Removed => write!(f, "no target of the service is configured there any more"),
        }
    }
}
