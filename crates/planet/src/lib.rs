//! A planet to test on: regions with real endpoints, delays and losses by a seed, faults on request, and the truth about all
//! of it. It simulates the network, never our software.
//!
//! On loopback each region has an address in 127.0.0.0/8, and an endpoint delays its answer by who asks. What the kernel
//! answers for us, ICMP and TCP handshakes, comes undelayed. One thread draws and times everything (`driver`); packets come to
//! it as they are, streams are served by tasks (`streams`) that ask it for their waits (`crossing`).
//!
//! As a router it has a network namespace for each region (`network`), and every packet goes through one more thread (`router`),
//! which delays and loses it (`ways`). Endpoints then answer at once.

pub mod authority;
pub mod cdn;
pub mod control;
pub mod counts;
pub mod crossing;
pub mod delay;
pub mod driver;
pub mod endpoints;
pub mod faults;
pub mod files;
pub mod gateway;
pub mod handshakes;
pub mod lateness;
pub mod loss;
pub mod model;
pub mod namespace;
pub mod network;
pub mod packet;
pub mod places;
pub mod queue;
pub mod ready;
pub mod relay;
pub mod router;
pub mod seed;
pub mod site;
pub mod streams;
pub mod truth;
pub mod visit;
pub mod ways;
pub mod world;

pub use model::{Mode, Planet, RegionNo, Source, TargetNo};
pub use seed::Seed;
