//! Real two-site worlds on one machine, for tests, demo and benches: PostgreSQL servers, an object store with faults, and
//! the controller, agents and `muster` as processes of their own.
//!
//! A [`world::World`] owns a folder under `/tmp`, short enough for Unix sockets, and everything that runs in it. When it is
//! dropped, also by a panic, everything in it is killed and the folder removed; when this process is killed, a watching
//! shell does the same. Nothing here has a fixed port, so that worlds stand beside each other.
//!
//! Knows the programs by their command lines and configuration files only, as an operator does. The one exception is
//! [`simulated`]: agents without a process, for crowds and floods.

pub mod account;
pub mod agent;
pub mod controller;
pub mod dns;
pub mod eventually;
pub mod failpoints;
pub mod faketime;
pub mod janitor;
pub mod network;
pub mod operator;
pub mod orders;
pub mod port;
pub mod postgres;
pub mod process;
pub mod roaming;
pub mod s3;
pub mod scenario;
pub mod simulated;
pub mod two_sites;
pub mod usage;
pub mod world;
