//! PostgreSQL behind the seven verbs.
