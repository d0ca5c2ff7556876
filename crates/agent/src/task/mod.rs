//! What an agent makes of commands: taken on once, run in order, told until acknowledged, never run again.
//!
//! ```text
//! command --admit--> taken on (durable) --schedule--> running --verb--> ended (durable) --acknowledged--> buried (30 days)
//!            \--> refused: nothing was done               \-- killed: run again with its note
//! ```

pub mod admit;
pub mod check;
pub mod command;
pub mod inbox;
pub mod intake;
pub mod keep;
pub mod perform;
pub mod run;
pub mod runner;
pub mod schedule;
pub mod scratch;
pub mod stall;
pub mod tombstones;
