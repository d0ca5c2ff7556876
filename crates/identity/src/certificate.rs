//! What stands in a certificate that counts here, and when to renew one.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine;
use muster_common::time::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::fingerprint::Fingerprint;
use crate::identity::{Identity, NotOurs, TrustDomain};

/// Certificates begin so much before they are issued: clocks differ, and one that was an hour ahead is set back.
pub const BACKDATE: Duration = Duration::from_secs(2 * 3_600);

/// The longest serial number that is read, in bytes (RFC 5280, 4.1.2.2).
const MAX_SERIAL: usize = 20;

/// A certificate's serial number: lower-case hexadecimal, two digits a byte, no sign byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(String);

/// A text that is no serial number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no serial number; expected 2 to 40 lower-case hexadecimal digits")]
pub struct InvalidSerial {
    text: String,
}

impl Serial {
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let without_sign = if let [0, rest @ ..] = bytes { rest } else { bytes };
        Self(hex::encode(without_sign))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Serial {
    type Err = InvalidSerial;

    fn from_str(text: &str) -> Result<Self, InvalidSerial> {
        let lower_hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if lower_hex && text.len().is_multiple_of(2) && (2..=2 * MAX_SERIAL).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidSerial { text: text.chars().take(60).collect() })
        }
    }
}

/// A certificate that was checked against the CA (by TLS or by [`crate::receipt`]): who it speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Whose it is.
    pub identity: Identity,
    /// Its number.
    pub serial: Serial,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
    /// Of its public key; the same over all renewals.
    pub key_fingerprint: Fingerprint,
    /// Its public key: an uncompressed P-256 point.
    pub public_key: Vec<u8>,
    /// The trusted CA that signed it. `None`: nobody looked.
    pub authority: Option<Fingerprint>,
}

/// A certificate that says nothing we understand.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Not a certificate in PEM or DER.
    #[error("no certificate: {0}")]
    Unreadable(String),
    /// Exactly one URI is expected among its alternative names.
    #[error("certificate {serial} names {count} URIs, not one")]
    NoSingleUri {
        /// Which.
        serial: Serial,
        /// How many were found.
        count: usize,
    },
    /// A CA where a leaf is expected.
    #[error("certificate {0} may sign others; it speaks for nobody")]
    IsAuthority(Serial),
    /// No CA where one is expected.
    #[error("certificate {0} is no CA")]
    NotAuthority(Serial),
    /// The URI is not one of ours.
    #[error(transparent)]
    NotOurs(#[from] NotOurs),
}

impl PeerCertificate {
    /// Reads a leaf. It does **not** check who signed it.
    ///
    /// # Errors
    /// See [`CertificateError`].
    pub fn from_der(der: &[u8], trust_domain: &TrustDomain) -> Result<Self, CertificateError> {
        let certificate = parse(der)?;
        let serial = Serial::from_bytes(certificate.raw_serial());
        if certificate.is_ca() {
            return Err(CertificateError::IsAuthority(serial));
        }
        let uri = single_uri(&certificate, &serial)?;
        let identity = Identity::from_uri(uri, trust_domain)?;
        let validity = certificate.validity();
        Ok(Self {
            identity,
            serial,
            not_before: timestamp(validity.not_before.timestamp()),
            not_after: timestamp(validity.not_after.timestamp()),
            key_fingerprint: Fingerprint::of(certificate.public_key().raw),
            public_key: certificate.public_key().subject_public_key.data.to_vec(),
            authority: None,
        })
    }

    /// When to renew it.
    #[must_use]
    pub fn renew_at(&self) -> Timestamp {
        renew_at(self.not_before, self.not_after)
    }

    /// Whether `now` is past its end.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now > self.not_after
    }
}

/// When a third of a certificate's life since it was issued has passed: day 10 of 30.
#[must_use]
pub fn renew_at(not_before: Timestamp, not_after: Timestamp) -> Timestamp {
    let issued = not_before.plus(BACKDATE).min(not_after);
    issued.plus(not_after.since(issued) / 3)
}

/// The trust domain of a CA's certificate: the URI among its alternative names.
///
/// # Errors
/// Where it is no CA of ours.
pub fn trust_domain_of(authority: &[u8]) -> Result<TrustDomain, CertificateError> {
    let certificate = parse(authority)?;
    let serial = Serial::from_bytes(certificate.raw_serial());
    if !certificate.is_ca() {
        return Err(CertificateError::NotAuthority(serial));
    }
    let uri = single_uri(&certificate, &serial)?;
    let domain = uri.strip_prefix("spiffe://").unwrap_or_default();
    domain.parse().map_err(|error| CertificateError::Unreadable(format!("CA {serial}: {error}")))
}

/// The end of a certificate's life.
///
/// # Errors
/// Where it cannot be read.
pub fn not_after_of(der: &[u8]) -> Result<Timestamp, CertificateError> {
    Ok(timestamp(parse(der)?.validity().not_after.timestamp()))
}

/// Of a certificate's public key.
///
/// # Errors
/// Where it cannot be read.
pub fn key_fingerprint_of(der: &[u8]) -> Result<Fingerprint, CertificateError> {
    Ok(Fingerprint::of(parse(der)?.public_key().raw))
}

/// All certificates of a PEM text, in its order.
///
/// # Errors
/// Where a block is broken, or there is none.
pub fn chain_from_pem(pem: &str) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(CertificateError::Unreadable("no CERTIFICATE block in the PEM text".to_owned())),
        Ok(chain) => Ok(chain),
        Err(error) => Err(CertificateError::Unreadable(error.to_string())),
    }
}

/// Certificates as PEM, in their order.
#[must_use]
pub fn pem_of(chain: &[CertificateDer<'_>]) -> String {
    let mut text = String::new();
    for certificate in chain {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let body = base64::engine::general_purpose::STANDARD.encode(certificate);
        for line in body.as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|error| CertificateError::Unreadable(error.to_string()))?;
    if rest.is_empty() { Ok(certificate) } else { Err(CertificateError::Unreadable("bytes behind its end".to_owned())) }
}

fn single_uri<'a>(certificate: &'a X509Certificate<'a>, serial: &Serial) -> Result<&'a str, CertificateError> {
    let names = certificate.extensions().iter().filter_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
        _ => None,
    });
    let uris: Vec<&str> = names
        .flatten()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    match uris.as_slice() {
        [uri] => Ok(uri),
        _ => Err(CertificateError::NoSingleUri { serial: serial.clone(), count: uris.len() }),
    }
}

pub(crate) fn timestamp(seconds: i64) -> Timestamp {
    Timestamp(seconds.saturating_mul(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000_000;

    #[test]
    fn a_certificate_of_30_days_is_renewed_on_day_10() {
        let issued = Timestamp(1_000 * DAY);
        let not_before = Timestamp(issued.0 - 7_200_000_000);
        assert_eq!(renew_at(not_before, Timestamp(issued.0 + 30 * DAY)), Timestamp(issued.0 + 10 * DAY));
    }

    #[test]
    fn a_life_shorter_than_the_backdating_is_renewed_before_it_ends() {
        let renew = renew_at(Timestamp(0), Timestamp(60_000_000));
        assert!(renew <= Timestamp(60_000_000));
    }

    #[test]
    fn serials_are_written_without_a_sign_byte() {
        assert_eq!(Serial::from_bytes(&[0, 0xff, 1]).to_string(), "ff01");
        assert!("FF01".parse::<Serial>().is_err());
        assert_eq!("ff01".parse(), Ok(Serial::from_bytes(&[0xff, 1])));
    }
}
