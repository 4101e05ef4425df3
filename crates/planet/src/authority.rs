//! The planet's own certificate authority. It lasts as long as the planet; who is to trust it is given [`Authority::pem`].

use std::net::Ipv4Addr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("make a certificate")]
    Certificate(#[from] rcgen::Error),
    #[error("set up TLS")]
    Tls(#[from] rustls::Error),
}

impl Authority {
    pub fn new() -> Result<Self, Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "Isochrone planet");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)? })
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// For a server at that address. TLS 1.3 alone, of which a server's part is one flight; and no session is ever resumed, so
    /// that every connection costs the same.
    pub fn server(&self, address: Ipv4Addr, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.subject_alt_names.push(SanType::IpAddress(address.into()));
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.into();
        let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder = builder.with_protocol_versions(&[&TLS13])?.with_no_client_auth();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let mut config = builder.with_single_cert(vec![certificate], key.into())?;
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// For a client that trusts this authority and no other.
    pub fn client(&self) -> Result<Arc<ClientConfig>, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone())?;
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder = builder.with_protocol_versions(&[&TLS13])?;
        Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
    }
}
