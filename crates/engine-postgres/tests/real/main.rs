//! The engine against real PostgreSQL 15 servers, run as user `postgres`; needs root and Debian's packages
//! `postgresql-15` and `postgresql-contrib`.

mod observing;
mod server;
