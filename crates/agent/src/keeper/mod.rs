//! The keeper of each instance: control file, looks, orders. It decides nothing: `muster-failover` does, the engine acts.
//!
//! One lock for each instance keeps looks and orders apart. What always holds: the control file is durable before the act that it tells of;
//! an instance without control file and without Muster's mark is only observed.

pub mod carry;
pub mod errand;
pub mod kept;
pub mod look;
pub mod manage;
pub mod place;
pub mod receipt;
pub mod record;
pub mod rejoin;
pub mod serve;
pub mod show;
pub mod word;
