//! The controller's CA: its folder, the sealing of its key, where the passphrase comes from, and how it is replaced by another.

pub mod authorities;
pub mod folder;
pub mod passphrase;
pub mod retirement;
pub mod sealed_key;
