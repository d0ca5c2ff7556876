//! All that the agent has to know and keep doing: parsed from the controller's message, stored, in force.
//!
//! It holds no secrets. What always holds: an older one never replaces a newer one; it stays in force while the controller is away.

pub mod force;
pub mod parse;
