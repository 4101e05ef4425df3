//! A disk that is full: the real binary on a small filesystem of its own, in a mount namespace that ends with the test.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use runtime::Clock;
use serde_json::Value;
use tempfile::TempDir;
use ureq::Agent;

use crate::door::body_of;

const SIZE: usize = 2 << 20;
/// What is left to the collector.
const LEFT: usize = 128 << 10;
/// More batches than that holds.
const MOST: u64 = 2000;
const DEADLINE: Duration = Duration::from_mins(1);

#[test]
fn a_full_disk_refuses_for_a_while_and_loses_and_doubles_nothing() {
    let (dir, now) = (TempDir::new().unwrap(), Clock::start().wall());
    let mut disk = SmallDisk::mount(dir.path());
    let mut collector = Collector::start(dir.path(), &disk);
    let body = body_of("fra-1", now - Duration::from_secs(1), now);
    disk.fill(LEFT);

    let mut taken = 0;
    let (status, retry_after) = loop {
        assert!(taken < MOST, "the disk is never full");
        match collector.post(taken + 1, &body) {
            (200, _) => taken += 1,
            refused => break refused,
        }
    };
    assert_eq!(status, 503, "after {taken} batches\n{}", collector.log());
    assert!(retry_after.is_some_and(|seconds| seconds >= 1), "and says when to come again");
    // No batch fits for as long as nothing is freed, while everything else goes on.
    let refused = collector.post(taken + 1, &body);
    assert_eq!(refused.0, 503);
    assert_eq!(collector.get("/api/v1/hints/fra/voice")["ranked"].as_array().map(Vec::len), Some(2));
    assert_eq!(collector.get("/api/v1/agents")["items"][0]["agent"], "fra-1");
    until("what was taken is folded", || collector.samples() == taken * 3);

    disk.empty();
    until("the log takes batches again", || collector.post(taken + 1, &body).0 == 200);
    taken += 1;
    until("the last batch is folded", || collector.samples() == taken * 3);
    collector.kill();
    let collector = Collector::start(dir.path(), &disk);
    assert_eq!(collector.samples(), taken * 3, "what was acknowledged is there, once");
    assert_eq!(collector.post(taken, &body).0, 200);
    assert_eq!(collector.post(taken + 1, &body).0, 200);
    until("it goes on", || collector.samples() == (taken + 1) * 3);
}

#[test]
fn history_that_finds_no_room_at_the_end_is_made_good_from_the_log() {
    let (dir, now) = (TempDir::new().unwrap(), Clock::start().wall());
    let mut disk = SmallDisk::mount(dir.path());
    let mut collector = Collector::start(dir.path(), &disk);
    let body = body_of("fra-1", now - Duration::from_secs(1), now);
    for sequence in 1..=3 {
        assert_eq!(collector.post(sequence, &body).0, 200);
    }
    until("what was taken is folded", || collector.samples() == 9);
    disk.fill(0);
    collector.stop();
    let log = collector.log();
    assert!(log.contains("history is not stored; the log is kept"), "{log}");
    disk.empty();
    for round in ["from the log", "once it was stored"] {
        let mut collector = Collector::start(dir.path(), &disk);
        let path = collector.get("/api/v1/paths?source=fra&window=15m")["items"][0]["id"].as_str().unwrap().to_owned();
        let history = collector.get(&format!("/api/v1/paths/{path}/history"));
        let replies = history["points"].as_array().unwrap().iter().map(|point| point["count"].as_u64().unwrap());
        assert_eq!(replies.sum::<u64>(), 9, "{round}: {history}");
        let standing = collector.ask("/metrics").unwrap();
        assert!(standing.contains("isochrone_history_standing{standing=\"kept\"} 1"), "{standing}");
        assert_eq!(collector.ask("/readyz").as_deref(), Some("ok\n"));
        collector.stop();
    }
}

/// A filesystem that nobody else sees.
struct SmallDisk {
    /// Holds the namespace until its input ends.
    holder: Child,
    input: Option<ChildStdin>,
    mounted: PathBuf,
}

