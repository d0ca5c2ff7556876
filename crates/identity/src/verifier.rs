//! Chains that must lead to one CA, and the name that must stand in the leaf. Host names count for nothing here: a controller that moved
//! keeps its identity, and whoever took over its old address has none.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError as TlsCertificateError, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::certificate::{self, CertificateError, PeerCertificate};
use crate::fingerprint::Fingerprint;
use crate::identity::Identity;
use crate::trust::Trusted;

/// Why a chain counts for nothing.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// Nothing was shown.
    #[error("no certificate was shown")]
    Empty,
    /// The CA did not sign it, it is not valid then, or it is for another use.
    #[error("{0}")]
    Refused(#[from] webpki::Error),
    /// The leaf speaks for nobody.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// Checks that a chain leads to the CA and is for clients, as of `at` (since 1970), and tells whose it is.
pub(crate) fn check_client_chain(
    authority: &CertificateDer<'_>,
    chain: &[CertificateDer<'_>],
    at: Duration,
) -> Result<PeerCertificate, ChainError> {
    let (leaf, intermediates) = chain.split_first().ok_or(ChainError::Empty)?;
    let anchors = [anchor_from_trusted_cert(authority)?];
    let time = UnixTime::since_unix_epoch(at);
    EndEntityCert::try_from(leaf)?.verify_for_usage(
        algorithms().all,
        &anchors,
        intermediates,
        time,
        KeyUsage::client_auth(),
        None,
        None,
    )?;
    Ok(PeerCertificate::from_der(leaf, &certificate::trust_domain_of(authority)?)?)
}

/// The one provider of cryptography.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

pub(crate) fn algorithms() -> WebPkiSupportedAlgorithms {
    rustls::crypto::ring::default_provider().signature_verification_algorithms
}

/// Which CA a server's chain must lead to.
#[derive(Debug)]
pub(crate) enum Trust {
    /// These, known for long.
    Authorities(Trusted),
    /// The one with this fingerprint, which the server must show itself: an agent that joins knows no more.
    Pinned(Fingerprint),
}

/// Accepts a server that shows this identity under this CA, at whatever address.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    trust: Trust,
    expected: Identity,
    /// What the server is told of what is trusted, so that it can choose. `None`: nothing is known by name.
    names: Option<Vec<DistinguishedName>>,
}

impl ServerVerifier {
    pub(crate) fn new(trust: Trust, expected: Identity) -> Result<Self, rustls::Error> {
        let names = match &trust {
            Trust::Authorities(trusted) => {
                let mut roots = RootCertStore::empty();
                trusted.anchors().iter().try_for_each(|anchor| roots.add(anchor.clone()))?;
                Some(roots.subjects())
            }
            Trust::Pinned(_) => None,
        };
        Ok(Self { trust, expected, names })
    }
}

/// What is told where a server is another than expected.
#[derive(Debug, thiserror::Error)]
enum WrongServer {
    #[error(
        "the server shows no CA with the fingerprint {expected}: it is not the controller that made the join token, or somebody is in between"
    )]
    NoSuchAuthority { expected: Fingerprint },
    #[error("the server is {found}, not {expected}")]
    Identity { found: Identity, expected: Identity },
    #[error("{0}")]
    Certificate(CertificateError),
}

impl From<WrongServer> for rustls::Error {
    fn from(wrong: WrongServer) -> Self {
        Self::InvalidCertificate(TlsCertificateError::Other(OtherError(Arc::new(wrong))))
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned;
        let trusted = match &self.trust {
            Trust::Authorities(trusted) => trusted,
            Trust::Pinned(print) => {
                let shown = intermediates.iter().find(|shown| Fingerprint::of(shown) == *print);
                let shown = shown.ok_or(WrongServer::NoSuchAuthority { expected: *print })?;
                pinned = Trusted::one(shown.clone().into_owned()).map_err(WrongServer::Certificate)?;
                &pinned
            }
        };
        let mut roots = RootCertStore::empty();
        for anchor in trusted.anchors() {
            roots.add(anchor.clone())?;
        }
        let leaf = ParsedCertificate::try_from(end_entity)?;
        rustls::client::verify_server_cert_signed_by_trust_anchor(&leaf, &roots, intermediates, now, algorithms().all)?;
        let found = PeerCertificate::from_der(end_entity, trusted.trust_domain()).map_err(WrongServer::Certificate)?.identity;
        if found != self.expected {
            return Err(WrongServer::Identity { found, expected: self.expected.clone() }.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.names.as_deref()
    }
}
