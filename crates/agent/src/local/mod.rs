//! What an operator can do on the agent's own machine, with every controller gone: look, and fence.
//!
//! The running agent is asked through a socket in its state folder; where none runs, the same is done here under the state folder's lock.

pub mod act;
pub mod ask;
pub mod serve;
