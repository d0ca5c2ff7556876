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
use crate::trust::Trusted;

const MAX_BYTES: u64 = 64 << 10;
/// The certificate before the present one, of another CA.
const BEFORE: &str = "cert-before.pem";

fn related(present: &Trusted, told: &Trusted) -> bool {
    told.fingerprints().iter().any(|print| present.contains(print))
}

/// A key with its chain and its CA, which belong together.
#[derive(Clone, Debug)]
pub struct Credentials {
    key: Arc<KeyPair>,
    chain: Vec<CertificateDer<'static>>,
    /// The chain before a renewal under another CA, as long as that one is trusted.
    before: Option<Vec<CertificateDer<'static>>>,
    trusted: Trusted,
    own: PeerCertificate,
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
    /// Other CAs were told than those that are trusted.
    #[error("the CAs that were told have nothing to do with the one that is trusted, or did not sign the certificate: nothing is changed")]
    Strangers,
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
        let trusted = Trusted::from_pem(authority).map_err(of("CA certificate"))?;
        let chain = certificate::chain_from_pem(chain).map_err(of("certificate"))?;
        let leaf = chain.first().ok_or_else(|| of("certificate")(CertificateError::Unreadable(String::new())))?;
        let own = PeerCertificate::from_der(leaf, trusted.trust_domain()).map_err(of("certificate"))?;
        let own = PeerCertificate { authority: trusted.issuer_of(leaf), ..own };
        if own.key_fingerprint != key.fingerprint() {
            return Err(CredentialsError::Mismatch { certificate: own.key_fingerprint, key: key.fingerprint() });
        }
        Ok(Self { key: Arc::new(key), chain, before: None, trusted, own })
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

    /// The CAs that are trusted.
    #[must_use]
    pub fn trusted(&self) -> &Trusted {
        &self.trusted
    }

    /// The CAs' trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        self.trusted.trust_domain()
    }

    /// The same, trusting others.
    #[must_use]
    pub fn trusting(mut self, trusted: Trusted) -> Self {
        self.own.authority = self.chain.first().and_then(|leaf| trusted.issuer_of(leaf));
        Self { trusted, ..self }
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.inner.serialize_der()))
    }

    /// What can be shown, the newest first.
    pub(crate) fn certified_keys(&self) -> Result<Vec<CertifiedKey>, CredentialsError> {
        let provider = rustls::crypto::ring::default_provider();
        let key = provider.key_provider.load_private_key(self.private_key())?;
        Ok([Some(&self.chain), self.before.as_ref()]
            .into_iter()
            .flatten()
            .map(|chain| CertifiedKey::new(chain.clone(), key.clone()))
            .collect())
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

    /// Stores what Renew gave for the same key: the CAs, then the certificate. Where another CA than before signed it, the certificate before
    /// is kept beside it as long as its CA is trusted: a controller that was set back to before the CA was replaced knows that one alone.
    ///
    /// # Errors
    /// As [`CredentialFolder::store`], and [`CredentialsError::Strangers`].
    pub fn renew(&self, authorities: &str, chain: &str) -> Result<Credentials, CredentialsError> {
        let present = self.load()?;
        let credentials = Credentials::from_pem(authorities, chain, self.key()?)?;
        let authority = credentials.own.authority.filter(|_| related(&present.trusted, &credentials.trusted));
        let authority = authority.ok_or(CredentialsError::Strangers)?;
        files::write_atomically(&self.folder.join("ca.pem"), authorities.as_bytes(), 0o644)?;
        if present.own.authority.is_some_and(|before| before != authority) {
            let before = certificate::pem_of(&present.chain);
            files::write_atomically(&self.folder.join(BEFORE), before.as_bytes(), 0o644)?;
        }
        files::write_atomically(&self.folder.join("cert.pem"), chain.as_bytes(), 0o644)?;
        self.load()
    }

    /// Trusts these CAs from now on. One of them must be trusted already: whoever tells was believed because of it.
    ///
    /// # Errors
    /// [`CredentialsError::Strangers`], and where a file cannot be written: then what was trusted stays.
    pub fn trust(&self, authorities: &str) -> Result<Credentials, CredentialsError> {
        let present = self.load()?;
        let of = |source| CredentialsError::Certificate { what: "CA certificate", source };
        let trusted = Trusted::from_pem(authorities).map_err(of)?;
        // A controller that was set back to before the CA was replaced signed the certificate before.
        let shown = [Some(&present.chain), present.before.as_ref()].into_iter().flatten().filter_map(|chain| chain.first());
        let is_signed = shown.into_iter().any(|leaf| trusted.issuer_of(leaf).is_some());
        if !related(&present.trusted, &trusted) || !is_signed {
            return Err(CredentialsError::Strangers);
        }
        files::write_atomically(&self.folder.join("ca.pem"), authorities.as_bytes(), 0o644)?;
        self.load()
    }

    /// Reads all three.
    ///
    /// # Errors
    /// Where one is missing, broken, or they do not belong together.
    pub fn load(&self) -> Result<Credentials, CredentialsError> {
        let authority = files::read_text(&self.folder.join("ca.pem"), MAX_BYTES)?;
        let chain = files::read_text(&self.folder.join("cert.pem"), MAX_BYTES)?;
        let mut credentials = Credentials::from_pem(&authority, &chain, KeyPair::load(&self.folder.join("key.pem"))?)?;
        credentials.before = self.before(&credentials)?;
        Ok(credentials)
    }

    /// The certificate before, where it is for the same key and of a CA that is trusted still.
    fn before(&self, credentials: &Credentials) -> Result<Option<Vec<CertificateDer<'static>>>, CredentialsError> {
        let text = match files::read_text(&self.folder.join(BEFORE), MAX_BYTES) {
            Ok(text) => text,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Ok(chain) = certificate::chain_from_pem(&text) else { return Ok(None) };
        let of_key =
            |leaf: &CertificateDer<'_>| certificate::key_fingerprint_of(leaf).is_ok_and(|print| print == credentials.own.key_fingerprint);
        let counts = |leaf: &CertificateDer<'_>| {
            let authority = credentials.trusted.issuer_of(leaf);
            of_key(leaf) && authority.is_some() && authority != credentials.own.authority
        };
        Ok(chain.first().is_some_and(counts).then_some(chain))
    }
}

impl Credentials {
    /// Whether it is time to renew.
    #[must_use]
    pub fn are_due(&self, now: Timestamp) -> bool {
        now >= self.own.renew_at()
    }
}
