//! The CAs that are trusted: one, and two while the first is being replaced.
//!
//! What always holds: there is one at least, each once; all are of one trust domain. A certificate that signed another one of the same text
//! is no anchor: it is there for clients that are not ours and know the root alone.

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::certificate::{self, CertificateError};
use crate::fingerprint::Fingerprint;
use crate::identity::TrustDomain;
use crate::verifier;

/// The most CAs that are trusted at once.
const MOST: usize = 8;

/// The CAs that are trusted. The first is the one in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trusted {
    anchors: Vec<CertificateDer<'static>>,
    trust_domain: TrustDomain,
}

impl Trusted {
    /// One CA.
    ///
    /// # Errors
    /// Where it is no CA of ours.
    pub fn one(authority: CertificateDer<'static>) -> Result<Self, CertificateError> {
        let trust_domain = certificate::trust_domain_of(&authority)?;
        Ok(Self { anchors: vec![authority], trust_domain })
    }

    /// Those of a PEM text.
    ///
    /// # Errors
    /// Where it holds none, too many, or one of another trust domain.
    pub fn from_pem(pem: &str) -> Result<Self, CertificateError> {
        let all = certificate::chain_from_pem(pem)?;
        if all.len() > 2 * MOST {
            return Err(CertificateError::Unreadable(format!("{} CAs; at most {MOST} are trusted at once", all.len())));
        }
        let parsed = all.iter().map(|der| certificate::parse(der)).collect::<Result<Vec<_>, _>>()?;
        let has_signed =
            |this: &[u8]| parsed.iter().any(|other| other.issuer().as_raw() == this && other.subject().as_raw() != other.issuer().as_raw());
        let mut anchors: Vec<CertificateDer<'static>> = Vec::new();
        for (der, certificate) in all.iter().zip(&parsed) {
            if !has_signed(certificate.subject().as_raw()) && !anchors.contains(der) {
                anchors.push(der.clone());
            }
        }
        let mut domains = anchors.iter().map(|anchor| certificate::trust_domain_of(anchor));
        let trust_domain = domains.next().unwrap_or_else(|| Err(CertificateError::Unreadable("no CA".to_owned())))?;
        for domain in domains {
            let domain = domain?;
            if domain != trust_domain {
                return Err(CertificateError::Unreadable(format!("CAs of two trust domains, {trust_domain} and {domain}")));
            }
        }
        Ok(Self { anchors, trust_domain })
    }

    /// The CAs, the one in force first.
    #[must_use]
    pub fn anchors(&self) -> &[CertificateDer<'static>] {
        &self.anchors
    }

    /// Whose identities they sign.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Their fingerprints.
    #[must_use]
    pub fn fingerprints(&self) -> Vec<Fingerprint> {
        self.anchors.iter().map(|anchor| Fingerprint::of(anchor)).collect()
    }

    /// Whether this one is among them.
    #[must_use]
    pub fn contains(&self, authority: &Fingerprint) -> bool {
        self.anchors.iter().any(|anchor| Fingerprint::of(anchor) == *authority)
    }

    /// Which of them signed a leaf. `None`: none.
    #[must_use]
    pub fn issuer_of(&self, leaf: &CertificateDer<'_>) -> Option<Fingerprint> {
        let begins = certificate::parse(leaf).ok()?.validity().not_before.timestamp();
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(begins).ok()?));
        let leaf = EndEntityCert::try_from(leaf).ok()?;
        let signed = |anchor: &&CertificateDer<'static>| {
            let Ok(anchor) = anchor_from_trusted_cert(anchor) else { return false };
            [KeyUsage::client_auth(), KeyUsage::server_auth()].into_iter().any(|usage| {
                leaf.verify_for_usage(verifier::algorithms().all, std::slice::from_ref(&anchor), &[], at, usage, None, None).is_ok()
            })
        };
        self.anchors.iter().find(signed).map(|anchor| Fingerprint::of(anchor))
    }
}
