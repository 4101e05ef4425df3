//! How long history is kept, and how much of it.

use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    pub raw: Duration,
    pub minute: Duration,
    pub hour: Duration,
    /// Beyond it the oldest of the finest tier goes first.
    pub max_bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        let days = |days: u64| Duration::from_hours(24 * days);
        Self { raw: days(2), minute: days(14), hour: days(400), max_bytes: 100 << 30 }
    }
}
