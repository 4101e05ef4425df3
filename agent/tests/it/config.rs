use std::fs;
use std::path::{Path, PathBuf};

use agent::Config;

fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn every_bad_file_is_told_with_line_key_what_was_found_and_what_is_allowed() {
    let mut files: Vec<_> = fs::read_dir(folder("tests/bad")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 20);
    for file in files {
        let rule = file.file_stem().unwrap().to_str().unwrap();
        let faults = Config::parse("agent.toml", fs::read_to_string(&file).unwrap()).expect_err(rule);
        insta::assert_snapshot!(rule, faults.to_string());
    }
}

#[test]
fn the_example_is_good_and_names_every_key() {
    let file = folder("../config/agent.toml");
    let config = Config::load(&file).unwrap();
    assert_eq!((config.targets.len(), config.series()), (4, 19));
    let text = fs::read_to_string(&file).unwrap();
    for key in [
        "region",
        "agent",
        "collector",
        "source_address",
        "resolver",
        "family",
        "addresses",
        "data_dir",
        "bytes",
        "age",
        "confirms_per_second",
        "train_every",
        "train_packets",
        "zone",
        "window",
        "id",
        "service",
        "address",
        "advertise",
        "kind",
        "every",
        "cron",
        "timeout",
        "discovery_every",
        "otlp",
        "name",
        "type",
        "server_name",
        "ca_file",
        "path",
        "tls",
        "version",
        "reconnect_every",
    ] {
        let says = |line: &str| line.trim_start_matches("# ").starts_with(&format!("{key} = "));
        assert!(text.lines().any(says), "{key}");
    }
}
