//! The engine against real PostgreSQL 15 servers, run as user `postgres`; needs root and Debian's packages
//! `postgresql-15` and `postgresql-contrib`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, wherever in its support"
)]
mod backing_up;
mod crashing;
mod driving;
mod keeping;
mod kept;
mod observing;
mod places;
mod promoting;
mod restoring;
mod server;
