//! What a server's certificates say of their own end, also where they are not believed: of an expired one that is the point.
//!
//! A server shows the same chain at each handshake, and one that was believed is not proved again while no certificate of it
//! has ended: that is half of a handshake's signatures. That the server has the key is proved each time.

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
    believed: Mutex<Option<Believed>>,
}

/// The last chain that was proved, for whom, and the span in which the proof holds. Roots are trusted whatever their dates say.
#[derive(Debug)]
struct Believed {
    chain: Vec<CertificateDer<'static>>,
    name: ServerName<'static>,
    proved: UnixTime,
    end: UnixSeconds,
}

impl Witness {
    /// `None`: there are no roots, and nobody is believed.
    pub fn new(roots: Arc<RootCertStore>, provider: Arc<CryptoProvider>) -> Option<Self> {
        let judge = WebPkiServerVerifier::builder_with_provider(roots, provider).build().ok()?;
        Some(Self { judge, shown: Mutex::default(), believed: Mutex::default() })
    }

    /// When what was shown since this was last asked ends.
    pub fn take(&self) -> Option<UnixSeconds> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn show(&self, end: Option<UnixSeconds>) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = end;
    }
}

impl Believed {
    /// Before it was proved nothing is known: somebody has set the clock back.
    fn holds<'a>(
        &self,
        chain: impl Iterator<Item = &'a CertificateDer<'a>>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> bool {
        let in_span = self.proved <= now && i64::try_from(now.as_secs()).is_ok_and(|now| now < self.end.0);
        let bytes = self.chain.iter().map(|certificate| &certificate[..]);
        in_span && self.name == *name && bytes.eq(chain.map(|certificate| &certificate[..]))
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
        let mut believed = self.believed.lock().unwrap_or_else(PoisonError::into_inner);
        let chain = || std::iter::once(end_entity).chain(intermediates);
        if let Some(believed) = believed.as_ref().filter(|believed| believed.holds(chain(), server_name, now)) {
            self.show(Some(believed.end));
            return Ok(ServerCertVerified::assertion());
        }
        let ends: Vec<_> = chain().map(end).collect();
        self.show(ends.iter().copied().flatten().min());
        let verified = self.judge.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        // Of one that we cannot read nobody would notice the end.
        let end = ends.into_iter().collect::<Option<Vec<_>>>().and_then(|ends| ends.into_iter().min());
        *believed = end.map(|end| Believed {
            chain: chain().map(|certificate| certificate.clone().into_owned()).collect(),
            name: server_name.to_owned(),
            proved: now,
            end,
        });
        Ok(verified)
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

/// From then on it proves nothing. `None`: it cannot be read.
fn end(certificate: &CertificateDer<'_>) -> Option<UnixSeconds> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(UnixSeconds(certificate.validity().not_after.timestamp()))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

    use super::*;

    type Issuer = CertifiedIssuer<'static, KeyPair>;

    fn authority(name: &str, year: i32) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = date_time_ymd(year, 1, 1);
        params
    }

    fn root() -> Issuer {
        CertifiedIssuer::self_signed(authority("root", 2200), KeyPair::generate().unwrap()).unwrap()
    }

    fn issued(by: &Issuer, year: i32) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        params.signed_by(&KeyPair::generate().unwrap(), by).unwrap().into()
    }

    fn witness(root: &Issuer) -> Witness {
        let mut roots = RootCertStore::empty();
        roots.add(root.der().clone()).unwrap();
        Witness::new(Arc::new(roots), Arc::new(rustls::crypto::ring::default_provider())).unwrap()
    }

    /// Whether a chain is believed in the summer of a year, and when it is said to end.
    fn shown(witness: &Witness, chain: &[CertificateDer<'_>], name: &'static str, year: i32) -> (bool, Option<String>) {
        let summer = UnixTime::since_unix_epoch(std::time::Duration::from_secs(
            date_time_ymd(year, 7, 1).unix_timestamp().try_into().unwrap(),
        ));
        let name = ServerName::try_from(name).unwrap();
        let believed = witness.verify_server_cert(&chain[0], &chain[1..], &name, &[], summer).is_ok();
        (believed, witness.take().map(|end| end.to_string()))
    }

    fn garbage() -> CertificateDer<'static> {
        CertificateDer::from(vec![0x30, 0x80, 1])
    }

    #[test]
    fn a_chain_ends_with_the_first_of_its_certificates_that_can_be_read() {
        let root = root();
        let chain = [issued(&root, 2100), garbage(), issued(&root, 2030), issued(&root, 2199)];
        assert_eq!(shown(&witness(&root), &chain, "localhost", 2026).1.unwrap(), "2030-01-01T00:00:00Z");
        assert_eq!(shown(&witness(&root), &[garbage()], "localhost", 2026), (false, None));
    }

    #[test]
    fn what_was_believed_once_is_proved_again_when_its_time_its_name_or_any_byte_of_it_is_another() {
        let root = root();
        let between =
            CertifiedIssuer::signed_by(authority("between", 2040), KeyPair::generate().unwrap(), &root).unwrap();
        let good = [issued(&between, 2050), between.der().clone()];
        let end = Some("2040-01-01T00:00:00Z".to_owned());
        let forged = issued(&self::root(), 2050);
        let witness = witness(&root);
        for (chain, name, year, believed) in [
            (&good[..], "localhost", 2030, true),
            (&good[..], "localhost", 2031, true),
            (&good[..], "localhost", 2041, false),
            (&good[..], "localhost", 2031, true),
            (&good[..], "elsewhere", 2031, false),
            (&[forged, between.der().clone()][..], "localhost", 2031, false),
            (&good[..1], "localhost", 2031, false),
            (&good[..], "localhost", 1974, false),
            (&good[..], "localhost", 2029, true),
        ] {
            let year_known = if chain.len() > 1 { end.clone() } else { Some("2050-01-01T00:00:00Z".to_owned()) };
            assert_eq!(shown(&witness, chain, name, year), (believed, year_known), "{name} in {year}");
        }
    }
}
