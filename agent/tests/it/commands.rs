use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protocols::voice::{parse_ping, ping_request};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::collector::{Collector, until};

pub(crate) fn agent() -> Command {
    Command::new(env!("CARGO_BIN_EXE_isochrone-agent"))
}

fn check(file: &Path) -> Output {
    agent().args(["check", "--config"]).arg(file).output().unwrap()
}

/// A process of ours; a test that fails leaves none behind.
pub(crate) struct Running {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log }
    }

    /// Tells it to stop and waits; answers its exit code and the rest of its log.
    pub(crate) fn stop(mut self) -> (Option<i32>, String) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn check_says_one_line_about_a_good_file_and_exits_64_with_every_fault_of_a_bad_one() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let good = check(&folder.join("../config/agent.toml"));
    assert!(good.status.success());
    let said = String::from_utf8(good.stdout).unwrap();
    assert!(
        said.ends_with("good. fra-1 in fra, 4 targets, 19 series, to http://collector.example.com:8460\n"),
        "{said}"
    );

    let bad = check(&folder.join("tests/bad/keys-missing.toml"));
    assert_eq!(bad.status.code(), Some(64));
    let said = String::from_utf8(bad.stderr).unwrap();
    assert!(said.contains("region: missing") && said.contains("7 faults"), "{said}");
    assert_eq!(check(Path::new("/no/such/file.toml")).status.code(), Some(64));
}

#[test]
fn check_warns_where_what_judges_a_service_comes_by_cron() {
    let folder = TempDir::new().unwrap();
    let said = |service: &str| {
        let file = folder.path().join("agent.toml");
        let text = format!(
            "region = \"fra\"\nagent = \"fra-1\"\ncollector = \"http://127.0.0.1:1\"\n[[target]]\nid = \"iad-1\"\n\
             service = \"{service}\"\nregion = \"iad\"\naddress = \"192.0.2.1:443\"\n\
             [[target.probe]]\nkind = \"http\"\ncron = \"0 */5 * * * *\"\n"
        );
        std::fs::write(&file, text).unwrap();
        let said = check(&file);
        assert!(said.status.success(), "{said:?}");
        String::from_utf8(said.stdout).unwrap()
    };
    let warning = "warning: iad-1: cdn is judged by http, which has cron: between its times nothing is known\n";
    assert!(said("cdn").starts_with(warning));
    assert!(!said("web").contains("warning"));
}

/// Started on a free port; its address stands in the file once it answers.
pub(crate) async fn reflector(folder: &TempDir, listen: &str) -> (Running, String) {
    let file = folder.path().join("address");
    let reflect = Running::start(agent().args(["reflect", "--listen", listen, "--address-file"]).arg(&file));
    until("the reflector's address", || file.exists()).await;
    (reflect, std::fs::read_to_string(file).unwrap().trim().to_owned())
}

#[tokio::test]
async fn reflect_answers_on_the_port_it_says_and_stops_when_told() {
    let folder = TempDir::new().unwrap();
    let (reflect, address) = reflector(&folder, "127.0.0.1:0").await;
    let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client.send_to(&ping_request(7), &address).unwrap();
    let mut answer = [0; 128];
    let length = client.recv(&mut answer).unwrap();
    assert_eq!(parse_ping(&answer[..length]), Ok(7));
    let (code, log) = reflect.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains(&address), "{log}");
}

pub(crate) fn agent_file(folder: &TempDir, url: &str, address: &str, paces: [&str; 2]) -> PathBuf {
    let file = folder.path().join("agent.toml");
    let [window, every] = paces;
    let text = format!(
        "region = \"fra\"\nagent = \"fra-1\"\ncollector = \"{url}\"\nwindow = \"{window}\"\n[[target]]\nid = \"iad-1\"\n\
         service = \"voice\"\nregion = \"iad\"\naddress = \"{address}\"\n[[target.probe]]\nkind = \"voice\"\n\
         every = \"{every}\"\ndiscovery_every = \"{every}\"\n"
    );
    std::fs::write(&file, text).unwrap();
    file
}

pub(crate) fn run(file: &Path) -> Running {
    Running::start(agent().args(["run", "--log-format", "json", "--config"]).arg(file))
}

/// The collector answers on another thread while this one waits for the process.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn run_says_who_it_is_measures_and_ends_with_nothing_left_behind() {
    let (folder, collector, mut outside) = (TempDir::new().unwrap(), Collector::default(), JoinSet::new());
    let url = collector.listen(&mut outside).await;
    let (_reflect, address) = reflector(&folder, "127.0.0.1:0").await;
    let mut run = run(&agent_file(&folder, &url, &address, ["1s", "50ms"]));
    let mut first = String::new();
    run.log.read_line(&mut first).unwrap();
    for word in [r#""agent":"fra-1""#, r#""region":"fra""#, r#""series":2"#, &url] {
        assert!(first.contains(word), "{word} in {first}");
    }
    until("a batch", || !collector.requests().is_empty()).await;
    let (code, log) = run.stop();
    assert_eq!(code, Some(0), "{log}");
    // A machine that stalls for an interval makes probes missed, and the log may say so.
    let warned = log.lines().any(|line| line.contains("WARN") && !line.contains("probes are missed"));
    assert!(!log.contains("stay behind") && !warned, "{log}");
}

#[test]
fn an_agent_with_nothing_to_do_for_minutes_still_stops_when_told() {
    let folder = TempDir::new().unwrap();
    let mut run = run(&agent_file(&folder, "http://127.0.0.1:1", "127.0.0.1:9", ["5m", "1h"]));
    run.log.read_line(&mut String::new()).unwrap();
    let (code, log) = run.stop();
    assert_eq!(code, Some(0), "{log}");
}
