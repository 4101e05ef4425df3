//! Prometheus itself reads what we write for it: Debian's `prometheus`, which brings `promtool`.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use collector::server;
use runtime::Shutdown;
use serde_json::Value;
use telemetry::{FailureKind, Outcome, Series};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::door::{Door, Outcomes, batch, replies, series, until};

#[tokio::test]
async fn promtool_finds_nothing_to_say_of_our_metrics() {
    let door = measured().await;
    let text = door.text("/metrics").await;
    let mut promtool = installed(Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()));
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert_eq!((said.stdout, String::from_utf8(said.stderr).unwrap()), (Vec::new(), String::new()));
    assert!(text.contains("probe_http_duration_seconds{"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_that_scrapes_us_answers_with_what_was_measured() {
    let door = measured().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    let served = tokio::task::JoinSet::from_iter([server::serve(listener, door.router.clone(), shutdown.clone())]);

    let dir = TempDir::new().unwrap();
    let prometheus = Prometheus::start(dir.path(), &address.to_string()).await;
    let seconds = prometheus.ask("probe_duration_seconds{source=\"fra\",target=\"iad-voice-1\",probe=\"voice\"}").await;
    assert!((seconds - 0.091).abs() < 0.091 * 0.0025, "{seconds}");
    let success = prometheus.ask("probe_success{probe=\"icmp\"}").await;
    assert!(success.abs() < 1e-6, "{success}");
    let stacked =
        prometheus.ask("sum(probe_http_duration_seconds) - sum(probe_duration_seconds{probe=\"http\"})").await;
    assert!(stacked.abs() < 1e-6, "{stacked}");
    drop(prometheus);
    shutdown.cancel();
    served.join_all().await.into_iter().for_each(Result::unwrap);
}

/// A collector that has voice, HTTP and lost ICMP.
async fn measured() -> Door {
    let door = Door::open(TempDir::new().unwrap()).await;
    let of = |probe: &str, phase: &str, outcomes: Outcomes| {
        (Series { probe: probe.parse().unwrap(), phase: phase.parse().unwrap(), ..series("fra-1") }, outcomes)
    };
    let lost = replies(&[1000]).into_values().map(|lost| (Outcome::Failure(FailureKind::Timeout), lost)).collect();
    let seen = vec![
        of("voice", "rtt", replies(&[90, 91, 92])),
        of("http", "connect", replies(&[10])),
        of("http", "first_byte", replies(&[40])),
        of("http", "transfer", replies(&[5])),
        of("icmp", "rtt", lost),
    ];
    let now = door.clock.wall();
    assert!(door.post("1", None, batch(seen, now, now)).await.0.is_success());
    door.mark().await;
    door
}

fn installed(command: &mut Command) -> Child {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    child.unwrap_or_else(|error| panic!("{command:?}: {error}; `cargo xtask test` installs Debian's prometheus"))
}

/// Ended when it is dropped.
struct Prometheus {
    child: Child,
    url: String,
}

impl Prometheus {
    async fn start(dir: &Path, target: &str) -> Self {
        let scrape = format!("{{job_name: isochrone, static_configs: [{{targets: ['{target}']}}]}}");
        fs::write(dir.join("prometheus.yml"), format!("global: {{scrape_interval: 1s}}\nscrape_configs: [{scrape}]\n"))
            .unwrap();
        let log = dir.join("prometheus.log");
        let mut command = Command::new("prometheus");
        command.current_dir(dir).args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"]);
        command.args(["--web.listen-address=127.0.0.1:0"]).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(File::create(&log).unwrap()).spawn();
        let child = child.expect("`cargo xtask test` installs Debian's prometheus");
        let mut prometheus = Self { child, url: String::new() };
        let listens = |log: String| {
            let line = log.lines().find(|line| line.contains("\"Listening on\""))?;
            Some(line.split_once("address=")?.1.trim().to_owned())
        };
        let address = until("a Prometheus that listens", async || listens(fs::read_to_string(&log).unwrap())).await;
        prometheus.url = format!("http://{address}");
        prometheus
    }

    /// The one value that a query has, once it has one.
    async fn ask(&self, query: &str) -> f64 {
        until(query, async || {
            let request = ureq::get(format!("{}/api/v1/query", self.url)).query("query", query);
            let answer = tokio::task::block_in_place(|| request.call().ok()?.body_mut().read_json::<Value>().ok())?;
            answer.pointer("/data/result/0/value/1")?.as_str()?.parse().ok()
        })
        .await
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
