//! The collector from outside: what it concludes, what it takes, what it refuses.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

mod backup;
mod bounds;
mod certificates;
mod clocks;
mod config;
mod delivery;
mod disk;
mod door;
mod engines;
mod export;
mod extract;
mod history;
mod http;
mod openapi;
mod otlp;
mod overload;
mod own;
mod prometheus;
mod replay;
mod scenarios;
mod schema;
