//! Which certificate is shown where there are two for one key: while a CA is being replaced, each side tells by name which CAs it trusts, and
//! is shown the certificate that one of them signed.
//!
//! It judges nothing: a wrong choice is refused by the other side. What always holds: who tells nothing is shown the first.

use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::certificate;

/// Certificates for one side, the usual one first.
#[derive(Debug)]
pub(crate) struct Showing {
    all: Vec<Shown>,
}

#[derive(Debug)]
struct Shown {
    key: Arc<CertifiedKey>,
    /// The names (DER) of whoever signed a certificate of the chain.
    issuers: Vec<Vec<u8>>,
}

impl Showing {
    pub(crate) fn new(keys: impl IntoIterator<Item = CertifiedKey>) -> Self {
        let shown = |key: CertifiedKey| {
            let issuer = |der: &rustls_pki_types::CertificateDer<'_>| Some(certificate::parse(der).ok()?.issuer().as_raw().to_vec());
            Shown { issuers: key.cert.iter().filter_map(issuer).collect(), key: Arc::new(key) }
        };
        Self { all: keys.into_iter().map(shown).collect() }
    }

    fn choose<'a>(&self, trusted: impl Iterator<Item = &'a [u8]> + Clone) -> Option<Arc<CertifiedKey>> {
        let fits = |shown: &&Shown| trusted.clone().any(|name| shown.issuers.iter().any(|issuer| issuer == name));
        self.all.iter().find(fits).or(self.all.first()).map(|shown| shown.key.clone())
    }
}

impl ResolvesClientCert for Showing {
    fn resolve(&self, trusted: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.choose(trusted.iter().copied())
    }

    fn has_certs(&self) -> bool {
        !self.all.is_empty()
    }
}

impl ResolvesServerCert for Showing {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.certificate_authorities().unwrap_or_default().iter().map(AsRef::as_ref))
    }
}
