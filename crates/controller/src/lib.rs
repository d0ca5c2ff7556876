//! The controller: journals, decides, commands agents, answers operators.

pub mod agents;
pub mod api;
pub mod config;
pub mod inventory;
pub mod metrics;
pub mod operation;
pub mod store;
