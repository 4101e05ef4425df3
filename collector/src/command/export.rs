//! `isochrone-collector export`: what was measured in a range, for other tools, to stdout.

use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use super::remote::Remote;
use super::{Whose, is_broken_pipe};
use crate::extract::{Extract, ExtractError, Format, Moment, USUAL};
use crate::history::Tier;
use crate::stopped::Stopped;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    whose: Whose,
    /// otlp: OTLP in JSON, a request a line. prometheus: text with times for `promtool tsdb create-blocks-from openmetrics`
    #[arg(long)]
    format: Format,
    /// RFC 3339, or seconds since the epoch; an hour before --to by default
    #[arg(long)]
    from: Option<Moment>,
    /// RFC 3339, or seconds since the epoch; by default now, or when the collector stopped
    #[arg(long)]
    to: Option<Moment>,
    /// raw, minute or hour; by default the finest that still has all of the range
    #[arg(long)]
    tier: Option<Tier>,
}

impl Args {
    pub fn run(&self) -> anyhow::Result<()> {
        let written = match (&self.whose.collector, &self.whose.data) {
            (Some(collector), _) => self.fetch(collector),
            (_, Some(data)) => self.read(data),
            _ => unreachable!("the command line has one of them"),
        };
        match written {
            Err(error) if error.chain().any(is_broken_pipe) => Ok(()),
            written => written,
        }
    }

    fn fetch(&self, collector: &Remote) -> anyhow::Result<()> {
        let moment = |moment: Moment| moment.0.to_string();
        let mut query = vec![("format", self.format.as_str().to_owned())];
        query.extend(self.from.map(|from| ("from", moment(from))));
        query.extend(self.to.map(|to| ("to", moment(to))));
        query.extend(self.tier.map(|tier| ("tier", tier.as_str().to_owned())));
        let mut answer = collector.get("/api/v1/export", &query)?;
        Ok(answer.copy_to(&mut io::stdout().lock()).map(drop)?)
    }

    fn read(&self, data: &Path) -> anyhow::Result<()> {
        let stopped = Stopped::open(data)?;
        let (now, width) = {
            let state = stopped.concluded.state();
            (state.now, state.policy.as_ref().map_or(telemetry::window::DEFAULT_WIDTH, |policy| policy.window))
        };
        // The newest window begins before it.
        let to = self.to.map_or(now, |to| to.0);
        let from = self.from.map_or(to - USUAL, |from| from.0);
        let extract = Extract::new(&stopped.history, self.format, from..to, self.tier, width)??;
        let mut out = BufWriter::new(io::stdout().lock());
        extract.write(&stopped.history, &mut out)?;
        Ok(out.flush().map_err(ExtractError::from)?)
    }
}
