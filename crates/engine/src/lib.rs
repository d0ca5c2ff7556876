//! The seven verbs, and the work that is handed to them.
//!
//! Each kind of component has one crate that implements [`verbs::Engine`]; the agent drives them through it and never
//! knows which database it drives. Nothing here knows one either.

pub mod capability;
pub mod keep;
pub mod observation;
pub mod request;
pub mod verbs;
pub mod work;
