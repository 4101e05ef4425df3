//! What a server's certificates say of their own end, also where they are not believed: of an expired one that is the point.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use telemetry::UnixSeconds;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Believes what rustls believes, and remembers what it was shown.
#[derive(Debug)]
pub struct Witness {
    judge: Arc<WebPkiServerVerifier>,
    shown: Mutex<Option<UnixSeconds>>,
}

impl Witness {
    /// `None`: there are no roots, and nobody is believed.
    pub fn new(roots: Arc<RootCertStore>, provider: Arc<CryptoProvider>) -> Option<Self> {
        let judge = WebPkiServerVerifier::builder_with_provider(roots, provider).build().ok()?;
        Some(Self { judge, shown: Mutex::default() })
    }

    /// When what was shown since this was last asked ends.
    pub fn take(&self) -> Option<UnixSeconds> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let end = earliest_end(std::iter::once(end_entity).chain(intermediates));
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = end;
        self.judge.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}

/// When the first certificate of a chain ends: from then on the chain proves nothing. One that cannot be read is passed over.
fn earliest_end<'a>(chain: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> Option<UnixSeconds> {
    let end = |der: &CertificateDer<'_>| {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        Some(UnixSeconds(certificate.validity().not_after.timestamp()))
    };
    chain.into_iter().filter_map(end).min()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn until(year: i32) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().into()
    }

    #[test]
    fn a_chain_ends_with_the_first_of_its_certificates_that_can_be_read() {
        let garbage = || CertificateDer::from(vec![0x30, 0x80, 1]);
        let end = earliest_end(&[until(2100), garbage(), until(2030), until(9999)]);
        assert_eq!(end.unwrap().to_string(), "2030-01-01T00:00:00Z");
        assert_eq!(earliest_end(&[garbage()]), None);
        assert_eq!(earliest_end(&[]), None);
    }
}
