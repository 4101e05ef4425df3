//! What is wrong with a configuration file, and how it is told.

use std::fmt;
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report};

/// `EX_USAGE` of sysexits.h.
const EXIT_USAGE: u8 = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Bytes in the file.
    pub span: Range<usize>,
    /// The key's path, and what was found there.
    pub found: String,
    /// What would have been right.
    pub allowed: String,
}

/// Every fault of one file, in the order of their lines.
#[derive(Debug)]
pub struct Faults {
    name: PathBuf,
    text: String,
    all: Vec<Fault>,
}

impl Fault {
    pub(super) fn syntax(error: &toml::de::Error) -> Self {
        Self {
            span: error.span().unwrap_or(0..0),
            found: "not valid TOML".to_owned(),
            allowed: error.message().to_owned(),
        }
    }
}

impl Faults {
    pub(super) fn new(name: impl Into<PathBuf>, text: String, mut all: Vec<Fault>) -> Self {
        all.sort_by_key(|fault| fault.span.start);
        Self { name: name.into(), text, all }
    }

    pub(super) fn unreadable(path: &Path, error: &io::Error) -> Self {
        let found = format!("cannot read {}: {error}", path.display());
        Self::new(path, String::new(), vec![Fault { span: 0..0, found, allowed: String::new() }])
    }

    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.all.iter()
    }

    /// Prints them all and gives the exit code of a wrong configuration.
    pub fn report(&self) -> ExitCode {
        // Nothing is left to tell anyone when stderr is gone.
        drop(write!(io::stderr(), "{self}"));
        ExitCode::from(EXIT_USAGE)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let printer = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_width(120);
        for fault in &self.all {
            let mut diagnostic = MietteDiagnostic::new(&fault.found);
            if !self.text.is_empty() {
                let label = Some(fault.allowed.clone()).filter(|allowed| !allowed.is_empty());
                diagnostic = diagnostic.with_label(LabeledSpan::new_with_span(label, fault.span.clone()));
            }
            let source = NamedSource::new(self.name.display().to_string(), self.text.clone());
            printer.render_report(f, Report::from(diagnostic).with_source_code(source).as_ref())?;
            writeln!(f)?;
        }
        let count = self.all.len();
        writeln!(f, "{}: {count} {}", self.name.display(), if count == 1 { "fault" } else { "faults" })
    }
}

impl std::error::Error for Faults {}
