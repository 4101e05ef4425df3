//! What a probe costs and how well it measures. Ours and the peer take turns, on the same core, each alone on it; servers,
//! load and this bench are on another. CPU is user and system time of the prober's own process, between two readings while it
//! is at work; servers' CPU counts for nobody. RTTs are as each program tells them: ours from the histograms that the agent
//! pushes, which are those that a collector gets.

mod icmp;
mod scale;
mod stall;
mod udp;
mod web;

use std::time::{Duration, Instant};

use clap::ValueEnum;

use super::arena::Arena;
use super::table::{Line, Table};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Comparison {
    /// Echoes, against fping
    Icmp,
    /// HTTP, TLS and TCP, against `blackbox_exporter`
    Web,
    /// UDP, against irtt
    Udp,
    /// An async runtime that is blocked, against one that is not
    Stall,
    /// Many series from one agent
    Scale,
    /// A target that never answers
    Silent,
}

pub(super) fn run(runs: u32, watch: Duration, only: &[Comparison]) -> anyhow::Result<()> {
    let arena = Arena::enter(watch)?;
    let begin = Instant::now();
    let mut table = Table::default();
    for run in 1..=runs {
        for &comparison in Comparison::value_variants() {
            if !only.is_empty() && !only.contains(&comparison) {
                continue;
            }
            for line in comparison.make(&arena)? {
                println!("{run}/{runs} {line}");
                table.add(line);
            }
        }
    }
    println!(
        "\n{table}\nµs is CPU a probe or RTT; ours and the other were measured in turns, {runs} times each, in {} s",
        begin.elapsed().as_secs()
    );
    Ok(())
}

impl Comparison {
    fn make(self, arena: &Arena) -> anyhow::Result<Vec<Line>> {
        match self {
            Self::Icmp => icmp::compare(arena),
            Self::Web => web::compare(arena),
            Self::Udp => udp::compare(arena),
            Self::Stall => stall::compare(arena),
            Self::Scale => scale::grow(arena),
            Self::Silent => scale::silence(arena),
        }
    }
}

/// Addresses of the loopback, as many as one likes.
fn addresses(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("127.1.{}.{}", number / 250, 1 + number % 250))
}

/// At nearest rank.
pub(super) fn quantile(values: &mut [f64], q: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(((values.len() as f64 * q).ceil() as usize).max(1) - 1).copied()
}
