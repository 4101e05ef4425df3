//! `isochrone-collector replay`: what is concluded of what was measured, by the functions of today and, beside it, another configuration.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use serde::Serialize;
use serde_json::json;

use super::is_broken_pipe;
use crate::config::Config;
use crate::extract::{Moment, USUAL};
use crate::policy::Policy;
use crate::replay::{self, Conclusion, Replay, ReplayError, Summary, Under, What};
use crate::stopped::Stopped;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The data directory of a collector that does not run
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// RFC 3339, or seconds since the epoch; an hour before --to by default
    #[arg(long)]
    from: Option<Moment>,
    /// RFC 3339, or seconds since the epoch; by default when the collector stopped
    #[arg(long)]
    to: Option<Moment>,
    /// Say what would be otherwise under this configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// An object a line, and the summary as the last
    #[arg(long)]
    json: bool,
}

/// As a line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    at: String,
    under: Under,
    #[serde(flatten)]
    what: &'a What,
    reason: &'a str,
}

impl Args {
    pub fn config(&self) -> Option<&PathBuf> {
        self.config.as_ref()
    }

    /// Under the recorded configuration, and that other one.
    pub fn run(&self, other: Option<Config>) -> anyhow::Result<()> {
        let stopped = Stopped::open(&self.data)?;
        let to = self.to.map_or_else(|| replay::end(&stopped), |to| to.0);
        let from = self.from.map_or(to - USUAL, |from| from.0);
        let other: Option<Policy> = other.map(|config| config.policy);
        let compares = other.is_some();
        let replay = Replay::new(&stopped, from..to, other)?;
        let mut out = BufWriter::new(io::stdout().lock());
        let told = replay.run(|under, conclusion| {
            let told =
                if self.json { line(&mut out, under, conclusion) } else { text(&mut out, compares, under, conclusion) };
            Ok::<_, ReplayError>(told?)
        });
        let told = told.map_err(anyhow::Error::from).and_then(|summary| {
            if self.json {
                writeln!(out, "{}", json!({ "summary": summary }))?;
            } else {
                sum_up(&mut out, &summary)?;
            }
            Ok(out.flush()?)
        });
        match told {
            Err(error) if error.chain().any(is_broken_pipe) => Ok(()),
            told => told,
        }
    }
}

fn line(out: &mut impl Write, under: Under, conclusion: &Conclusion) -> io::Result<()> {
    let Conclusion { at, what, reason } = conclusion;
    serde_json::to_writer(&mut *out, &Line { at: at.to_string(), under, what, reason })?;
    writeln!(out)
}

/// As differences are shown: `-` as it was, `+` as it would be.
fn text(out: &mut impl Write, compares: bool, under: Under, conclusion: &Conclusion) -> io::Result<()> {
    let mark = match under {
        _ if !compares => "",
        Under::Both => "  ",
        Under::Recorded => "- ",
        Under::Other => "+ ",
    };
    let Conclusion { at, what, reason } = conclusion;
    writeln!(out, "{mark}{at}  {what}: {reason}")
}

fn sum_up(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    let other = summary.other.map(|other| other.rows());
    let head = if other.is_some() { format!("{:>10}{:>10}", "-", "+") } else { String::new() };
    let head = format!("{:<40}{head}", "in all");
    writeln!(out, "\n{}", head.trim_end())?;
    for (index, (what, count)) in summary.recorded.rows().into_iter().enumerate() {
        let other = other.map_or_else(String::new, |rows| format!("{:>10}", rows[index].1));
        writeln!(out, "{what:<40}{count:>10}{other}")?;
    }
    Ok(())
}
