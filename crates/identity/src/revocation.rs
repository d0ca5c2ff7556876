//! Which certificates count no longer, whatever is written in them. The controller's store fills it; every call asks it.
//!
//! A serial takes one certificate away. A key takes every certificate away that was and will be renewed for it: that is how an agent or
//! an operator is shut out.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

use crate::certificate::{PeerCertificate, Serial};
use crate::fingerprint::Fingerprint;

/// What is revoked now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revoked {
    /// Single certificates.
    pub serials: BTreeSet<Serial>,
    /// Keys with all their certificates.
    pub keys: BTreeSet<Fingerprint>,
    /// CAs that were trusted until now, with all that they signed. Whoever connects anew is refused by TLS already.
    pub authorities: BTreeSet<Fingerprint>,
}

impl Revoked {
    /// Whether this certificate is.
    #[must_use]
    pub fn contains(&self, certificate: &PeerCertificate) -> bool {
        let retired = certificate.authority.is_some_and(|authority| self.authorities.contains(&authority));
        retired || self.serials.contains(&certificate.serial) || self.keys.contains(&certificate.key_fingerprint)
    }
}

/// The revocations in force; clones are the same. Live sessions [`Revocations::subscribe`] and end themselves.
#[derive(Clone, Debug)]
pub struct Revocations {
    current: Arc<watch::Sender<Arc<Revoked>>>,
}

impl Default for Revocations {
    fn default() -> Self {
        Self::new(Revoked::default())
    }
}

impl Revocations {
    /// With what the store knows at start.
    #[must_use]
    pub fn new(revoked: Revoked) -> Self {
        Self { current: Arc::new(watch::Sender::new(Arc::new(revoked))) }
    }

    /// Puts others in force, at once. CAs that were retired stay so.
    pub fn replace(&self, mut revoked: Revoked) {
        self.current.send_modify(|present| {
            revoked.authorities.extend(present.authorities.iter().copied());
            *present = Arc::new(revoked);
        });
    }

    /// A CA counts no longer, and nothing that it signed.
    pub fn retire_authority(&self, authority: Fingerprint) {
        self.current.send_modify(|revoked| {
            Arc::make_mut(revoked).authorities.insert(authority);
        });
    }

    /// Adds one certificate.
    pub fn revoke_serial(&self, serial: Serial) {
        self.current.send_modify(|revoked| {
            Arc::make_mut(revoked).serials.insert(serial);
        });
    }

    /// Adds a key with all its certificates.
    pub fn revoke_key(&self, key: Fingerprint) {
        self.current.send_modify(|revoked| {
            Arc::make_mut(revoked).keys.insert(key);
        });
    }

    /// Whether this certificate is revoked now.
    #[must_use]
    pub fn contains(&self, certificate: &PeerCertificate) -> bool {
        self.current.borrow().contains(certificate)
    }

    /// Told of every change from now on.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Revoked>> {
        self.current.subscribe()
    }

    /// Ends when this certificate is revoked: for a live session to wait for beside its work.
    pub async fn until_revoked(&self, certificate: &PeerCertificate) {
        let mut changes = self.subscribe();
        // The sender lives in `self`, so the channel cannot close while this waits.
        if changes.wait_for(|revoked| revoked.contains(certificate)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
