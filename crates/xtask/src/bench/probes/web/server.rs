//! The nginx that both sides ask: 2 kB in the clear and over TLS, with a certificate of an authority of the bench's own. Left to
//! itself Debian's speaks TLS 1.2 at most.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::super::super::arena::Arena;
use super::super::super::program::{Core, Program};

pub(in super::super) const HTTP: &str = "127.0.0.1:18080";
pub(in super::super) const HTTPS: &str = "127.0.0.1:18443";
const BYTES: usize = 2048;

pub(in super::super) struct Server {
    nginx: Program,
    authority: PathBuf,
}

impl Server {
    pub(in super::super) fn start(arena: &Arena) -> anyhow::Result<Self> {
        let dir = arena.dir.path();
        certify(dir)?;
        fs::write(dir.join("index.html"), "x".repeat(BYTES)).context("write what is served")?;
        let config = dir.join("nginx.conf");
        fs::write(&config, configuration(dir)).context("write the server's configuration")?;
        let args = ["-e".as_ref(), "stderr".as_ref(), "-c".as_ref(), config.as_os_str()];
        let nginx = Program::start(Core::Other, ("nginx", "nginx".as_ref()), args, dir)?;
        for address in [HTTP, HTTPS] {
            e2e::until("a connection to nginx", Duration::from_secs(10), || TcpStream::connect(address).ok())?;
        }
        Ok(Self { nginx, authority: dir.join("ca.pem") })
    }

    /// Whose certificates to believe.
    pub(in super::super) fn authority(&self) -> PathBuf {
        self.authority.clone()
    }

    pub(in super::super) fn stop(self) -> anyhow::Result<()> {
        self.nginx.stop()
    }
}

fn certify(dir: &Path) -> anyhow::Result<()> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()])?.signed_by(&key, &authority)?;
    for (name, text) in
        [("ca.pem", authority.pem()), ("server.pem", certificate.pem()), ("server.key", key.serialize_pem())]
    {
        fs::write(dir.join(name), text).with_context(|| format!("write {name}"))?;
    }
    Ok(())
}

/// One process, which is the one that was started.
fn configuration(dir: &Path) -> String {
    let dir = dir.display();
    let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let folders = folders.map(|name| format!("{name}_temp_path {dir}/{name};")).join(" ");
    format!(
        "daemon off; master_process off; pid {dir}/nginx.pid; error_log stderr warn;
         events {{ worker_connections 8192; }}
         http {{
           access_log off; keepalive_requests 100000000; default_type text/plain; root {dir};
           {folders}
           server {{
             listen {HTTP} backlog=8192;
             listen {HTTPS} ssl backlog=8192;
             ssl_protocols TLSv1.2 TLSv1.3;
             ssl_certificate {dir}/server.pem; ssl_certificate_key {dir}/server.key; ssl_session_cache off;
           }}
         }}\n"
    )
}
