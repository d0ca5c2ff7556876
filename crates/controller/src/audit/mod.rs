//! The audit log: every call that changes something, before it is done and what came of it, and every refusal of one.

pub mod chain;
pub mod limit;
pub mod recorder;
pub mod watcher;
pub mod what;
