//! Who may write. Pure: no I/O, no clock, no randomness, no async.
//!
//! - [`reign`]: who writes since when, and whether one reign descends from another.
//! - [`shard`]: what the controller's journal knows; [`adopt`]: what it may believe after it was restored or doubled.
//! - [`control`], [`instance`], [`command`]: what the keeper of an instance knows, and how it behaves.
//! - [`permit`], [`grant`], [`custody`], [`proof`]: who may start, who may become the writer, who may say that it stopped.
//! - [`directive`]: what travels between the two.
//! - [`position`], [`loss`]: how far an instance is, and what a move would lose.
//!
//! The model in `tests/` runs these very functions under reboots, lost and late messages and doubled controllers.

pub mod adopt;
pub mod catch_up;
pub mod command;
pub mod control;
pub mod custody;
pub mod directive;
pub mod grant;
pub mod here;
pub mod instance;
pub mod look;
pub mod loss;
pub mod permit;
pub mod position;
pub mod proof;
pub mod refusal;
pub mod reign;
pub mod shard;
