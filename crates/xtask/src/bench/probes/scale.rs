//! Many series from one agent, and one target of many that never answers. Lateness is the agent's own account of how long
//! after it was due each probe was sent.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::Context as _;

use super::super::agent::{Agent, Measured, Plan};
use super::super::arena::Arena;
use super::super::table::{Goal, Line};
use super::{addresses, web};

const SECOND: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_secs(10);
const MANY: usize = 10_000;
const AMONG: usize = 1000;

pub(super) fn grow(arena: &Arena) -> anyhow::Result<Vec<Line>> {
    let many = weigh(arena, MANY)?;
    let one = weigh(arena, 1)?;
    let each = (many.memory as f64 - one.memory as f64) / (MANY - 1) as f64;
    Ok(vec![
        Line::alone("10,000 icmp series at 1/s, lateness p99 µs", many.told.lateness_us(0.99)?, Goal::Below(500.0)),
        Line::alone("10,000 icmp series at 1/s, CPU µs a probe", many.cpu_us, Goal::Told),
        Line::alone("10,000 icmp series at 1/s, bytes for each series", each, Goal::Below(4096.0)),
    ])
}

fn weigh(arena: &Arena, series: usize) -> anyhow::Result<Measured> {
    let plan = Plan::default().add(addresses(series), "kind = \"icmp\"", SECOND);
    let mut agent = Agent::start(arena, &plan)?;
    // Until windows have been closed and pushed: the next ones use the same memory, and closing them is part of the cost.
    let whole = arena.watch.max(WINDOW);
    agent.settle(whole)?;
    agent.measure(whole, 0.001)
}

/// HTTP, since the one that is silent then holds a task and a connection.
pub(super) fn silence(arena: &Arena) -> anyhow::Result<Vec<Line>> {
    let server = web::Server::start(arena)?;
    // The kernel takes connections for it; nobody reads them.
    let silent = TcpListener::bind("127.0.0.1:0").context("listen in silence")?;
    let silent = silent.local_addr().context("read the port")?.to_string();
    let probe = "kind = \"http\"\ntls = false";
    let answering = |count| std::iter::repeat_n(web::HTTP.to_owned(), count);
    let late = |plan: &Plan| Agent::start(arena, plan)?.measure(arena.watch, 0.01)?.told.lateness_us(0.99);
    let without = late(&Plan::default().add(answering(AMONG), probe, SECOND))?;
    let with = late(&Plan::default().add(answering(AMONG - 1), probe, SECOND).add([silent], probe, SECOND))?;
    server.stop()?;
    let what = "1,000 http targets, 1 silent: lateness p99 µs";
    Ok(vec![Line::new(what, with, ("all answer", without), Goal::More(100.0))])
}
