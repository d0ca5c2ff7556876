//! The controller's CA on disk: its folder, the sealing of its key, where the passphrase comes from.

pub mod folder;
pub mod passphrase;
pub mod sealed_key;
