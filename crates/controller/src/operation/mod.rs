//! Operations: accepted once, journaled before each act and after it, driven by pure decisions, shown to whoever watches.
//!
//! It knows nothing of gRPC streams, certificates or roles. `kinds/` holds what an operator can ask for, a file each.

pub mod asked;
pub mod handle;
pub mod news;
pub mod watch;
