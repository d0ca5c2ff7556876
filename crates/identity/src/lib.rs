//! Who is who: the CA, CSRs, certificates, reloadable TLS, roles, join tokens, signed receipts.
//!
//! What always holds: nothing of a CSR but its key is believed; a connection without a certificate reaches Enroll and health only; a
//! rule exists for every rpc, and what has none is refused. This crate knows no store: roles and revocations are handed to it.

pub mod authority;
pub mod bootstrap;
pub mod caller;
pub mod certificate;
pub mod client;
pub mod context;
pub mod credentials;
pub mod csr;
pub mod endpoint;
pub mod fingerprint;
pub mod gate;
pub mod given;
pub mod identity;
pub mod key;
mod lasting;
pub mod receipt;
pub mod revocation;
pub mod rule;
pub mod server;
mod showing;
pub mod token;
pub mod trust;
mod verifier;
