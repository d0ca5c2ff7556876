//! The controller: journals, decides, commands agents, answers operators.

pub mod admin_file;
pub mod agents;
pub mod api;
pub mod audit;
pub mod bounds;
pub mod ca;
pub mod command;
pub mod config;
pub mod failover;
pub mod findings;
pub mod inventory;
pub mod metrics;
pub mod operation;
pub mod own_backup;
pub mod own_certificate;
pub mod schedule;
pub mod server;
pub mod store;
pub mod tasks;
