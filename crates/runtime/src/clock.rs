//! The one place where time is read. Everything else is handed `Mono` and `Wall`.

#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "this is the clock")]

use std::time::{Instant, SystemTime};

pub use telemetry::time::{Mono, Wall};

/// A monotonic origin and the machine's wall clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    pub fn mono(&self) -> Mono {
        Mono(telemetry::time::nanos(self.origin.elapsed()))
    }

    pub fn wall(&self) -> Wall {
        SystemTime::now().into()
    }
}
