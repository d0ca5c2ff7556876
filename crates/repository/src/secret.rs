//! Secrets that people and agents hold: the recovery passphrase, an agent's X25519 secret. Neither is ever shown.

use std::fmt;

use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// A passphrase or another text that must not be shown. Wiped when dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes as they are; the caller has cut line ends off.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The bytes, for the one who derives a key from them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// An agent's X25519 secret: data keys are wrapped to its public half. It stays on the agent's machine.
#[derive(Clone)]
pub struct AgentSecret(StaticSecret);

impl AgentSecret {
    /// The secret made of 32 bytes that the caller drew at random (RFC 7748 clamps them).
    #[must_use]
    pub fn generate(random: [u8; 32]) -> Self {
        Self(StaticSecret::from(random))
    }

    /// The secret that [`AgentSecret::to_bytes`] gave.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(StaticSecret::from(bytes))
    }

    /// For the agent's own file, mode 0600.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half, which a grant names.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        PublicKey::from(&self.0).to_bytes()
    }

    pub(crate) fn agree(&self, public: [u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        agree(&self.0, public)
    }
}

impl fmt::Debug for AgentSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AgentSecret")
    }
}

/// The shared secret; `None` where the other's key is of small order and the result would be known to anyone.
pub(crate) fn agree(secret: &StaticSecret, public: [u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
    let shared = secret.diffie_hellman(&PublicKey::from(public));
    shared.was_contributory().then(|| Zeroizing::new(shared.to_bytes()))
}
