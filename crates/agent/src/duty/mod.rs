//! What the agent keeps doing for as long as its assignment says so. A duty has a status, never an outcome.

pub mod each;
pub mod house;
pub mod keep;
pub mod observe;
