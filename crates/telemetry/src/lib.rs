//! What agents and collector both speak: names, time, histograms, windows, and their form on the wire (OTLP).
//!
//! Pure: no clock is read, nothing is sent. Agent and collector share this crate and nothing of each other.

pub mod emodel;
pub mod geo;
pub mod histogram;
pub mod names;
pub mod otlp;
#[doc(hidden)]
pub mod sample;
pub mod series;
pub mod time;
pub mod window;

pub use histogram::Histogram;
pub use names::{AgentId, InvalidName, Name, ReceiverName, RegionName, ServiceName, TargetId};
pub use series::{Boot, Family, Gap, Label, LabelValue, Labels, Origin, PathId, Sequence, Series, Standing};
pub use time::{Mono, UnixSeconds, Wall};
pub use window::{FailureKind, Outcome, Window};
