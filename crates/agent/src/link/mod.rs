//! The agent's end of the link: dials the controllers in turn, one session at a time, and sends what is to be sent.
//!
//! What always holds: whatever is slow, lost, doubled or cut here changes no task; what a session must tell is kept by key, so
//! that a controller that does not listen costs bounded memory.

pub mod dial;
pub mod outbox;
pub mod session;
