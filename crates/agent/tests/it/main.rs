//! The agent's parts against real files, real processes and real connections.

mod controller;
mod inbox;
mod link;
mod world;
