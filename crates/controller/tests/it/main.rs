//! A real controller over real mutual TLS on loopback, with real certificates.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test that fails panics")]

mod auditing;
mod ca;
mod calls;
mod enrolling;
mod findings;
mod inventory;
mod links;
mod operations;
mod own_backup;
mod pausing;
mod process;
mod retrying;
mod scheduling;
mod store;
mod world;
