//! PostgreSQL servers: Debian's version 15, run as `postgres`, each from a copy of one template.

pub mod load;
pub mod proof;
pub mod server;
pub mod template;
