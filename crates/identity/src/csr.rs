//! Certificate requests. Nothing of one is believed but its public key, and that its sender holds the private half.
//!
//! What a request asks for (names, `CA:TRUE`, validity, usages) is not even kept.

use rcgen::{CertificateParams, CertificateSigningRequestParams, DistinguishedName, PublicKeyData, SubjectPublicKeyInfo};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY};
use x509_parser::prelude::FromDer;

use crate::fingerprint::Fingerprint;
use crate::key::KeyPair;

/// The longest request, in bytes of PEM.
pub const MAX_BYTES: usize = 16 << 10;

/// A request whose signature was checked: a public P-256 key.
#[derive(Clone, Debug)]
pub struct Csr {
    public_key: SubjectPublicKeyInfo,
}

/// Why a request was refused.
#[derive(Debug, thiserror::Error)]
pub enum CsrError {
    /// Over the bound.
    #[error("certificate request of {0} bytes; at most {MAX_BYTES} are taken")]
    TooLong(usize),
    /// No PEM `CERTIFICATE REQUEST`.
    #[error("no certificate request in PEM")]
    NotPem,
    /// Not a PKCS#10 request, or one whose signature does not fit its key.
    #[error("certificate request refused: {0}")]
    Refused(#[from] rcgen::Error),
    /// Another kind of key.
    #[error("certificate request for a key that is not P-256")]
    NotP256,
}

impl Csr {
    /// Makes a request for a key, as PEM. It asks for nothing.
    ///
    /// # Errors
    /// Where signing fails.
    pub fn request(key: &KeyPair) -> Result<String, CsrError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        Ok(params.serialize_request(&key.inner)?.pem()?)
    }

    /// Reads a request and checks that its sender holds the key.
    ///
    /// # Errors
    /// See [`CsrError`].
    pub fn parse(pem: &str) -> Result<Self, CsrError> {
        if pem.len() > MAX_BYTES {
            return Err(CsrError::TooLong(pem.len()));
        }
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).map_err(|_| CsrError::NotPem)?;
        // Checks the signature. What it read beside the key is dropped here.
        let checked = CertificateSigningRequestParams::from_der(&der)?;
        // The algorithm above is the signature's; the key's own is looked at here, so that a certificate never names another.
        let (_, request) = X509CertificationRequest::from_der(&der).map_err(|_| CsrError::NotPem)?;
        let subject_key = &request.certification_request_info.subject_pki;
        let curve = subject_key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        let is_p256 = subject_key.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY && curve.as_ref() == Some(&OID_EC_P256);
        let point = &subject_key.subject_public_key.data;
        if !is_p256 || point.len() != 65 || point.first() != Some(&4) || checked.public_key.der_bytes() != point.as_ref() {
            return Err(CsrError::NotP256);
        }
        Ok(Self { public_key: SubjectPublicKeyInfo::from_der(subject_key.raw)? })
    }

    /// The key that asks; compare it with the one of the certificate that is renewed.
    #[must_use]
    pub fn key_fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.public_key.subject_public_key_info())
    }

    pub(crate) fn public_key(&self) -> &SubjectPublicKeyInfo {
        &self.public_key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_carries_its_key_and_no_names() {
        let key = KeyPair::generate().unwrap();
        let pem = Csr::request(&key).unwrap();
        assert_eq!(Csr::parse(&pem).unwrap().key_fingerprint(), key.fingerprint());
    }

    #[test]
    fn every_tampered_byte_of_what_is_signed_is_noticed_and_no_other_brings_another_key() {
        let key = KeyPair::generate().unwrap();
        let pem = Csr::request(&key).unwrap();
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec();
        let (_, parsed) = X509CertificationRequest::from_der(&der).unwrap();
        // The outer header, then what is signed, then the algorithm's name and the signature, which no signature covers.
        let signed = 3..3 + parsed.certification_request_info.raw.len();
        let mut refused = 0;
        for at in 0..der.len() {
            let mut tampered = der.clone();
            tampered[at] ^= 0x01;
            match Csr::parse(&pem_of(&tampered)) {
                Err(_) => refused += 1,
                Ok(csr) => {
                    assert!(!signed.contains(&at), "byte {at} was changed");
                    assert_eq!(csr.key_fingerprint(), key.fingerprint(), "byte {at} was changed");
                }
            }
        }
        assert!(refused > der.len() * 9 / 10, "{refused} of {} refused", der.len());
    }

    #[test]
    fn a_request_that_openssl_made_is_taken() {
        // openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x
        let pem = "-----BEGIN CERTIFICATE REQUEST-----\n\
                   MIHGMG4CAQAwDDEKMAgGA1UEAwwBeDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IA\n\
                   BHo3a9Lza9CpKhHSHhrcZNfHSNMAANv8f2dDKmY74+Bu4gi30CQKGlQ2LMN0erVV\n\
                   anANHtIGgTBpGc07PY6Q3tCgADAKBggqhkjOPQQDAgNIADBFAiEAgcj71cxYMyDc\n\
                   ibjS5Lrd6fB+iSnoXJZ7zBPy1mIUAfQCIGaqyUHQlEnT8lQBLUaIRCfwrS57Rd9z\n\
                   fgtrbsXDO55i\n\
                   -----END CERTIFICATE REQUEST-----\n\
                   ";
        assert!(Csr::parse(pem).is_ok());
    }

    #[test]
    fn what_is_no_p256_request_is_refused() {
        let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let ed25519 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        for key in [p384, ed25519] {
            let pem = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
            assert!(matches!(Csr::parse(&pem), Err(CsrError::NotP256)));
        }
        for text in ["", "-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n", &pem_of(&[0x30, 0x82, 0xff, 0xff])] {
            assert!(Csr::parse(text).is_err(), "{text}");
        }
        assert!(matches!(Csr::parse(&"x".repeat(MAX_BYTES + 1)), Err(CsrError::TooLong(_))));
    }

    fn pem_of(der: &[u8]) -> String {
        use base64::Engine;
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n")
    }
}
