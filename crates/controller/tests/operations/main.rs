//! Operations end to end, short of the network: the real store, journal, drivers and watchers, against simulated agents.

// Outside of the test functions too, a test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod agent;
mod crash;
mod golden;
mod life;
mod restored;
mod sim;
mod spine;
mod unknown;
mod watchers;
