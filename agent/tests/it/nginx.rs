//! `probe http` against nginx from Debian, and against what goes wrong on the way to one: each its own reason.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use serde_json::Value;
use tempfile::TempDir;

use crate::by_hand::probe;
use crate::collector::until;

/// One nginx with two servers: a good one, and one whose certificate has expired.
struct Nginx {
    process: Child,
    folder: TempDir,
    good: u16,
    expired: u16,
}

impl Nginx {
    async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        write_certificates(folder.path());
        fs::write(folder.path().join("object.bin"), vec![7; 16 << 10]).unwrap();
        let [good, expired] = free_ports();
        fs::write(folder.path().join("nginx.conf"), configuration(good, expired)).unwrap();
        let mut process = Command::new(program())
            .arg("-p")
            .arg(folder.path())
            .args(["-e", "stderr", "-c", "nginx.conf"])
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        until("nginx answers", || {
            assert_eq!(process.try_wait().unwrap(), None, "nginx ended; what it said stands above");
            [good, expired].into_iter().all(|port| TcpStream::connect(("127.0.0.1", port)).is_ok())
        })
        .await;
        Self { process, folder, good, expired }
    }

    /// Twenty requests by the real binary, which trusts the test's authority.
    fn probed(&self, host: &str, port: u16, more: &[&str]) -> Value {
        let (address, authority) = (format!("{host}:{port}"), self.folder.path().join("ca.pem"));
        let paces = ["--count", "20", "--every", "20ms", "--timeout", "10s"];
        let whom = ["http", &address, "--ca-file", authority.to_str().unwrap()];
        probe(&[&whom[..], &paces, more].concat()).0
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// In the path, or where Debian puts it, which is in root's path alone.
fn program() -> PathBuf {
    let runs = |program: &Path| Command::new(program).arg("-v").stderr(Stdio::null()).status().is_ok();
    let places = ["nginx", "/usr/sbin/nginx"].map(PathBuf::from);
    places.into_iter().find(|place| runs(place)).expect("nginx is missing: apt-get install nginx-light")
}

/// Free a moment ago: nginx takes no port 0.
fn free_ports() -> [u16; 2] {
    let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

fn configuration(good: u16, expired: u16) -> String {
    let temporary =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|of| format!("{of}_temp_path temp-{of};\n"));
    let server = |port, name| {
        format!(
            "server {{ listen 127.0.0.1:{port} ssl http2; root .; ssl_certificate {name}.pem; ssl_certificate_key key.pem; }}\n"
        )
    };
    let servers = [server(good, "good"), server(expired, "expired")].concat();
    format!(
        "daemon off;\nmaster_process off;\npid nginx.pid;\nevents {{}}\nhttp {{\naccess_log off;\nlog_not_found off;\n{}{servers}}}\n",
        temporary.concat()
    )
}

/// An authority, and two certificates of its for localhost and 127.0.0.1.
fn write_certificates(folder: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
    for (name, year) in [("good", 2099), ("expired", 2020)] {
        let mut params = CertificateParams::new(["localhost", "127.0.0.1"].map(str::to_owned)).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        fs::write(folder.join(format!("{name}.pem")), params.signed_by(&key, &authority).unwrap().pem()).unwrap();
    }
}

/// Every probe that was sent came back, and each phase has a time; of one connection the others are reused.
fn assert_whole(told: &Value, phases: &[&str]) {
    assert_eq!((&told["sent"], &told["received"], &told["lost"]), (&20.into(), &20.into(), &0.into()), "{told}");
    for phase in phases {
        assert!(told["phases"][phase]["p50_ms"].as_f64().is_some_and(|millis| millis > 0.0), "{phase} in {told}");
    }
    assert_eq!(told["phases"]["first_byte"]["count"], 20, "{told}");
    assert_eq!(told["certificate_not_after"], "2099-01-01T00:00:00Z");
}

#[tokio::test]
async fn nginx_is_measured_over_http_1_1_and_2_without_a_loss() {
    let nginx = Nginx::start().await;
    for version in ["1.1", "2"] {
        let told = nginx.probed("127.0.0.1", nginx.good, &["--version", version, "--path", "/object.bin"]);
        assert_whole(&told, &["connect", "tls", "first_byte", "transfer"]);
        assert_eq!(told["labels"]["version"], version);
        assert_eq!(told["phases"]["dns"], Value::Null, "an address has none");
    }
    let told = nginx.probed("localhost", nginx.good, &["--path", "/object.bin"]);
    assert_whole(&told, &["dns", "connect", "tls", "first_byte", "transfer"]);
    assert_eq!(told["labels"]["version"], "2", "as both ends agree");
}

#[tokio::test]
async fn what_goes_wrong_on_the_way_to_a_server_has_its_own_reason() {
    let nginx = Nginx::start().await;
    let missing = nginx.probed("127.0.0.1", nginx.good, &["--path", "/absent"]);
    assert_eq!(missing["errors"], serde_json::json!({ "status": 20 }));
    assert_eq!(missing["reasons"], serde_json::json!({ "status": "404 Not Found" }));
    let expired = nginx.probed("127.0.0.1", nginx.expired, &[]);
    assert_eq!(expired["errors"], serde_json::json!({ "tls": 20 }));
    assert!(expired["reasons"]["tls"].as_str().is_some_and(|words| words.contains("certificate expired")), "{expired}");
    let in_the_clear = nginx.probed("127.0.0.1", nginx.good, &["--no-tls"]);
    assert_eq!(in_the_clear["reasons"], serde_json::json!({ "status": "400 Bad Request" }), "{in_the_clear}");
    assert_eq!(expired["certificate_not_after"], "2020-01-01T00:00:00Z");

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = (silent.local_addr().unwrap().to_string(), silent);
    let [closed, _] = free_ports().map(|port| format!("127.0.0.1:{port}"));
    for (address, reason) in [(&*closed, "refused"), ("nobody.invalid:443", "dns"), (&*silent.0, "timeout")] {
        let (told, code) = probe(&["http", address, "--count", "2", "--every", "10ms"]);
        assert_eq!(told["errors"], serde_json::json!({ reason: 2 }), "{address}");
        assert_eq!((&told["received"], code), (&0.into(), Some(1)));
    }
}
