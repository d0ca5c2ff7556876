//! One file a command: its arguments with examples, and what it asks and shows.

pub mod agents;
pub mod apply;
pub mod backup;
pub mod cancel;
pub mod check;
pub mod completion;
pub mod context;
pub mod delete;
pub mod describe;
pub mod discard;
pub mod get;
pub mod operator;
pub mod ops;
pub mod pause;
pub mod points;
pub mod repo;
pub mod resolve;
pub mod restore;
pub mod resume;
pub mod retry;
pub mod status;
pub mod token;
pub mod version;
pub mod wait;
pub mod wal_get;
pub mod watch;
