//! Hooks: programs that the agent's own file declares, run before and after verbs and by themselves.
//!
//! The controller names hooks. It never sends a program, an argument or a user, and what it can learn of one is its name, how it ended and
//! the end of what it said.

pub mod around;
pub mod declared;
pub mod own;
pub mod processes;
pub mod ran;
pub mod rights;
pub mod run;
pub mod supervisor;
