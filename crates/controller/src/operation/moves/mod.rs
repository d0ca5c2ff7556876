//! Moves: what decides who may write. Each is an operation of several parts, a file a kind; a part is an order to one instance.
//!
//! ```text
//!  switchover:  begin -> stop the writer -> the candidate holds its end -> pledge -+
//!  failover:    stop whoever is reached -> choose, bound the loss, approve -> begin, pledge -+-> MOVE -> a proof for each
//!                                                                                               possible writer -> promote -> follow
//!  before the move:  cancel, or what cannot go on -> back -> the old writer asks to start again, each other agent pledges, confirm
//! ```
//! All of it is pure: a decision is a function of what is journaled (the move, its parts, the shard's record) and of what was seen, and
//! says what to journal next. Who may write is decided by `muster_failover` alone; here it is only called. What always holds: a part's
//! operation id follows from the move and the step's name, so that a restored controller gives the same commands again.

pub mod apply;
pub mod change;
pub mod choose;
pub mod decide;
pub(in crate::operation) mod driver;
pub mod failover;
pub mod fence;
pub mod forward;
pub mod manage;
pub mod part;
pub mod preflight;
pub mod rejoin;
pub mod route;
pub mod routing;
pub mod settle;
pub mod start_again;
pub mod switchover;
pub mod task;
pub mod view;
