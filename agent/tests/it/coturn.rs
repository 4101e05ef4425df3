//! `probe stun` against coturn from Debian: a server that is none of ours, over either family.

use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use protocols::stun::{TransactionId, parse_success, request};
use tempfile::TempDir;

use crate::by_hand::probe;
use crate::collector::until;

struct Coturn {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl Coturn {
    async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let port = free_port();
        let mut process = Command::new(program())
            .args(["-n", "--stun-only", "--no-auth", "--no-cli", "--no-tls", "--no-dtls", "--no-tcp", "--simple-log"])
            .args(["--listening-ip", "127.0.0.1", "--listening-ip", "::1", "--log-file", "stdout"])
            .args(["--listening-port", &port.to_string()])
            .arg("--pidfile")
            .arg(folder.path().join("pid"))
            .arg("--userdb")
            .arg(folder.path().join("db"))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        until("coturn answers", || {
            assert_eq!(process.try_wait().unwrap(), None, "coturn ended");
            ["127.0.0.1", "::1"].into_iter().all(|host| answers(host, port))
        })
        .await;
        Self { process, port, _folder: folder }
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// In the path, or where Debian's servers are, which is in root's path alone.
fn program() -> PathBuf {
    let runs = |program: &PathBuf| Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok();
    let places = ["turnserver", "/usr/sbin/turnserver"].map(PathBuf::from);
    places.into_iter().find(runs).expect("turnserver is missing: apt-get install coturn")
}

/// Free a moment ago: coturn takes no port 0.
fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn answers(host: &str, port: u16) -> bool {
    let client = UdpSocket::bind((host, 0)).unwrap();
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    client.connect((host, port)).unwrap();
    let id = TransactionId([7; 12]);
    let mut packet = [0; 512];
    let answer = client.send(&request(id)).and_then(|_| client.recv(&mut packet));
    answer.is_ok_and(|length| parse_success(&packet[..length]).is_ok_and(|said| said.transaction == id))
}

#[tokio::test]
async fn coturn_answers_every_binding_over_either_family() {
    let coturn = Coturn::start().await;
    for host in ["127.0.0.1", "[::1]"] {
        let address = format!("{host}:{}", coturn.port);
        let (told, code) = probe(&["stun", &address, "--count", "20", "--every", "20ms", "--timeout", "10s"]);
        assert_eq!((&told["sent"], &told["received"], &told["lost"]), (&20.into(), &20.into(), &0.into()), "{told}");
        assert!(told["phases"]["rtt"]["p50_ms"].as_f64().is_some_and(|millis| millis > 0.0), "{told}");
        assert_eq!((&told["address"], code), (&address.into(), Some(0)));
    }
}
