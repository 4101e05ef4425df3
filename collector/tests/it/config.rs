//! Configuration: the example is good, and each bad file says everything that is wrong with it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use collector::config::Config;

#[test]
fn the_commented_example_is_a_good_configuration() {
    let config = Config::load(Path::new("../config/collector.toml")).unwrap();
    assert_eq!(config.policy.targets.len(), 2);
    assert_eq!(config.policy.hints, collector::policy::HintPolicy::default(), "the example shows the defaults");
}

#[test]
fn the_receiver_of_the_example_is_one_when_the_marks_are_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let example = std::fs::read_to_string("../config/collector.toml").unwrap();
    let line = |line: &str| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned();
    let text = example.lines().map(line).collect::<Vec<_>>().join("\n");
    let secret = dir.path().join("oncall.secret");
    std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
    let file = dir.path().join("collector.toml");
    std::fs::write(&file, text.replace("/etc/isochrone/oncall.secret", secret.to_str().unwrap())).unwrap();
    let mode = |mode| std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(mode)).unwrap();

    mode(0o644);
    let faults = Config::load(&file).unwrap_err().to_string();
    assert!(faults.contains("its mode is 644") && faults.contains("secret_file"), "{faults}");
    mode(0o600);
    let config = Config::load(&file).unwrap();
    assert!(!config.receivers["oncall"].allow_private);
    assert!(config.policy.receivers.contains_key("oncall"));
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
