//! The probe agent: what it is told to measure becomes windows, and windows become batches at the collector.
//!
//! ```text
//! config → plan → schedule → probe → record → batch → spool → push
//!                 └───────── pacer ────────┘
//! ```
//! The `pacer` thread owns the clock and the voice sockets; every other probe runs as a task and reports back to it. The
//! `batch` thread folds and encodes, so that neither disturbs what the pacer measures. `push` is a task.

pub mod batch;
pub mod config;
pub mod confirm;
pub mod cron;
pub mod endpoint;
pub mod flights;
pub mod meters;
pub mod names;
pub mod now;
pub mod pacer;
pub mod pipeline;
pub mod plan;
pub mod ports;
pub mod probe;
pub mod push;
pub mod record;
pub mod reflect;
pub mod samples;
pub mod schedule;
pub mod spool;
pub mod trains;
pub mod trial;
pub mod wellness;

pub use config::Config;
