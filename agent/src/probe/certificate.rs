//! What a server's certificates say of their own end.

use rustls::pki_types::CertificateDer;
use telemetry::UnixSeconds;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// When the first certificate of a chain ends: from then on the chain proves nothing. One that cannot be read is passed over.
pub fn earliest_end(chain: &[CertificateDer<'_>]) -> Option<UnixSeconds> {
    let end = |der: &CertificateDer<'_>| {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        Some(UnixSeconds(certificate.validity().not_after.timestamp()))
    };
    chain.iter().filter_map(end).min()
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
