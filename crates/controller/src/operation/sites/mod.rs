//! A site as a whole: every component whose writer stands there is moved, each by an operation of its own.
//!
//! ```text
//!  plan (at acceptance): who writes there, in order of priority, after what each depends on
//!  then, again and again: the first that may begin -> a switchover or failover of it; so many at once as was asked for
//! ```
//! It decides nothing about who may write: that is each component's own operation. What always holds: a component is begun under a
//! request id that follows from this operation and its name, so that whoever is cut off anywhere begins none twice.

pub mod apply;
pub mod decide;
pub(in crate::operation) mod driver;
pub mod plan;
pub mod task;
