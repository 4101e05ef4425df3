//! Configuration: the example is good, and each bad file says everything that is wrong with it.

use std::path::Path;

use collector::config::Config;

#[test]
fn the_commented_example_is_a_good_configuration() {
    let config = Config::load(Path::new("../config/collector.toml")).unwrap();
    assert_eq!(config.policy.targets.len(), 2);
    assert_eq!(config.policy.hints, collector::policy::HintPolicy::default(), "the example shows the defaults");
}

#[test]
fn every_bad_file_is_told_in_full() {
    let mut files: Vec<_> = std::fs::read_dir("tests/bad").unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    for file in files {
        let faults = Config::load(&file).unwrap_err().to_string();
        insta::assert_snapshot!(file.file_stem().unwrap().to_str().unwrap(), faults);
    }
}

#[test]
fn the_program_ends_with_64_and_tells_every_fault() {
    let told = std::process::Command::new(env!("CARGO_BIN_EXE_isochrone-collector"))
        .args(["check", "--config", "tests/bad/five-faults.toml"])
        .output()
        .unwrap();
    assert_eq!(told.status.code(), Some(64));
    assert!(String::from_utf8(told.stderr).unwrap().contains("5 faults"));
}
