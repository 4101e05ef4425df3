//! The widths in which history is kept: windows as they came, minutes, hours.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::key::Hour;

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: u32 = 24;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    Raw,
    Minute,
    Hour,
}

impl Tier {
    pub const ALL: [Self; 3] = [Self::Raw, Self::Minute, Self::Hour];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Minute => "minute",
            Self::Hour => "hour",
        }
    }

    /// Of its windows; `None`: as they came.
    pub fn width(self) -> Option<Duration> {
        match self {
            Self::Raw => None,
            Self::Minute => Some(MINUTE),
            Self::Hour => Some(HOUR),
        }
    }

    /// How many hours share a key space: few enough to keep no more than was asked for, and few key spaces of any tier.
    pub(super) fn span(self) -> u32 {
        match self {
            Self::Raw | Self::Minute => DAY,
            Self::Hour => 30 * DAY,
        }
    }

    pub(super) fn period(self, hour: Hour) -> u32 {
        hour.0 / self.span()
    }

    /// The first hour that is not in the period any more.
    pub(super) fn end(self, period: u32) -> Hour {
        Hour((period + 1).saturating_mul(self.span()))
    }

    /// The coarsest of which such a step is made.
    pub fn of_step(step: Duration) -> Self {
        let whole = |of: Duration| step.as_nanos().is_multiple_of(of.as_nanos());
        if whole(HOUR) {
            Self::Hour
        } else if whole(MINUTE) {
            Self::Minute
        } else {
            Self::Raw
        }
    }
}
