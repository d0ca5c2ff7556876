//! The seven verbs: one trait, the work handed to them, and what an engine can do. Knows no database.
