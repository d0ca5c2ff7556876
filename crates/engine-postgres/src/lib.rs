//! PostgreSQL behind the seven verbs.
//!
//! One file a verb; the pure halves (pages, control file, WAL, what is left out, the replication protocol's messages)
//! know neither files nor sockets. Runs beside the server, as the owner of its data directory.

pub mod backup;
pub mod clock;
pub mod config;
pub mod connect;
pub mod control;
pub mod control_file;
pub mod data_directory;
pub mod dump;
pub mod engine;
pub mod exclude;
pub mod keep;
pub mod observe;
pub mod page;
pub mod password;
pub mod point;
pub mod record;
pub mod replication;
pub mod restore;
pub mod rights;
pub mod verify;
pub mod wal;
pub mod wal_get;
