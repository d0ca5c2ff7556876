//! A folder of files behind the verbs: observe, backup, restore, verify, discard. One file a verb.
//!
//! It knows no database. What always holds: a folder that is restored is built beside its place and renamed into it whole, so
//! that a half-restored one never stands where a whole one is expected.

mod backup;
mod discard;
pub mod engine;
mod observe;
mod restore;
mod swap;
mod verify;
mod walk;
