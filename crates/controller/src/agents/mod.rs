//! The agents: their sessions, what is sent to them, what they saw, what is assigned to them.
//!
//! It decides nothing about operations: it carries commands out and news in.

pub mod assigner;
pub mod assignments;
pub mod courier;
pub mod hello;
pub mod link;
pub mod observations;
pub mod roster;
pub mod session;
