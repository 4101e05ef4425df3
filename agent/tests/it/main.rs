//! The agent from outside: its files, its words to the collector, and the whole of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod by_hand;
mod collector;
mod commands;
mod config;
mod coturn;
mod cron;
mod end_to_end;
mod hostile;
mod hostile_icmp;
mod ipv6;
#[path = "../../src/names/server.rs"]
mod name_server;
mod names;
mod nginx;
mod own;
mod push;
mod server;
mod spool;
mod terminal;