impl SmallDisk {
    fn mount(dir: &Path) -> Self {
        let mounted = dir.join("data");
        fs::create_dir(&mounted).unwrap();
        let script = format!("mount -t tmpfs -o size={SIZE} tmpfs '{}' && echo mounted && exec cat", mounted.display());
        let mut holder = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`unshare` of util-linux is needed");
        let (input, mut line) = (holder.stdin.take(), String::new());
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(
            line, "mounted\n",
            "this test mounts a tmpfs in a namespace of its own: it must run as root, or with CAP_SYS_ADMIN"
        );
        Self { holder, input, mounted }
    }

    /// As those in the namespace see it.
    fn ballast(&self) -> PathBuf {
        let inside = self.mounted.join("ballast");
        Path::new(&format!("/proc/{}/root", self.holder.id())).join(inside.strip_prefix("/").unwrap())
    }

    /// All but so much.
    fn fill(&self, left: usize) {
        let mut file = fs::File::create(self.ballast()).unwrap();
        let mut written = 0;
        while let Ok(bytes) = file.write(&[1; 4096]) {
            written += bytes;
        }
        file.set_len((written - left) as u64).unwrap();
    }

    fn empty(&mut self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.holder.wait());
    }
}

struct Collector {
    process: Child,
    url: String,
    log: PathBuf,
}

impl Collector {
    fn start(dir: &Path, disk: &SmallDisk) -> Self {
        let (address, log) = (dir.join("address"), dir.join("log"));
        drop(fs::remove_file(&address));
        let file = fs::File::options().create(true).append(true).open(&log).unwrap();
        let process = Command::new("nsenter")
            .arg(format!("--mount=/proc/{}/ns/mnt", disk.holder.id()))
            .arg(env!("CARGO_BIN_EXE_isochrone-collector"))
            .args(["run", "--listen", "127.0.0.1:0", "--config"])
            .arg(fs::canonicalize("../config/collector.toml").unwrap())
            .arg("--data")
            .arg(&disk.mounted)
            .arg("--address-file")
            .arg(&address)
            .stderr(file)
            .spawn()
            .unwrap();
        let mut collector = Self { process, url: String::new(), log };
        until("the collector listens", || {
            let text = fs::read_to_string(&address).unwrap_or_default();
            collector.url = format!("http://{}", text.trim());
            text.contains(':') && collector.ask("/readyz").is_some()
        });
        collector
    }

    /// The status, and after how many seconds it may be sent again.
    fn post(&self, sequence: u64, body: &[u8]) -> (u16, Option<u64>) {
        let request = agent()
            .post(format!("{}/v1/metrics", self.url))
            .header("content-type", "application/x-protobuf")
            .header("isochrone-agent", "fra-1")
            .header("isochrone-boot", "00000000-0000-0000-0000-000000000001")
            .header("isochrone-seq", sequence.to_string());
        let answer = request.send(body).unwrap();
        let retry_after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        (answer.status().as_u16(), retry_after)
    }

    fn ask(&self, path: &str) -> Option<String> {
        let mut answer = agent().get(format!("{}{path}", self.url)).call().ok()?;
        answer.status().is_success().then(|| answer.body_mut().read_to_string().unwrap())
    }

    fn get(&self, path: &str) -> Value {
        let answer = self.ask(path).unwrap_or_else(|| panic!("{path} is not answered\n{}", self.log()));
        serde_json::from_str(&answer).unwrap()
    }

    fn samples(&self) -> u64 {
        let paths = self.get("/api/v1/paths?source=fra&window=15m");
        paths["items"].as_array().unwrap().iter().map(|path| path["samples"].as_u64().unwrap()).sum()
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// As it is told to by whoever runs it.
    fn stop(&mut self) {
        let told = Command::new("kill").arg(self.process.id().to_string()).status().unwrap();
        assert!(told.success());
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}\n{}", self.log());
    }

    /// No goodbye.
    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn agent() -> Agent {
    Agent::config_builder().timeout_global(Some(DEADLINE)).http_status_as_error(false).build().into()
}

#[expect(clippy::disallowed_methods, reason = "between two looks at another process")]
fn until(what: &str, mut look: impl FnMut() -> bool) {
    let clock = Clock::start();
    let begin = clock.mono();
    while !look() {
        assert!(clock.mono().since(begin) < DEADLINE, "{what}: not within {DEADLINE:?}");
        sleep(Duration::from_millis(20));
    }
}
