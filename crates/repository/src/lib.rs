//! The backup store: frames, packs, maps, points, keys. Knows object stores; no gRPC, no database.
//!
//! What always holds: every object is written once and never overwritten; a point is written last, when all that it
//! needs is durable; every byte that is read is authenticated, and every frame that is restored is named anew.
//! `docs/formats.md` describes the bytes.

pub mod check;
pub mod counters;
pub mod entry;
pub mod error;
mod format;
pub mod holds;
pub mod keys;
pub mod location;
mod marks;
mod pack;
pub mod prune;
pub mod reading;
pub mod repository;
pub mod restoring;
pub mod retention;
pub mod sealed;
pub mod secret;
pub mod shelf;
pub mod store;
pub mod writing;
