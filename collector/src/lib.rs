//! The collector: takes what agents measured, keeps it in one ordered log, and folds the log into conclusions.
//!
//! Start at [`state`]: `State`, `Entry` and `Effect` are the whole program; the rest carries bytes to and from them.

pub mod addresses;
pub mod admission;
pub mod agents;
pub mod alerts;
pub mod api;
pub mod baselines;
pub mod bodies;
pub mod cells;
pub mod certificates;
pub mod clocks;
pub mod config;
pub mod core;
pub mod decode;
pub mod deliver;
pub mod diagnosis;
pub mod entry;
pub mod evidence;
pub mod export;
pub mod grpc;
pub mod hints;
pub mod history;
pub mod ingest;
pub mod jobs;
pub mod json;
pub mod log;
pub mod log_clock;
pub mod marks;
pub mod meters;
pub mod policy;
pub mod problem;
pub mod receiver;
pub mod regions;
pub mod retention;
pub mod rings;
pub mod sequences;
pub mod server;
pub mod signature;
pub mod slowness;
pub mod snapshot;
pub mod state;
pub mod unpack;
