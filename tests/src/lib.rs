//! What more than one of the test programs needs: the reference pages that are made from the protocol, JSON judged by its schema,
//! and how long a run is.

pub mod reference;
pub mod soak;
