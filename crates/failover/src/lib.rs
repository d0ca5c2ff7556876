//! Who may write. Pure: no I/O, no clock, no randomness, no async.
//!
//! So far: reigns, and what a restore in place does to them. A restored writer goes on from an older moment, so its
//! followers hold what it no longer has: the epoch moves, and they are superseded until they are seeded anew.

pub mod reign;
