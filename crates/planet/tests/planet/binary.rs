use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::support::http;

/// Ends with the test, also when the test fails.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn planet(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_isochrone-planet"));
    command.arg("run").args(args).args(["--control", "127.0.0.1:0", "--log-format", "json"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn it_says_ready_serves_and_ends_well_when_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let (config, file) = (dir.path().join("config"), dir.path().join("address"));
    let (config, file) = (config.to_str().unwrap(), file.to_str().unwrap());
    let args = ["--regions", "3", "--seed", "1", "--write-config", config, "--address-file", file];
    let mut process = Process(planet(&args).spawn().unwrap());

    let mut said = String::new();
    BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "ready\n");
    let address = fs::read_to_string(file).unwrap();
    let mut first_log = String::new();
    let mut logs = BufReader::new(process.0.stderr.take().unwrap());
    logs.read_line(&mut first_log).unwrap();
    let first_log: serde_json::Value = serde_json::from_str(&first_log).unwrap();
    assert_eq!(first_log["fields"]["address"], address.trim_end());

    let truth = http(address.trim_end().parse().unwrap(), "GET", "/truth", "").1;
    let agent = fs::read_to_string(dir.path().join("config/agent-fra.toml")).unwrap();
    for target in truth["targets"].as_array().unwrap() {
        assert!(agent.contains(&format!("address = {}\n", target["address"])), "{target} is in\n{agent}");
    }
    assert_eq!(truth["regions"][1]["name"], json!("fra"));

    kill(Pid::from_raw(process.0.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert!(process.0.wait().unwrap().success());
}

/// Runs a planet as the root of a user namespace, after a few commands. What it says when it cannot start.
fn refusal(commands: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let planet = planet(&["--mode", "router", "--write-config", dir.path().to_str().unwrap()]);
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-ec", commands]);
    let output = command.arg(planet.get_program()).args(planet.get_args()).output().unwrap();
    let logs = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{logs}");
    logs
}

#[test]
fn who_may_not_make_namespaces_is_told_what_is_missing() {
    let without_capabilities = "echo 0 > /proc/sys/user/max_user_namespaces
        exec setpriv --bounding-set=-all --inh-caps=-all \"$0\" \"$@\"";
    let logs = refusal(without_capabilities);
    for told in ["no network namespace can be made here", "CAP_SYS_ADMIN", "user.max_user_namespaces"] {
        assert!(logs.contains(told), "{logs}");
    }
}

#[test]
fn where_there_are_no_tun_devices_it_says_so() {
    let logs = refusal("mount -t tmpfs none /dev/net && exec \"$0\" \"$@\"");
    assert!(logs.contains("/dev/net/tun cannot be opened") && logs.contains("modprobe tun"), "{logs}");
}

#[test]
fn a_killed_router_leaves_nothing_behind_and_the_next_one_takes_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let net = dir.path().join("net/fra");
    let start = || {
        let args = ["--mode", "router", "--regions", "2", "--write-config", dir.path().to_str().unwrap()];
        let mut process = Process(planet(&args).spawn().unwrap());
        let mut said = String::new();
        BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut said).unwrap();
        if said != "ready\n" {
            let mut logs = String::new();
            process.0.stderr.take().unwrap().read_to_string(&mut logs).unwrap();
            panic!("a planet cannot route here: {logs}");
        }
        process
    };
    let mut killed = start();
    assert!(net.exists(), "the namespace is there");
    killed.0.kill().unwrap();
    killed.0.wait().unwrap();
    assert!(net.is_symlink() && !net.exists(), "the link leads nowhere");

    let mut next = start();
    assert!(net.exists(), "there is another");
    kill(Pid::from_raw(next.0.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert!(next.0.wait().unwrap().success());
    assert!(!net.exists());
}

#[test]
fn what_only_a_router_does_is_refused_on_loopback() {
    let output = planet(&["--double", "0.1"]).output().unwrap();
    let logs = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && logs.contains("--mode router"), "{logs}");
}

#[test]
fn router_mode_asks_where_to_write_how_its_regions_are_entered() {
    let output = planet(&["--mode", "router"]).output().unwrap();
    let logs = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && logs.contains("--write-config"), "{logs}");
}
