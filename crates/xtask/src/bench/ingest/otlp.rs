//! For our collector: what an agent sends, named as an agent names it.

use std::time::SystemTime;

use anyhow::Context as _;
use telemetry::otlp::build::{AgentHealth, Measured, encode};
use telemetry::otlp::{HEADER_AGENT, HEADER_BOOT, HEADER_SEQUENCE};
use telemetry::{Boot, Outcome, Wall, Window};

use super::fleet::{Agent, WIDTH};
use super::load::Batch;

/// Our agents'.
const ZSTD_LEVEL: i32 = 3;

pub(super) fn batches(agent: &Agent, first: Wall) -> anyhow::Result<Vec<Batch>> {
    agent.seen.iter().enumerate().map(|(window, _)| batch(agent, first, window)).collect()
}

fn batch(agent: &Agent, first: Wall, window: usize) -> anyhow::Result<Batch> {
    let begin = first + WIDTH * window as u32;
    let measured = agent.subjects.iter().zip(&agent.seen[window]).map(|(subject, seen)| {
        let outcomes = [(Outcome::Reply, seen.histogram.clone())].into();
        Measured { subject: subject.clone(), window: Window { begin, end: begin + WIDTH, outcomes } }
    });
    // What it says of itself is of now: its clock is right.
    let now = Wall::from(SystemTime::now());
    let health = AgentHealth { begin: now, end: now, ..AgentHealth::default() };
    let body = encode(&agent.sender, &measured.collect::<Vec<_>>(), &health);
    let headers = vec![
        ("content-type", "application/x-protobuf".to_owned()),
        ("content-encoding", "zstd".to_owned()),
        (HEADER_AGENT, agent.sender.agent.to_string()),
        (HEADER_BOOT, Boot(1).to_string()),
        (HEADER_SEQUENCE, (window + 1).to_string()),
    ];
    Ok(Batch { headers, body: zstd::bulk::compress(&body, ZSTD_LEVEL).context("compress a batch")? })
}
