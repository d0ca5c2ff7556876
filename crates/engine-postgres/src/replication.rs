//! PostgreSQL's replication protocol: a pure half that knows messages, and a shell that knows the socket.

pub mod client;
pub mod protocol;
