//! What both binaries stand on: named tasks and their drain, the clock, waits that end on time, configuration with every
//! fault reported, logs, and telemetry of our own.

pub mod clock;
pub mod config;
pub mod datagram;
pub mod logs;
pub mod meters;
pub mod own;
pub mod tasks;
pub mod timer;

pub use clock::{Clock, Mono, Wall};
pub use tasks::{Shutdown, Tasks, run};
