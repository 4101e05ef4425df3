//! Servers within the test, and probes at them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use telemetry::Outcome;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::dial::{Dialer, Roots};
use super::{Order, Report, Token};
use crate::Config;
use crate::plan::{Addresses, Errand, Plan, Planned, ProbeIndex};

/// Of the authority whose certificates stand in `tests/tls`.
pub(super) const CA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls/ca.pem");

/// A port on which nothing listens.
pub(super) async fn closed() -> SocketAddr {
    listener().await.1
}

pub(super) async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// With a certificate for localhost and 127.0.0.1.
pub(super) fn acceptor(alpn: &[&[u8]]) -> TlsAcceptor {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls");
    let chain = CertificateDer::pem_file_iter(folder.join("server.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// A plan of one probe.
pub(super) fn plan(address: &str, kind: &str, keys: &str) -> Plan {
    let text = format!(
        "region = \"fra\"\nagent = \"fra-1\"\ncollector = \"http://127.0.0.1:1\"\n[[target]]\nid = \"iad-1\"\n\
         service = \"edge\"\nregion = \"iad\"\naddress = \"{address}\"\n[[target.probe]]\nkind = \"{kind}\"\n{keys}\n"
    );
    Plan::new(&Config::parse("agent.toml", text).unwrap(), &Addresses::new())
}

pub(super) fn dialer(planned: &Planned) -> Dialer {
    let (dial, series) = (planned.dial.as_ref().unwrap(), &planned.subject.series);
    Dialer::new(dial, series, None, runtime::Clock::start(), &mut Roots::default()).unwrap()
}

pub(super) fn order(timeout: Duration) -> Order {
    Order { token: Token(1), errand: Errand::Dial(ProbeIndex(0)), timeout }
}

/// Each phase with its outcome, as `connect reply` or `tls timeout`.
pub(super) fn told(report: &Report) -> Vec<String> {
    let Report::Phased { samples, .. } = report else { panic!("{report:?}") };
    let outcome = |outcome| match outcome {
        Outcome::Reply => "reply",
        Outcome::Failure(kind) => kind.as_str(),
    };
    samples.iter().map(|sample| format!("{} {}", sample.aspect.phase, outcome(sample.outcome))).collect()
}

/// The labels of the last phase, as `connection=new`.
pub(super) fn labels(report: &Report) -> Vec<String> {
    let Report::Phased { samples, .. } = report else { panic!("{report:?}") };
    let labels = &samples.last().unwrap().aspect.labels;
    labels.iter().map(|(label, value)| format!("{}={value}", label.as_str())).collect()
}
