//! Receipts signed with the agent's own key, and those of others checked against the keys that this agent's stored assignment names.
//!
//! What always holds: neither the controller's word nor the signer's clock counts; the key is what is pinned, the chain is judged as of
//! the day it was made.

use muster_common::name::Name;
use muster_common::time::Timestamp;
use muster_failover::proof::{Receipt, SignedReceipt};
use muster_identity::certificate::PeerCertificate;
use muster_identity::credentials::Credentials;
use muster_identity::receipt;
use rustls_pki_types::CertificateDer;

use crate::assignment::parse::Peer;

/// Signs it.
///
/// # Errors
/// Where the system gives no randomness.
pub fn sign(credentials: &Credentials, receipt: Receipt) -> Result<SignedReceipt, String> {
    let signature = receipt::sign(credentials.key(), &receipt.canonical()).map_err(|error| error.to_string())?;
    let chain = credentials.chain().iter().map(|certificate| certificate.as_ref().to_vec()).collect();
    Ok(SignedReceipt { receipt, signature, chain })
}

/// What receipts are checked by.
pub struct Signers<'a> {
    /// This instance: its own receipts count too, when a later move comes back to it.
    pub own: &'a Name,
    /// This agent's credentials.
    pub credentials: &'a Credentials,
    /// The others, as stored.
    pub peers: &'a [Peer],
    /// Serial numbers of revoked certificates.
    pub revoked: &'a [String],
}

impl Signers<'_> {
    /// Whether the agent of `instance` signed it.
    ///
    /// # Errors
    /// Why it counts for nothing.
    pub fn verify(&self, instance: &Name, signed: &SignedReceipt) -> Result<(), String> {
        let print = if instance == self.own {
            self.credentials.key().fingerprint().to_string()
        } else {
            let peer = self.peers.iter().find(|peer| peer.instance == *instance).ok_or("this agent's assignment does not list it")?;
            peer.key_fingerprint.clone().ok_or("this agent's assignment does not know the key of its agent")?
        };
        let leaf = signed.chain.first().ok_or("it carries no certificate")?;
        let named = PeerCertificate::from_der(leaf, self.credentials.trust_domain()).map_err(|error| error.to_string())?;
        if named.key_fingerprint.to_string() != print {
            return Err(format!("signed by the key {} of {}, assigned is {print}", named.key_fingerprint, named.identity));
        }
        if self.revoked.iter().any(|serial| serial == named.serial.as_str()) {
            return Err(format!("the certificate {} of {} is revoked", named.serial.as_str(), named.identity));
        }
        let chain: Vec<CertificateDer<'_>> = signed.chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let made = Timestamp(named.not_before.0.saturating_add(1_000_000));
        let mut why = "no CA is trusted".to_owned();
        for authority in self.credentials.trusted().anchors() {
            match receipt::verify(authority, &chain, made, &signed.receipt.canonical(), &signed.signature) {
                Ok(_) => return Ok(()),
                Err(error) => why = error.to_string(),
            }
        }
        Err(why)
    }
}
