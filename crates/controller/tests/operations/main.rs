//! Operations end to end, short of the network: the real store, journal, drivers and watchers, against simulated agents.

// Outside of the test functions too, a test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod sim;
mod spine;
