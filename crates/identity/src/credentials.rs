//! What a process shows of itself: a key, the certificate chain for it, and the CA that it trusts.
//!
//! On an agent and on the controller they are three files in a folder; an operator has them in one (see [`crate::context`]).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_common::time::Timestamp;
use muster_service::files;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::certificate::{self, CertificateError, PeerCertificate};
use crate::fingerprint::Fingerprint;
use crate::identity::TrustDomain;
use crate::key::{KeyError, KeyPair};

const MAX_BYTES: u64 = 64 << 10;

/// A key with its chain and its CA, which belong together.
#[derive(Clone, Debug)]
pub struct Credentials {
    key: Arc<KeyPair>,
    chain: Vec<CertificateDer<'static>>,
    authority: CertificateDer<'static>,
    own: PeerCertificate,
    trust_domain: TrustDomain,
}

/// Credentials that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file.
    #[error(transparent)]
    File(#[from] files::FileError),
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A certificate.
    #[error("{what}: {source}")]
    Certificate {
        /// Which of them.
        what: &'static str,
        /// What is wrong with it.
        #[source]
        source: CertificateError,
    },
    /// The certificate is for another key.
    #[error("the certificate is for key {certificate}, not for key {key}")]
    Mismatch {
        /// Of the certificate's key.
        certificate: Fingerprint,
        /// Of the key that is there.
        key: Fingerprint,
    },
    /// TLS refuses them.
    #[error("credentials: {0}")]
    Tls(#[from] rustls::Error),
}

impl Credentials {
    /// Puts together what came as PEM texts.
    ///
    /// # Errors
    /// Where one is broken or they do not belong together. Whether the CA signed the certificate is for the other side to check.
    pub fn from_pem(authority: &str, chain: &str, key: KeyPair) -> Result<Self, CredentialsError> {
        let of = |what| move |source| CredentialsError::Certificate { what, source };
        let authority = certificate::chain_from_pem(authority).map_err(of("CA certificate"))?;
        let authority = authority.into_iter().next().ok_or_else(|| of("CA certificate")(CertificateError::Unreadable(String::new())))?;
        let trust_domain = certificate::trust_domain_of(&authority).map_err(of("CA certificate"))?;
        let chain = certificate::chain_from_pem(chain).map_err(of("certificate"))?;
        let leaf = chain.first().ok_or_else(|| of("certificate")(CertificateError::Unreadable(String::new())))?;
        let own = PeerCertificate::from_der(leaf, &trust_domain).map_err(of("certificate"))?;
        if own.key_fingerprint != key.fingerprint() {
            return Err(CredentialsError::Mismatch { certificate: own.key_fingerprint, key: key.fingerprint() });
        }
        Ok(Self { key: Arc::new(key), chain, authority, own, trust_domain })
    }

    /// Their own certificate: who this process is, until when, and when to renew.
    #[must_use]
    pub fn own(&self) -> &PeerCertificate {
        &self.own
    }

    /// The key: it signs requests for renewal and receipts.
    #[must_use]
    pub fn key(&self) -> &KeyPair {
        &self.key
    }

    /// The certificate chain, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The CA that is trusted.
    #[must_use]
    pub fn authority(&self) -> &CertificateDer<'static> {
        &self.authority
    }

    /// The CA's trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.inner.serialize_der()))
    }

    pub(crate) fn certified_key(&self) -> Result<CertifiedKey, CredentialsError> {
        let provider = rustls::crypto::ring::default_provider();
        let key = provider.key_provider.load_private_key(self.private_key())?;
        Ok(CertifiedKey::new(self.chain.clone(), key))
    }
}

/// The folder of an agent's or a controller's credentials: `key.pem` (0600), `cert.pem`, `ca.pem`. Each is replaced whole.
#[derive(Clone, Debug)]
pub struct CredentialFolder {
    folder: PathBuf,
}

impl CredentialFolder {
    /// A folder that is made when something is written.
    #[must_use]
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Whether a certificate was stored: an agent that has one needs no token. The certificate is always stored last.
    #[must_use]
    pub fn is_enrolled(&self) -> bool {
        self.folder.join("cert.pem").exists()
    }

    /// The key, made at the first call and kept from then on: it lives as long as the agent.
    ///
    /// # Errors
    /// Where it cannot be made, written or read.
    pub fn key(&self) -> Result<KeyPair, KeyError> {
        let path = self.folder.join("key.pem");
        if !path.exists() {
            files::create_private_folder(&self.folder)?;
            KeyPair::generate()?.create_file(&path)?;
        }
        KeyPair::load(&path)
    }

    /// Stores what Enroll gave: the CA, then the certificate. What does not fit the key is refused and nothing is written.
    ///
    /// # Errors
    /// Where they do not belong together or a file cannot be written.
    pub fn store(&self, authority: &str, chain: &str) -> Result<Credentials, CredentialsError> {
        let credentials = Credentials::from_pem(authority, chain, self.key()?)?;
        files::write_atomically(&self.folder.join("ca.pem"), authority.as_bytes(), 0o644)?;
        files::write_atomically(&self.folder.join("cert.pem"), chain.as_bytes(), 0o644)?;
        Ok(credentials)
    }

    /// Stores what Renew gave for the same key and CA.
    ///
    /// # Errors
    /// As [`CredentialFolder::store`].
    pub fn renew(&self, chain: &str) -> Result<Credentials, CredentialsError> {
        let authority = files::read_text(&self.folder.join("ca.pem"), MAX_BYTES)?;
        let credentials = Credentials::from_pem(&authority, chain, self.key()?)?;
        files::write_atomically(&self.folder.join("cert.pem"), chain.as_bytes(), 0o644)?;
        Ok(credentials)
    }

    /// Reads all three.
    ///
    /// # Errors
    /// Where one is missing, broken, or they do not belong together.
    pub fn load(&self) -> Result<Credentials, CredentialsError> {
        let authority = files::read_text(&self.folder.join("ca.pem"), MAX_BYTES)?;
        let chain = files::read_text(&self.folder.join("cert.pem"), MAX_BYTES)?;
        Credentials::from_pem(&authority, &chain, KeyPair::load(&self.folder.join("key.pem"))?)
    }
}

impl Credentials {
    /// Whether it is time to renew.
    #[must_use]
    pub fn are_due(&self, now: Timestamp) -> bool {
        now >= self.own.renew_at()
    }
}
