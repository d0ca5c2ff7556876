//! Shards in the store: who writes, in which epoch. What follows from what is decided by `muster_failover`; here it is read, applied, kept.

pub mod catching_up;
pub mod questions;
pub mod readiness;
pub mod shards;
