//! A summary for people: a line while the trial goes on, and at its end a table and a drawing, within a terminal's columns.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::histogram;
use super::samples::{Spread, rounded};
use super::summary::{Missed, Summary};

/// Where nobody says how wide it is.
pub const USUAL_COLUMNS: usize = 80;

const QUANTILES: [&str; 5] = ["min", "p50", "p95", "p99", "max"];
/// What a row of the table takes.
const TABLE: usize = 12 + 7 + 10 * QUANTILES.len();

impl Summary {
    pub fn text(&self, columns: usize) -> String {
        let mut text = String::new();
        // A string takes whatever it is told.
        self.write(&mut text, columns).ok();
        text
    }

    /// As far as it has come; what does not fit is left out from the right, and nothing is cut in the middle.
    pub(super) fn line(&self, elapsed: Duration, columns: usize) -> String {
        let mut parts = vec![
            format!("{} s", elapsed.as_secs()),
            format!("{} sent", self.sent),
            format!("{} received", self.received),
            format!("{} lost", self.lost),
        ];
        for (count, what) in [(self.late, "late"), (self.missed.values().map(|missed| missed.count).sum(), "missed")] {
            parts.extend((count > 0).then(|| format!("{count} {what}")));
        }
        if let Some((phase, samples)) = self.phases.last() {
            let phase = if phase == "rtt" { String::new() } else { format!("{phase} ") };
            let told = [("p50", samples.quantile(0.5)), ("p99", samples.quantile(0.99))];
            parts.extend(samples.last().map(|last| format!("{phase}last {} ms", Short(last))));
            parts.extend(told.into_iter().filter_map(|(what, it)| Some(format!("{what} {}", Short(it?)))));
        }
        let mut line = String::new();
        for part in parts {
            if line.chars().count() + 2 + part.chars().count() > columns {
                break;
            }
            line += if line.is_empty() { "" } else { "  " };
            line += &part;
        }
        line
    }

    fn write(&self, out: &mut String, columns: usize) -> fmt::Result {
        let Self { kind, address, sent, received, lost, late, .. } = self;
        write!(out, "{kind} {address}")?;
        if let Some(ip) = self.resolved {
            write!(out, " ({ip})")?;
        }
        let percent = Percent(*lost, received + lost);
        writeln!(out, ": {sent} sent, {received} received, {lost} lost{percent}, {late} late")?;
        for (reason, count) in &self.errors {
            let words = self.reasons.get(reason).map(|words| format!(", {words}")).unwrap_or_default();
            writeln!(out, "{count} lost: {reason}{words}")?;
        }
        for Missed { count, why } in self.missed.values() {
            writeln!(out, "{count} missed: {why}")?;
        }
        for (reason, count) in &self.noise {
            writeln!(out, "{count} ignored: {reason}")?;
        }
        self.table(out, columns)?;
        if let Some(jitter) = self.jitter_ms {
            let mos = self.mos.map(|mos| format!(", MOS {mos:.1} by estimate")).unwrap_or_default();
            writeln!(out, "jitter {jitter:.3} ms{mos}")?;
        }
        if let Some(end) = &self.certificate_not_after {
            writeln!(out, "certificate until {end}")?;
        }
        self.labels.iter().try_for_each(|(label, value)| writeln!(out, "{label} {value}"))?;
        if let Some(drawn) = self.phases.last().and_then(|(phase, samples)| histogram::draw(phase, samples, columns)) {
            write!(out, "\n{drawn}")?;
        }
        Ok(())
    }

    fn table(&self, out: &mut String, columns: usize) -> fmt::Result {
        let phases: Vec<_> = self.phases.spreads().collect();
        if phases.is_empty() {
            return Ok(());
        }
        if columns < TABLE {
            return upright(out, &phases);
        }
        write!(out, "{:<12}{:>7}", "ms", "count")?;
        QUANTILES.iter().try_for_each(|name| write!(out, "{name:>10}"))?;
        out.push('\n');
        for (phase, spread) in phases {
            write!(out, "{phase:<12}{:>7}", spread.count)?;
            quantiles(&spread).iter().try_for_each(|it| write!(out, "{:>10.3}", rounded(*it)))?;
            out.push('\n');
        }
        Ok(())
    }
}

/// For a narrow terminal: a line for each number.
fn upright(out: &mut String, phases: &[(&str, Spread)]) -> fmt::Result {
    for (phase, spread) in phases {
        writeln!(out, "{phase}, {} replies", spread.count)?;
        for (name, it) in QUANTILES.iter().zip(quantiles(spread)) {
            writeln!(out, "  {name} {:>10.3} ms", rounded(it))?;
        }
    }
    Ok(())
}

fn quantiles(spread: &Spread) -> [Duration; 5] {
    [spread.min, spread.p50, spread.p95, spread.p99, spread.max]
}

/// Milliseconds in four digits, or more where they are whole.
struct Short(Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = rounded(self.0);
        let decimals = match ms {
            ..10.0 => 3,
            10.0..100.0 => 2,
            _ => 1,
        };
        write!(f, "{ms:.decimals$}")
    }
}

/// So many of so many; of none, nothing.
struct Percent(u64, u64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(part, whole) = *self;
        if part == 0 {
            return Ok(());
        }
        let percent = part as f64 * 100.0 / whole as f64;
        // Never 0 or 100 % where it is not.
        match percent {
            100.0.. => f.write_str(" (100 %)"),
            1.0.. => write!(f, " ({:.1} %)", percent.min(99.9)),
            _ => write!(f, " ({:.2} %)", percent.max(0.01)),
        }
    }
}
