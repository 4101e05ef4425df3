//! Configuration: TOML with spans → a reader that accumulates faults → a resolved type.
//!
//! A file with five faults reports five, each with its line, the key's path, what was found and what is allowed. A key that
//! nobody asked for is a fault too, so that a misspelt one is never ignored in silence.

mod fault;
pub mod kind;
mod table;

use std::fs;
use std::path::{Path, PathBuf};

pub use fault::{Fault, Faults};
pub use table::Table;
use toml::de::DeTable;

/// Reads a file into `T`. `build` answers `None` only where it has reported a fault.
pub fn read<T>(path: &Path, build: impl FnOnce(&mut Table<'_>) -> Option<T>) -> Result<T, Faults> {
    match fs::read_to_string(path) {
        Ok(text) => parse(path, text, build),
        Err(error) => Err(Faults::unreadable(path, &error)),
    }
}

/// The same for text that is at hand; `name` stands in the report.
pub fn parse<T>(
    name: impl Into<PathBuf>,
    text: String,
    build: impl FnOnce(&mut Table<'_>) -> Option<T>,
) -> Result<T, Faults> {
    let (document, errors) = DeTable::parse_recoverable(&text);
    if !errors.is_empty() {
        let faults = errors.iter().map(Fault::syntax).collect();
        drop((document, errors));
        return Err(Faults::new(name, text, faults));
    }
    drop(errors);
    let (value, faults) = Table::read_root(&text, document.into_inner(), build);
    match value {
        Some(value) if faults.is_empty() => Ok(value),
        _ => Err(Faults::new(name, text, faults)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use telemetry::RegionName;

    use super::*;

    #[derive(Debug, PartialEq)]
    struct Probe {
        kind: &'static str,
        every: Duration,
    }

    #[derive(Debug, PartialEq)]
    struct Config {
        region: RegionName,
        probes: Vec<Probe>,
    }

    fn config(text: &str) -> Result<Config, Faults> {
        parse("agent.toml", text.to_owned(), |root| {
            let region = root.required("region", kind::name());
            let probes = root.tables("probe", |probe| {
                let kind = probe.required("kind", kind::choice(&[("icmp", "icmp"), ("voice", "voice")]));
                let every = probe.optional("every", kind::duration()).unwrap_or(Duration::from_secs(1));
                Some(Probe { kind: kind?, every })
            });
            Some(Config { region: region?, probes })
        })
    }

    #[test]
    fn a_good_file_is_read_with_its_defaults() {
        let read = config("region = \"fra\"\n[[probe]]\nkind = \"icmp\"\n").unwrap();
        assert_eq!(read.region.as_str(), "fra");
        assert_eq!(read.probes, [Probe { kind: "icmp", every: Duration::from_secs(1) }]);
    }

    #[test]
    fn every_fault_is_reported_with_its_line_and_what_is_allowed() {
        let faults = config("[[probe]]\nkind = \"pigeon\"\nevery = 5\n[[probe]]\nevrey = \"1s\"\n").unwrap_err();
        insta::assert_snapshot!(faults.to_string());
    }

    #[test]
    fn broken_toml_is_reported_where_it_breaks() {
        let faults = config("region = \"fra\nprobe = 1\n").unwrap_err();
        insta::assert_snapshot!(faults.to_string());
    }
}
