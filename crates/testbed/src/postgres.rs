//! PostgreSQL servers: Debian's version 15, or a newer one from npm, run as `postgres`, each from a copy of one template.

pub mod load;
pub mod programs;
pub mod proof;
pub mod server;
pub mod template;
