//! How a server is started and stopped.

pub mod pg_ctl;
pub mod unit;
