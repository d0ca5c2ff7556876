//! What is done by itself at its time, and how that is switched off for a while.
//!
//! `timing` tells when runs are planned, `lane` what is to be done next, `pause` what is off: all pure. `driver` asks for runs as operations,
//! `pauses` keeps what is off in memory. It knows nothing of gRPC.

pub mod clock;
pub mod driver;
pub mod lane;
pub mod pause;
pub mod pauses;
pub mod show;
pub mod timing;
