//! The agent's parts against real files, real processes and real connections.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod controller;
mod inbox;
mod keeping;
mod link;
mod server;
mod two;
mod world;
