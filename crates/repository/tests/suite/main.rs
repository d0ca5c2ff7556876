//! The tests of the repository as its callers see it: one binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod support;

mod damage;
mod forgery;
mod golden;
mod key_objects;
mod pruning;
mod round_trip;
mod stopped;
