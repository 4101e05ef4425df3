//! The real binaries, started and watched: for the end-to-end tests and for the demo.

pub mod answers;
mod clock;
pub mod crash;
pub mod http;
pub mod json;
pub mod ledger;
mod process;
pub mod relay;
mod tamper;
pub mod witnessed;
mod world;

use std::thread;
use std::time::{Duration, Instant};

pub use clock::ShiftedClock;
pub use process::{Binary, Namespace, Process};
pub use tamper::Tamper;
pub use world::{Clocks, Mode, Planet, World, WorldOptions};

/// Tries again until there is an answer or the deadline has passed.
pub fn until<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        anyhow::ensure!(begin.elapsed() < deadline, "{what}: not within {deadline:?}");
        thread::sleep(Duration::from_millis(20));
    }
}
