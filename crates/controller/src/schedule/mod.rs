//! What is done by itself at its time, and how that is switched off for a while.
//!
//! `pause` and what decides are pure; `pauses` keeps what is in force in memory. It knows nothing of gRPC.

pub mod pause;
pub mod pauses;
