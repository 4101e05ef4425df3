//! What came out, one line for each comparison: medians over the runs.

use std::fmt;

/// What is asked of ours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Goal {
    /// At most so many times the other's.
    Times(f64),
    /// At least so many times the other's.
    AtLeast(f64),
    /// At most so much more than the other's.
    More(f64),
    /// Less than that, whatever the other does.
    Below(f64),
    /// Only told.
    Told,
}

/// One comparison, as one run has it.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) what: String,
    pub(super) ours: f64,
    /// Who else, and theirs.
    pub(super) other: Option<(&'static str, f64)>,
    pub(super) goal: Goal,
}

/// Lines of every run, in the order in which they are first met.
#[derive(Debug, Default)]
pub(super) struct Table(Vec<Vec<Line>>);

impl Line {
    pub(super) fn new(what: impl Into<String>, ours: f64, other: (&'static str, f64), goal: Goal) -> Self {
        Self { what: what.into(), ours, other: Some(other), goal }
    }

    pub(super) fn alone(what: impl Into<String>, ours: f64, goal: Goal) -> Self {
        Self { what: what.into(), ours, other: None, goal }
    }

    /// Whether the same is compared, with the same other.
    fn is_of(&self, line: &Self) -> bool {
        let other = |line: &Self| line.other.map(|(name, _)| name);
        self.what == line.what && other(self) == other(line)
    }

    fn is_met(&self) -> Option<bool> {
        let other = self.other.map(|(_, value)| value);
        match self.goal {
            Goal::Times(times) => other.map(|other| self.ours <= times * other),
            Goal::AtLeast(times) => other.map(|other| self.ours >= times * other),
            Goal::More(more) => other.map(|other| self.ours <= other + more),
            Goal::Below(bound) => Some(self.ours < bound),
            Goal::Told => None,
        }
    }
}

impl Table {
    pub(super) fn add(&mut self, line: Line) {
        match self.0.iter_mut().find(|runs| runs[0].is_of(&line)) {
            Some(runs) => runs.push(line),
            None => self.0.push(vec![line]),
        }
    }

    fn medians(&self) -> impl Iterator<Item = Line> {
        self.0.iter().map(|runs| {
            let first = &runs[0];
            let ours = median(runs.iter().map(|line| line.ours));
            let others = runs.iter().filter_map(|line| line.other.map(|(_, value)| value));
            Line { ours, other: first.other.map(|(name, _)| (name, median(others))), ..first.clone() }
        })
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) / 2]
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<52} {:>9} {:>9} {:>6}  {:<18} {:<12} met",
            "median", "ours", "other", "ratio", "other", "goal"
        )?;
        self.medians().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, value, ratio) = match self.other {
            Some((name, value)) => (name, format!("{value:.1}"), format!("{:.2}", self.ours / value)),
            None => ("", String::new(), String::new()),
        };
        let met = match self.is_met() {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        let goal = self.goal.to_string();
        write!(f, "{:<52} {:>9.1} {value:>9} {ratio:>6}  {name:<18} {goal:<12} {met}", self.what, self.ours)
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Times(times) => write!(f, "≤ {times:.2} ×"),
            Self::AtLeast(times) => write!(f, "≥ {times:.2} ×"),
            Self::More(more) => write!(f, "≤ other + {more}"),
            Self::Below(bound) => write!(f, "< {bound}"),
            Self::Told => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_tells_medians_and_judges_by_them() {
        let mut table = Table::default();
        for (ours, other) in [(9.0, 10.0), (1.0, 2.0), (3.0, 4.0)] {
            table.add(Line::new("cpu", ours, ("peer", other), Goal::Times(0.5)));
            table.add(Line::new("rtt", ours, ("peer", other), Goal::More(0.0)));
            table.add(Line::new("rtt", ours, ("another", other), Goal::AtLeast(0.75)));
            table.add(Line::alone("memory", ours, Goal::Below(3.0)));
        }
        let medians: Vec<_> = table.medians().map(|line| (line.ours, line.other, line.is_met())).collect();
        let (peer, another) = (Some(("peer", 4.0)), Some(("another", 4.0)));
        let expected =
            [(3.0, peer, Some(false)), (3.0, peer, Some(true)), (3.0, another, Some(true)), (3.0, None, Some(false))];
        assert_eq!(medians, expected);
    }
}
