//! The vocabulary of Muster: ids, names, counters, positions, sizes, durations, faults, backoff.
//!
//! What always holds here: no I/O, no clock, no randomness, no async. Time and random bytes are arguments.

pub mod backoff;
pub mod counter;
pub mod duration;
pub mod fault;
pub mod id;
pub mod name;
pub mod position;
pub mod redact;
pub mod size;
pub mod time;
