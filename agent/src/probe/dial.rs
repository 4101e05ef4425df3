//! Opens connections for probes that time how: the phases `dns` (where the host is a name; an address has none), `connect`
//! and `tls` (where there is one). Names are asked for again at each connection, and nothing of an earlier TLS session is
//! resumed, so that every connection costs what a stranger's costs.

use std::fmt::Display;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CipherSuite, ClientConfig, RootCertStore};
use telemetry::{FailureKind, Family, Series};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tracing::warn;

use super::certificate::Witness;
use super::phases::{Fault, Phases};
use super::why::Why;
use super::{errno, tcp};
use crate::config::{self, Secure};
use crate::endpoint::{Host, family};
use crate::names::{Answer, Resolver};
use crate::plan::{Dial, Purpose};

/// What a probe speaks over.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub struct Dialer {
    pub clock: runtime::Clock,
    pub why: Why,
    host: Host,
    port: u16,
    pinned: Option<IpAddr>,
    resolver: Option<SocketAddr>,
    family: Family,
    source: Option<IpAddr>,
    tls: Option<Tls>,
}

struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
    witness: Option<Arc<Witness>>,
}

/// A connection, and the protocol that its ends agreed on by ALPN.
pub struct Dialled {
    pub stream: Box<dyn Stream>,
    pub agreed: Option<Vec<u8>>,
}

/// The system's roots, read once, when a probe needs them.
#[derive(Default)]
pub struct Roots(Option<Arc<RootCertStore>>);

impl Dialer {
    /// `None`: what the plan asks for cannot be, and the log says why.
    pub fn new(
        dial: &Dial,
        series: &Series,
        source: Option<IpAddr>,
        clock: runtime::Clock,
        roots: &mut Roots,
        why: Why,
    ) -> Option<Self> {
        let Dial { host, port, pinned, resolver, purpose } = dial;
        let (secure, alpn) = match purpose {
            Purpose::Tls(secure) => (Some(secure), &[][..]),
            Purpose::Http(http) => (http.tls.as_ref(), super::http::alpn(http.version)),
            Purpose::GatewayConnection(gateway) | Purpose::GatewayBeat(gateway) => (gateway.tls.as_ref(), &[][..]),
        };
        let tls = match secure.map(|secure| tls(secure, host, alpn, roots)).transpose() {
            Ok(tls) => tls,
            Err(error) => {
                warn!(target = %series.target, %error, "no TLS for this target; its probes are missed");
                return None;
            }
        };
        let (host, port, pinned, resolver, family) = (host.clone(), *port, *pinned, *resolver, series.family);
        Some(Self { clock, why, host, port, pinned, resolver, family, source, tls })
    }

