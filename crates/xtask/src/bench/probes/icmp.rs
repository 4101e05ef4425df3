//! ICMP echoes to a thousand addresses of the loopback, each at the same pace. fping sends each round of them in a burst and
//! sleeps in between, which is its cheapest way; ours are spread over the interval, as they are in service.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::super::agent::{Agent, Plan};
use super::super::arena::Arena;
use super::super::program::{Core, Program};
use super::super::table::{Goal, Line};
use super::{addresses, quantile};

const TARGETS: usize = 1000;
/// 6,250 probes a second; faster, fping gives up.
const EVERY: Duration = Duration::from_millis(160);
const WARM_UP: Duration = Duration::from_secs(1);

pub(super) fn compare(arena: &Arena) -> anyhow::Result<Vec<Line>> {
    let plan = Plan::default().add(addresses(TARGETS), "kind = \"icmp\"", EVERY);
    let ours = Agent::start(arena, &plan)?.measure(arena.watch, 0.0)?;
    let at = |q| ours.told.quantile_us("icmp rtt", q);
    let (p50, p99) = (at(0.5)?, at(0.99)?);
    let theirs = fping(arena)?;
    Ok(vec![
        Line::new("icmp, CPU µs a probe, at 6250/s", ours.cpu_us, ("fping", theirs.cpu), Goal::Times(1.0)),
        Line::new("icmp, RTT p50 µs", p50, ("fping", theirs.p50), Goal::More(10.0)),
        Line::new("icmp, RTT p99 µs", p99, ("fping", theirs.p99), Goal::Told),
    ])
}

struct Theirs {
    cpu: f64,
    p50: f64,
    p99: f64,
}

fn fping(arena: &Arena) -> anyhow::Result<Theirs> {
    let targets = arena.dir.path().join("targets");
    fs::write(&targets, addresses(TARGETS).collect::<Vec<_>>().join("\n")).context("write the targets")?;
    let rounds = ((WARM_UP * 2 + arena.watch).as_secs_f64() / EVERY.as_secs_f64()).ceil();
    let (rounds, period) = (rounds.to_string(), EVERY.as_millis().to_string());
    let args = ["-q", "-i", "0.01", "-t", "500", "-p", &period, "-C", &rounds, "-f"].map(AsRef::as_ref);
    let args = args.into_iter().chain([targets.as_os_str()]);
    let mut fping = Program::start(Core::Measured, ("fping", "fping".as_ref()), args, arena.dir.path())?;
    let begin = Instant::now();
    std::thread::sleep(WARM_UP);
    let spent = fping.watch(arena.watch)?;
    let (status, said) = fping.end()?;
    let elapsed = begin.elapsed();
    anyhow::ensure!(status.success(), "fping ended with {status}:\n{said}");
    // Each target's line: its address, and the milliseconds of each round.
    let replies = said.lines().filter_map(|line| line.split_once(" : ")).flat_map(|(_, times)| times.split(' '));
    let mut rtts: Vec<f64> = replies.filter_map(|time| time.trim().parse().ok()).collect();
    let cpu = spent.per_probe(rtts.len() as f64 / elapsed.as_secs_f64());
    let mut at = |q| quantile(&mut rtts, q).map(|ms| ms * 1e3).context("fping told no RTT");
    Ok(Theirs { cpu, p50: at(0.5)?, p99: at(0.99)? })
}
