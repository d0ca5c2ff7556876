//! Operations: accepted once, journaled before each act and after it, driven by pure decisions, shown to whoever watches.
//!
//! It knows nothing of gRPC streams, certificates or roles. `kinds/` holds what an operator can ask for, a file each; `life` decides,
//! `journal` records, `driver` acts, `handle` is what the rest of the controller calls.

pub mod asked;
pub mod behind;
pub mod conflict;
pub mod done;
pub mod event;
pub mod fleet;
pub mod handle;
pub mod hub;
pub mod journal;
pub mod kind;
pub mod kinds;
pub mod life;
pub mod moves;
pub mod news;
pub mod retry;
pub mod show;
pub mod sites;
pub mod state;
pub mod watch;

mod accept;
mod driver;
mod session;
mod shared;
mod writers;
