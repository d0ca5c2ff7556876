//! The controller's own backup: its store and its CA, sealed by a passphrase, in a folder or a bucket.

pub mod bring_back;
pub mod content;
pub mod keeper;
pub mod take;
