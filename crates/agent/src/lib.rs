//! The agent: stands beside the data and does what the controller asks.
//!
//! It keeps what it took on, whatever happens to it or to the controller; it decides nothing about who may write.

pub mod config;
pub mod durable;
pub mod memory;
pub mod task;