    /// The phases that it passes.
    pub fn phases(&self) -> impl Iterator<Item = &'static str> {
        let dns = (self.pinned.is_none() && matches!(self.host, Host::Name(_))).then_some("dns");
        dns.into_iter().chain(["connect"]).chain(self.tls.as_ref().map(|_| "tls"))
    }

    /// As a request names it: the port only where the scheme does not imply it.
    pub fn authority(&self, server_name: Option<&Host>) -> String {
        let host = match server_name.unwrap_or(&self.host) {
            Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
            host => host.to_string(),
        };
        let implied = if self.tls.is_some() { 443 } else { 80 };
        if self.port == implied { host } else { format!("{host}:{}", self.port) }
    }

    pub async fn dial(&self, phases: &mut Phases) -> Result<Dialled, Fault> {
        let address = match (&self.host, self.pinned) {
            (Host::Address(address), _) => *address,
            (Host::Name(_), Some(pinned)) => pinned,
            (Host::Name(name), None) => {
                let address = self.look_up(name).await?;
                phases.passed();
                address
            }
        };
        let to = SocketAddr::new(address, self.port);
        let socket = tcp::socket(to, self.source).map_err(|error| ours(&error))?;
        let stream = socket.connect(to).await.map_err(|error| failed(&error))?;
        stream.set_nodelay(true).map_err(|error| ours(&error))?;
        phases.passed();
        let Some(Tls { connector, name, witness }) = &self.tls else {
            return Ok(Dialled { stream: Box::new(stream), agreed: None });
        };
        let stream = connector.connect(name.clone(), stream).await;
        phases.certified(witness.as_ref().and_then(|witness| witness.take()));
        let stream = stream.map_err(|error| self.why.fault(handshake_failure(&error), &error))?;
        phases.passed();
        let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        Ok(Dialled { stream: Box::new(stream), agreed })
    }

    /// The first address of the family that the series is of.
    async fn look_up(&self, name: &str) -> Result<IpAddr, Fault> {
        let failed = |reason: &dyn Display| self.why.fault(FailureKind::Dns, reason);
        let missing = || failed(&format_args!("{name} has no {} address", self.family.as_str()));
        if let Some(server) = self.resolver {
            let answer = Resolver::new(Some(server)).ask(name, self.family).await;
            let Answer::Found { addresses, .. } = answer else { return Err(missing()) };
            return addresses.first().copied().ok_or_else(missing);
        }
        let found = tokio::net::lookup_host((name, 0)).await.map_err(|error| failed(&error))?;
        found.map(|address| address.ip()).find(|ip| family(*ip) == self.family).ok_or_else(missing)
    }
}

impl Roots {
    fn of(&mut self, roots: &config::Roots) -> Arc<RootCertStore> {
        match roots {
            config::Roots::Given(certificates) => store(certificates.iter().cloned()),
            config::Roots::System => self.0.get_or_insert_with(system).clone(),
        }
    }
}

fn system() -> Arc<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        warn!(errors = ?found.errors, "this machine has no root certificates; without ca_file, tls fails everywhere");
    }
    store(found.certs)
}

fn store(certificates: impl IntoIterator<Item = CertificateDer<'static>>) -> Arc<RootCertStore> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates);
    Arc::new(store)
}

#[derive(Debug, thiserror::Error)]
enum TlsError {
    #[error("{0} can be no server's name")]
    Name(String),
    #[error("choose the versions of TLS: {0}")]
    Versions(rustls::Error),
}

fn tls(secure: &Secure, host: &Host, alpn: &[&[u8]], roots: &mut Roots) -> Result<Tls, TlsError> {
    let name = secure.server_name.as_ref().unwrap_or(host).to_string();
    let name = ServerName::try_from(name.clone()).map_err(|_| TlsError::Name(name))?;
    let provider = Arc::new(provider());
    let roots = roots.of(&secure.roots);
    let witness = Witness::new(roots.clone(), provider.clone()).map(Arc::new);
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Versions)?;
    let builder = match witness.clone() {
        Some(witness) => builder.dangerous().with_custom_certificate_verifier(witness),
        None => builder.with_root_certificates(roots),
    };
    let mut config = builder.with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Tls { connector: TlsConnector::from(Arc::new(config)), name, witness })
}

/// With AES-128 first, as browsers have it: processors compute its SHA-256, and not the SHA-384 that rustls would rather have.
fn provider() -> CryptoProvider {
    const FIRST: [CipherSuite; 3] = [
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ];
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| !FIRST.contains(&suite.suite()));
    provider
}

/// What opening a connection failed of.
fn failed(error: &io::Error) -> Fault {
    match tcp::failure(errno(error)) {
        Ok(kind) => Fault::Failure(kind),
        Err(fault) => Fault::Ours(fault),
    }
}

/// Once there is a connection, nothing that goes wrong is ours.
fn handshake_failure(error: &io::Error) -> FailureKind {
    tcp::failure(errno(error)).unwrap_or(FailureKind::Tls)
}

fn ours(error: &io::Error) -> Fault {
    Fault::Ours(super::SendFault::Kernel(errno(error)))
}
