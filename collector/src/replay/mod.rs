//! What was measured is concluded again, by the functions of today: what was concluded then, and what would have been under another
//! configuration.
//!
//! Same data, same program, same answer, to the byte: no clock is read, and what is told follows from entries alone.
//!
//! # What is folded
//! A warm-up before the range, then the range. What the log still holds is folded as it came: its batches and its marks. What is older comes from
//! history: each window that was stored becomes a point, all points of a slot one batch without a name, which comes when the slot ends,
//! and between slots there is a mark a second.
//!
//! # What it cannot see
//! - **When something came.** A part of a slot that was sent early, as bad news is, counts at the slot's end: what is found within a
//!   slot is found up to a window later. What came late, out of an agent's spool, counts as if it had come in time.
//! - **In which order** the outcomes of a slot came, and confirming ones among them.
//! - **What is not in windows:** ports that lose, certificates, what agents said of themselves, who was told of an alert.
//! - **Configurations before the last one.** All of it is judged by the one that was adopted last, or by another that is given.
//! - **What was before the warm-up.** A first place that stood for days has stood since then, and a path's week begins then: it is compared with its
//!   last quarter of an hour until it has three looks.

mod conclusions;
mod feed;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use telemetry::Wall;

pub use conclusions::{Conclusion, Tally, What};

use crate::entry::Entry;
use crate::history::{StoreError, Tier};
use crate::log::LogError;
use crate::policy::Policy;
use crate::stopped::Stopped;
use conclusions::Watch;

/// Longer than rings are kept and than a first place must stand.
pub const WARM_UP: Duration = Duration::from_mins(30);

/// Under which configuration something was concluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Under {
    /// The one that was adopted last, and, where one is given, the other too.
    Both,
    Recorded,
    Other,
}

/// What is folded, and by what it is judged.
#[derive(Debug)]
pub struct Replay<'a> {
    stopped: &'a Stopped,
    range: Range<Wall>,
    recorded: Arc<Policy>,
    other: Option<Arc<Policy>>,
}

/// What was concluded in the range under each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub recorded: Tally,
    pub other: Option<Tally>,
}

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("from {} to {}: the range ends before it begins", .0.start, .0.end)]
    Backwards(Range<Wall>),
    #[error("from {from}: windows as they came are all kept from {kept} on, and minutes and hours cannot be judged by")]
    Gone { from: Wall, kept: Wall },
    #[error("no configuration was ever adopted here: nothing was judged")]
    Unjudged,
    #[error(transparent)]
    History(#[from] StoreError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("write: {0}")]
    Write(#[from] std::io::Error),
}

/// Right behind the last mark.
pub fn end(stopped: &Stopped) -> Wall {
    stopped.concluded.state().now + Duration::from_nanos(1)
}

impl<'a> Replay<'a> {
    pub fn new(stopped: &'a Stopped, range: Range<Wall>, other: Option<Policy>) -> Result<Self, ReplayError> {
        if range.end < range.start {
            return Err(ReplayError::Backwards(range));
        }
        let kept = stopped.history.kept(Tier::Raw)?;
        if range.start < kept {
            return Err(ReplayError::Gone { from: range.start, kept });
        }
        let recorded = stopped.concluded.state().policy.clone().ok_or(ReplayError::Unjudged)?;
        let other = other.map(|policy| Arc::new(untold(policy)));
        Ok(Self { stopped, range, recorded: Arc::new(untold(Policy::clone(&recorded))), other })
    }

    /// Tells each conclusion of the range, in the order of time.
    pub fn run(
        &self,
        mut tell: impl FnMut(Under, &Conclusion) -> Result<(), ReplayError>,
    ) -> Result<Summary, ReplayError> {
        let begin = (self.range.start - WARM_UP).max(self.stopped.history.kept(Tier::Raw)?);
        let mut recorded = Watch::new(&self.recorded, begin);
        let mut other = self.other.as_ref().map(|policy| Watch::new(policy, begin));
        let mut summary = Summary { other: other.as_ref().map(|_| Tally::default()), ..Summary::default() };
        feed::feed(self.stopped, begin..self.range.end, self.recorded.window, |entry: &Entry| {
            let ours = recorded.apply(entry);
            let theirs = other.as_mut().map(|other| other.apply(entry));
            let in_range = |conclusion: &Conclusion| self.range.contains(&conclusion.at);
            let ours: Vec<_> = ours.into_iter().filter(in_range).collect();
            for conclusion in &ours {
                summary.recorded.count(conclusion);
            }
            let Some(theirs) = theirs else {
                return ours.iter().try_for_each(|conclusion| tell(Under::Recorded, conclusion));
            };
            let mut theirs: Vec<_> = theirs.into_iter().filter(in_range).collect();
            if let Some(tally) = &mut summary.other {
                for conclusion in &theirs {
                    tally.count(conclusion);
                }
            }
            for conclusion in &ours {
                let same = theirs.iter().position(|theirs| theirs.is_same(conclusion));
                let under = same.map_or(Under::Recorded, |same| {
                    theirs.remove(same);
                    Under::Both
                });
                tell(under, conclusion)?;
            }
            theirs.iter().try_for_each(|conclusion| tell(Under::Other, conclusion))
        })?;
        Ok(summary)
    }
}

/// Nobody is told of what is concluded again.
fn untold(policy: Policy) -> Policy {
    Policy { receivers: std::collections::BTreeMap::new(), ..policy }
}
