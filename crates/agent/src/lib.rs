//! The agent: stands beside the data and does what the controller asks.
//!
//! It keeps what it took on, whatever happens to it or to the controller; it decides nothing about who may write.

pub mod agent;
pub mod assignment;
pub mod balancers;
pub mod belonging;
pub mod config;
pub mod convert;
pub mod durable;
pub mod duty;
pub mod engines;
pub mod hook;
pub mod instruments;
pub mod keeper;
pub mod kept;
pub mod link;
pub mod local;
pub mod membership;
pub mod memory;
pub mod repositories;
pub mod rights;
pub mod run;
pub mod state;
pub mod task;
