//! A batch's whole way, from an agent's spool to the collector's state, under one seed and one simulated clock.
//!
//! What is simulated is what surrounds us: disks that lose power and fail, a network that loses, doubles and delays, processes
//! that die, time. Everything between is the product: the spool on its journal, batches and their names, what push does next,
//! the log on its engine, the fold and its snapshots. There is one thread and no clock but the simulated one, so a seed is a whole life,
//! the same each time: [`run`] twice gives the same trace.
//!
//! What must hold is looked at after every step of the collector and when all is healed and drained; see `ledger`.

mod agent;
mod collector;
mod events;
mod ledger;
mod network;
pub mod outage;
mod strikes;
mod trace;
mod world;

pub use world::{Life, run};
