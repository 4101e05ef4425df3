//! The agent whose async runtime is blocked for 5 ms in every 50, beside one whose runtime is free: its datagrams do not
//! pass through the runtime, so their round trips should not show it. The blocked one is an example program of the agent's,
//! which is the agent and a task that blocks.

use std::time::Duration;

use super::super::agent::{Agent, Plan};
use super::super::arena::Arena;
use super::super::table::{Goal, Line};
use super::{addresses, udp};

const KINDS: [&str; 2] = ["stamp rtt", "icmp rtt"];

pub(super) fn compare(arena: &Arena) -> anyhow::Result<Vec<Line>> {
    let reflector = udp::reflector(arena)?;
    let free = p999(arena, "0ms")?;
    let blocked = p999(arena, "5ms")?;
    reflector.stop()?;
    let line = |((what, blocked), free): ((&str, f64), f64)| {
        let what = format!("{what}, p99.9 µs, runtime blocked 5 ms in 50");
        Line::new(what, blocked, ("not blocked", free), Goal::More(200.0))
    };
    Ok(KINDS.into_iter().zip(blocked).zip(free).map(line).collect())
}

fn p999(arena: &Arena, block: &str) -> anyhow::Result<[f64; 2]> {
    let plan = udp::stamped(Plan::default(), 5).add(addresses(5), "kind = \"icmp\"", Duration::from_millis(10));
    let program = arena.programs.join("examples/blocked_agent");
    let agent = Agent::start_as(arena, &program, &["--block", block, "--every", "50ms"], &plan)?;
    let told = agent.measure(arena.watch, 0.001)?.told;
    Ok([told.quantile_us(KINDS[0], 0.999)?, told.quantile_us(KINDS[1], 0.999)?])
}
