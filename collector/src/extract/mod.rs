//! What was measured in a range, for other tools: written as it is read, whatever the range, in bounded memory.
//!
//! | format | what it is | what is lost |
//! |---|---|---|
//! | `otlp` | OTLP in JSON, a request a line, as the OpenTelemetry Collector's `file` exporter writes and `otlpjsonfile` reads: exponential histograms, delta | nothing that history has |
//! | `prometheus` | `OpenMetrics` text with times, as `promtool tsdb create-blocks-from openmetrics` reads: classic histograms, cumulative | quantiles are within half an octave |

mod openmetrics;
mod otlp;

use std::io::{self, Write};
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use telemetry::Wall;
use utoipa::ToSchema;

use crate::history::{History, StoreError, Tier};

/// What is told without a `from`.
pub const USUAL: Duration = Duration::from_hours(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Otlp,
    Prometheus,
}

/// Of windows that begin in the range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extract {
    pub format: Format,
    pub range: Range<Wall>,
    pub tier: Tier,
    /// Of windows as they came.
    width: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("from {} to {}: the range ends before it begins", .0.start, .0.end)]
    Backwards(Range<Wall>),
    #[error("tier: found \"{tier}\", of which all is kept from {kept} on, and not from {from}; allowed: {allowed}", tier = .tier.as_str())]
    Gone { tier: Tier, from: Wall, kept: Wall, allowed: String },
}

#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("write: {0}")]
    Write(#[from] io::Error),
    #[error("encode: {0}")]
    Encode(serde_json::Error),
}

/// A moment as it is asked for: RFC 3339, or seconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(pub Wall);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("allowed: RFC 3339, such as \"2026-11-24T18:00:00Z\", or seconds since the epoch")]
pub struct NoMoment;

impl Extract {
    /// Without a tier, the finest that still has all of the range.
    pub fn new(
        history: &History,
        format: Format,
        range: Range<Wall>,
        tier: Option<Tier>,
        width: Duration,
    ) -> Result<Result<Self, Refused>, StoreError> {
        if range.end < range.start {
            return Ok(Err(Refused::Backwards(range)));
        }
        let mut whole = Vec::new();
        for tier in Tier::ALL {
            // There is nothing coarser to tell what is older than everything.
            if tier == Tier::Hour || history.kept(tier)? <= range.start {
                whole.push(tier);
            }
        }
        if let Some(tier) = tier.filter(|tier| !whole.contains(tier)) {
            let allowed: Vec<_> = whole.into_iter().map(|tier| format!("\"{}\"", tier.as_str())).collect();
            let (from, kept) = (range.start, history.kept(tier)?);
            return Ok(Err(Refused::Gone { tier, from, kept, allowed: allowed.join(", ") }));
        }
        let tier = tier.or(whole.first().copied()).unwrap_or(Tier::Hour);
        Ok(Ok(Self { format, range, tier, width }))
    }

    pub fn write(&self, history: &History, out: &mut impl Write) -> Result<(), ExtractError> {
        match self.format {
            Format::Otlp => otlp::write(self, history, out)?,
            Format::Prometheus => openmetrics::write(self, history, out)?,
        }
        Ok(out.flush()?)
    }

    /// Of one window.
    fn width(&self) -> Duration {
        self.tier.width().unwrap_or(self.width)
    }
}

/// Most of what goes wrong while something is encoded goes wrong where it is written.
impl From<serde_json::Error> for ExtractError {
    fn from(error: serde_json::Error) -> Self {
        if error.is_io() { Self::Write(error.into()) } else { Self::Encode(error) }
    }
}

impl Format {
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Otlp => "application/jsonl",
            Self::Prometheus => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Otlp => "otlp",
            Self::Prometheus => "prometheus",
        }
    }
}

impl FromStr for Format {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let format = [Self::Otlp, Self::Prometheus].into_iter().find(|format| format.as_str() == text);
        format.ok_or("allowed: \"otlp\", \"prometheus\"")
    }
}

impl FromStr for Tier {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let tier = Self::ALL.into_iter().find(|tier| tier.as_str() == text);
        tier.ok_or("allowed: \"raw\", \"minute\", \"hour\"")
    }
}

impl FromStr for Moment {
    type Err = NoMoment;

    fn from_str(text: &str) -> Result<Self, NoMoment> {
        let moment = match text.parse::<f64>().ok().map(Duration::try_from_secs_f64) {
            Some(since) => since.ok().map(|since| Wall::default() + since),
            None => text.parse().ok(),
        };
        moment.map(Self).ok_or(NoMoment)
    }
}
