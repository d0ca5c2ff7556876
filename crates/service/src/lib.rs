//! What makes a process: configuration, telemetry, task gates, shutdown, durable small files, the clock.
//!
//! It knows nothing of controllers, agents, certificates or databases.

pub mod clock;
pub mod config;
pub mod files;
pub mod log_limit;
pub mod manual;
pub mod metrics;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;
pub mod trace;
