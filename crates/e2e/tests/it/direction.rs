//! Data flows one way: no station names one that comes after it.

use std::fs;
use std::path::{Path, PathBuf};

const AGENT: &[&str] = &[
    "endpoint", "now", "cron", "config", "names", "plan", "schedule", "probe", "flights", "trains", "ports", "confirm",
    "wellness", "samples", "record", "meters", "pacer", "spool", "batch", "push", "pipeline", "reflect", "trial",
];

const COLLECTOR: &[&str] = &[
    "policy",
    "addresses",
    "signature",
    "receiver",
    "admission",
    "retention",
    "config",
    "clocks",
    "entry",
    "decode",
    "log",
    "marks",
    "sequences",
    "log_clock",
    "agents",
    "certificates",
    "rings",
    "evidence",
    "slowness",
    "baselines",
    "diagnosis",
    "cells",
    "regions",
    "hints",
    "alerts",
    "state",
    "history",
    "snapshot",
    "jobs",
    "core",
    "settle",
    "stopped",
    "extract",
    "backup",
    "replay",
    "meters",
    "problem",
    "bodies",
    "export",
    "json",
    "unpack",
    "ingest",
    "grpc",
    "deliver",
    "api",
    "server",
    "command",
];

#[test]
fn nothing_upstream_names_anything_downstream() {
    for (folder, stations) in [("agent", AGENT), ("collector", COLLECTOR)] {
        let seen = check(&Path::new("../..").join(folder).join("src"), stations);
        assert!(seen > 30, "{folder}: only {seen} names were seen");
    }
}

fn check(src: &Path, stations: &[&str]) -> usize {
    let place = |name: &str| stations.iter().position(|station| *station == name);
    let mut seen = 0;
    for file in files(src) {
        let inside = file.strip_prefix(src).unwrap().with_extension("");
        let station = inside.iter().next().unwrap().to_str().unwrap();
        let Some(here) = place(station) else {
            assert!(["lib", "main"].contains(&station), "{station} has no place in the flow");
            continue;
        };
        let text = fs::read_to_string(&file).unwrap();
        for named in text.split("crate::").skip(1) {
            let name: String = named.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            seen += 1;
            assert!(name.is_empty() || place(&name).is_some_and(|there| there <= here), "{station} names {name}");
        }
    }
    seen
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
