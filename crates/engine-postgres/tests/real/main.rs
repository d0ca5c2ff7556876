//! The engine against real PostgreSQL 15 servers, run as user `postgres`; needs root and Debian's packages
//! `postgresql-15` and `postgresql-contrib`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, wherever in its support")]
mod observing;
mod server;
