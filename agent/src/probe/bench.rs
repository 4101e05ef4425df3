//! Servers within the test, and probes at them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use telemetry::Outcome;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::dial::{Dialer, Roots};
use super::why::Why;
use super::{Order, Report, Token};
use crate::Config;
use crate::names::Addresses;
use crate::plan::{Errand, Plan, Planned, ProbeIndex};

/// An authority that lasts as long as the test, and a certificate of its for localhost and 127.0.0.1.
pub(super) struct Authority {
    folder: TempDir,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

/// A port on which nothing listens.
pub(super) async fn closed() -> SocketAddr {
    listener().await.1
}

pub(super) async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

impl Authority {
    pub(super) fn new() -> Self {
        Self::until(2100)
    }

    /// Its certificate ends with that year's first day.
    pub(super) fn until(year: i32) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();

        let key = KeyPair::generate().unwrap();
        let mut named = CertificateParams::new(["localhost", "127.0.0.1"].map(str::to_owned)).unwrap();
        named.not_after = date_time_ymd(year, 1, 1);
        let certificate = named.signed_by(&key, &authority).unwrap().into();
        Self { folder, certificate, key: PrivatePkcs8KeyDer::from(key.serialize_der()).into() }
    }

    /// The key of a configuration by which a probe trusts it.
    pub(super) fn trusted(&self) -> String {
        format!("ca_file = \"{}\"", self.folder.path().join("ca.pem").display())
    }

    pub(super) fn acceptor(&self, alpn: &[&[u8]]) -> TlsAcceptor {
        let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let mut config = builder.with_single_cert(vec![self.certificate.clone()], self.key.clone_key()).unwrap();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
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
    Dialer::new(dial, series, None, runtime::Clock::start(), &mut Roots::default(), Why::default()).unwrap()
}

pub(super) fn order(timeout: Duration) -> Order {
    Order { token: Token(1), errand: Errand::Dial(ProbeIndex(0)), timeout, way: super::Way::default() }
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
