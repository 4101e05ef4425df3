//! A collector that is away for days, while an agent goes on measuring: what its spool takes, what it gives up, and whether it says so.

use std::collections::BTreeSet;
use std::time::Duration;

use agent::spool::{Limits, Name};
use anyhow::{Context as _, ensure};
use journal::sim::Dice;
use telemetry::{Gap, Wall};

use crate::agent::{Agent, Pushing};

const BEGIN: Wall = Wall::from_secs(1_800_000_000);

/// How it is away.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    pub lasts: Duration,
    /// Between two batches.
    pub every: Duration,
    pub series: usize,
    pub limits: Limits,
    /// The agent is started again so often.
    pub restarts: usize,
}

/// What was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    pub made: u64,
    pub kept: u64,
    /// The most bytes that the spool had on disk.
    pub most_bytes: u64,
    /// Of the oldest that was kept, at the end.
    pub oldest: Duration,
    pub gaps: Vec<Gap>,
}

/// Lives through it, and looks after every batch whether the spool is within its bounds, and at the end whether its gaps
/// name what is not there, all of it and nothing else.
pub fn live(seed: u64, outage: Outage) -> anyhow::Result<Left> {
    let Outage { lasts, every, series, limits, restarts } = outage;
    let segment = limits.bytes / 16;
    let targets: Vec<_> = (0..series).map(|number| (format!("target-{number}"), "iad")).collect();
    let targets: Vec<_> = targets.iter().map(|(id, region)| (id.as_str(), *region)).collect();
    let (mut agent, mut dice) = (Agent::new(0, &targets, limits), Dice::new(seed));
    let end = BEGIN + lasts;
    let (mut now, mut made, mut most_bytes) = (BEGIN, Vec::<(Name, Wall)>::new(), 0);
    let mut starts: BTreeSet<Wall> =
        (0..restarts).map(|_| BEGIN + lasts.mul_f64(dice.roll(1000) as f64 / 1e3)).collect();
    agent.start(now);
    while now < end {
        now += every;
        if starts.first().is_some_and(|start| *start <= now) {
            starts.pop_first();
            let died = agent.cut_power(&mut dice);
            ensure!(died.is_empty(), "{died:?} was in memory only, although the disk is good");
            agent.start(now);
        }
        let batch = agent.measure(now, &mut dice).context("it is alive")?;
        made.push((batch.name, now));
        let bytes = agent.disk.bytes();
        most_bytes = most_bytes.max(bytes);
        ensure!(bytes <= limits.bytes + segment, "{bytes} bytes on disk at {now}, {} allowed", limits.bytes);
    }
    let alive = agent.alive.as_mut().context("it is alive")?;
    ensure!(alive.pushing == Pushing::Idle, "nothing was pushed");
    let gaps = alive.spool.gaps();
    let mut kept = BTreeSet::new();
    while let Some(batch) = alive.next() {
        kept.insert(batch.name);
        alive.forget(batch.name);
    }
    let (kept_at, lost_at): (Vec<_>, Vec<_>) = made.iter().partition(|(name, _)| kept.contains(name));
    ensure!(kept.len() == kept_at.len(), "it keeps what it never made");
    let named = gaps.iter().flat_map(|gap| (gap.from.0..=gap.to.0).map(|number| (gap.boot, number)));
    let named: Vec<_> = named.collect();
    let lost: BTreeSet<_> = lost_at.iter().map(|(name, _)| (name.boot, name.sequence.0)).collect();
    ensure!(
        named.len() == lost.len() && named.iter().all(|name| lost.contains(name)),
        "{gaps:?} is not what is missing"
    );
    let oldest = kept_at.first().map(|(_, at)| now.since(*at)).context("something is kept")?;
    ensure!(oldest <= limits.age, "the oldest is of {oldest:?} ago");
    Ok(Left { made: made.len() as u64, kept: kept.len() as u64, most_bytes, oldest, gaps })
}
