//! Signatures of agents under what they state (fence receipts, permits): P-256 ECDSA with SHA-256, ASN.1 form.
//!
//! A receipt carries its certificate chain and is judged as of the moment it was signed: a certificate that ran out later does not
//! unsay it. Who was revoked is for the caller to look at.

use std::time::Duration;

use muster_common::time::Timestamp;
use rcgen::SigningKey;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls_pki_types::CertificateDer;

use crate::certificate::PeerCertificate;
use crate::key::KeyPair;
use crate::verifier;

/// Keeps what is signed here apart from all else that the key signs (TLS, CSRs).
const CONTEXT: &[u8] = b"muster receipt 1\n";

/// Why a receipt counts for nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// The key would not sign.
    #[error("sign a receipt: {0}")]
    Sign(#[source] rcgen::Error),
    /// The chain does not lead to the CA at that time.
    #[error("receipt's certificate: {0}")]
    Chain(#[from] verifier::ChainError),
    /// The bytes or the signature are others.
    #[error("receipt by {0}: the signature does not fit")]
    Signature(crate::identity::Identity),
}

/// Signs these bytes.
///
/// # Errors
/// Where the system gives no randomness.
pub fn sign(key: &KeyPair, statement: &[u8]) -> Result<Vec<u8>, ReceiptError> {
    key.inner.sign(&[CONTEXT, statement].concat()).map_err(ReceiptError::Sign)
}

/// Checks the chain against the CA as of `signed_at`, and the signature; tells who signed.
///
/// # Errors
/// See [`ReceiptError`].
pub fn verify(
    authority: &CertificateDer<'_>,
    chain: &[CertificateDer<'_>],
    signed_at: Timestamp,
    statement: &[u8],
    signature: &[u8],
) -> Result<PeerCertificate, ReceiptError> {
    let at = Duration::from_micros(u64::try_from(signed_at.0).unwrap_or(0));
    let signer = verifier::check_client_chain(authority, chain, at)?;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &signer.public_key)
        .verify(&[CONTEXT, statement].concat(), signature)
        .map_err(|_| ReceiptError::Signature(signer.identity.clone()))?;
    Ok(signer)
}
