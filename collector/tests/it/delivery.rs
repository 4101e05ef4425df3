//! What receivers get: from the real binary, over real connections, verified with the reference library.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use runtime::Clock;
use serde_json::Value;
use standardwebhooks::Webhook;
use telemetry::histogram::Scratch;
use telemetry::otlp::build::{AgentHealth, Measured, Sender, Subject, encode};
use telemetry::{FailureKind, Outcome, Series, Window};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::timeout;

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const DEADLINE: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_twice_gets_one_firing_and_one_end_across_a_kill() {
    let mut receiver = Receiver::listen(vec![500, 500]).await;
    let mut collector = Collector::start(&[("oncall", &receiver.url)]).await;
    collector.sees(Outcome::Failure(FailureKind::Timeout), 20).await;
    let first = receiver.next().await;
    collector.kill_and_start().await;
    let (second, third) = (receiver.next().await, receiver.next().await);
    collector.sees(Outcome::Reply, 500).await;
    let end = receiver.next().await;

    let ids: BTreeSet<_> = [&first, &second, &third].map(|message| message.id.clone()).into();
    assert_eq!(ids.len(), 1, "three attempts, one id: {ids:?}");
    assert!(!ids.contains(&end.id));
    assert_eq!((&first.body, &second.body), (&second.body, &third.body), "three attempts, the same bytes");
    let (firing, end) = (third.json(), end.json());
    assert_eq!((&firing["status"], &firing["version"]), (&"firing".into(), &"4".into()));
    assert_eq!(firing["commonAnnotations"]["summary"], "voice in iad is down");
    assert!(firing["commonAnnotations"]["description"].as_str().unwrap().ends_with("sources get no reply"));
    assert_eq!(end["status"], "resolved");
    assert_eq!(end["groupKey"], firing["groupKey"]);
    assert_eq!(end["alerts"][0]["fingerprint"], firing["alerts"][0]["fingerprint"]);
    assert_eq!(end["alerts"][0]["startsAt"], firing["alerts"][0]["startsAt"]);

    collector.until("/api/v1/deliveries?receiver=oncall&state=delivered", |items| items.len() == 2).await;
    assert_eq!(collector.items("/api/v1/deliveries").await.len(), 2, "nothing else was to be said");
    let alerts = collector.items("/api/v1/alerts?state=resolved").await;
    assert_eq!((alerts.len(), &alerts[0]["severity"]), (1, &"critical".into()));
    let meters = collector.text("/metrics").await;
    let counted = |outcome: &str, count: u64| {
        let mut lines = meters.lines().filter(|line| line.starts_with("isochrone_alerts_deliveries_total{"));
        lines.any(|line| line.contains(outcome) && line.ends_with(&format!(" {count}")))
    };
    assert!(counted("\"delivered\"", 2) && counted("\"oncall\"", 2), "{meters}");
    assert!(receiver.messages.try_recv().is_err(), "and nothing was");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_hangs_delays_neither_another_nor_an_ack() {
    let hung = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hung_url = format!("http://{}/", hung.local_addr().unwrap());
    let mut receiver = Receiver::listen(Vec::new()).await;
    let mut collector = Collector::start(&[("hung", &hung_url), ("oncall", &receiver.url)]).await;
    collector.sees(Outcome::Failure(FailureKind::Timeout), 20).await;
    // It has taken the connection and says nothing.
    let held = timeout(DEADLINE, hung.accept()).await.unwrap().unwrap();
    assert_eq!(receiver.next().await.json()["status"], "firing");
    for _ in 0..20 {
        collector.sees(Outcome::Reply, 50).await;
    }
    assert_eq!(receiver.next().await.json()["status"], "resolved");
    let waits = collector.items("/api/v1/deliveries?receiver=hung").await;
    assert_eq!(waits.len(), 2, "its firing, and behind it the end");
    assert!(waits.iter().all(|row| row["state"] == "waiting"), "{waits:?}");
    drop(held);
}

/// A receiver that answers as it is told to, then 200.
struct Receiver {
    url: String,
    messages: UnboundedReceiver<Message>,
    /// Ends with this value.
    _server: JoinSet<std::io::Result<()>>,
}

/// What came, its signature verified.
struct Message {
    id: String,
    body: Bytes,
}

impl Receiver {
    async fn listen(answers: Vec<u16>) -> Self {
        let (tell, messages) = unbounded_channel();
        let answers = Arc::new(Mutex::new(answers.into_iter()));
        let webhook = Arc::new(Webhook::new(KEY).unwrap());
        let take = move |headers: HeaderMap, body: Bytes| async move {
            webhook.verify(&body, &headers).unwrap();
            let id = headers["webhook-id"].to_str().unwrap().to_owned();
            tell.send(Message { id, body }).unwrap();
            let answer = answers.lock().unwrap().next().unwrap_or(200);
            StatusCode::from_u16(answer).unwrap()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let serve = axum::serve(listener, Router::new().route("/hook", post(take)));
        let mut server = JoinSet::new();
        server.spawn(serve.into_future());
        Self { url, messages, _server: server }
    }

    async fn next(&mut self) -> Message {
        timeout(DEADLINE, self.messages.recv()).await.expect("a message in time").unwrap()
    }
}

impl Message {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// The real binary, and three agents' worth of batches for it.
struct Collector {
    dir: TempDir,
    process: Child,
    base: String,
    http: reqwest::Client,
    sequence: u64,
}

impl Collector {
    async fn start(receivers: &[(&str, &str)]) -> Self {
        let dir = TempDir::new().unwrap();
        let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(file("secret"), KEY).unwrap();
        std::fs::set_permissions(file("secret"), std::fs::Permissions::from_mode(0o600)).unwrap();
        let mut config = std::fs::read_to_string("../config/collector.toml").unwrap();
        for (name, url) in receivers {
            let secret = file("secret");
            write!(config, "\n[[receiver]]\nname = \"{name}\"\nkind = \"webhook\"\nurl = \"{url}\"\n").unwrap();
            write!(config, "secret_file = \"{secret}\"\nallow_private = true\n").unwrap();
        }
        std::fs::write(file("collector.toml"), config).unwrap();
        drop(rustls::crypto::ring::default_provider().install_default());
        let (process, base) = run(dir.path()).await;
        let http = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().unwrap();
        Self { dir, process, base, http, sequence: 0 }
    }

    async fn kill_and_start(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        (self.process, self.base) = run(self.dir.path()).await;
    }

    /// Every source sees iad's voice server so.
    async fn sees(&mut self, outcome: Outcome, times: usize) {
        self.sequence += 1;
        for source in ["fra", "iad", "syd"] {
            let request = self.http.post(format!("{}/v1/metrics", self.base)).body(batch(source, outcome, times));
            let request = request
                .header("content-type", "application/x-protobuf")
                .header("isochrone-agent", format!("{source}-1"))
                .header("isochrone-boot", "00000000-0000-0000-0000-000000000001")
                .header("isochrone-seq", self.sequence);
            assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
        }
    }

    async fn text(&self, path: &str) -> String {
        self.http.get(format!("{}{path}", self.base)).send().await.unwrap().text().await.unwrap()
    }

    async fn items(&self, path: &str) -> Vec<Value> {
        let list: Value = serde_json::from_str(&self.text(path).await).unwrap();
        list["items"].as_array().unwrap_or_else(|| panic!("{path}: {list}")).clone()
    }

    async fn until(&self, path: &str, is: impl Fn(&[Value]) -> bool) {
        let look = async { while !is(&self.items(path).await) {} };
        timeout(DEADLINE, look).await.unwrap_or_else(|_| panic!("{path} is not as it should be"));
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

async fn run(dir: &Path) -> (Child, String) {
    let (config, address) = (dir.join("collector.toml"), dir.join("address"));
    drop(std::fs::remove_file(&address));
    let process = Command::new(env!("CARGO_BIN_EXE_isochrone-collector"))
        .args(["run", "--listen", "127.0.0.1:0", "--config"])
        .arg(config)
        .args(["--data".as_ref(), dir.join("data").as_os_str(), "--address-file".as_ref(), address.as_os_str()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let bound = async {
        loop {
            match std::fs::read_to_string(&address) {
                Ok(address) if address.contains(':') => return address,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    let address = timeout(DEADLINE, bound).await.expect("an address in time");
    (process, format!("http://{address}"))
}

fn batch(source: &str, outcome: Outcome, times: usize) -> Vec<u8> {
    let now = Clock::start().wall();
    let series = Series {
        agent: format!("{source}-1").parse().unwrap(),
        source: source.parse().unwrap(),
        ..telemetry::sample::series()
    };
    let outcomes = [(outcome, Scratch::default().fold(vec![Duration::from_millis(90); times]))].into();
    let window = Window { begin: now - Duration::from_secs(1), end: now, outcomes };
    let sender =
        Sender { agent: series.agent.clone(), source: series.source.clone(), zone: None, version: "0".to_owned() };
    let subject = Arc::new(Subject { series, address: "127.0.0.1".to_owned(), port: None, transport: "udp" });
    let health = AgentHealth { begin: now, end: now, ..AgentHealth::default() };
    encode(&sender, &[Measured { subject, window }], &health)
}
