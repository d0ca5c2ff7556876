//! What a controller tells the keeper of an instance to do, and whether it may be obeyed now.
//!
//! Every check is made when a command arrives and again when the inbox takes it up after a restart: what was right then may be over.

use std::time::Duration;

use muster_common::name::Name;
use serde::{Deserialize, Serialize};

use crate::control::Control;
use crate::custody::Ask;
use crate::grant::Claim;
use crate::here::{Here, Limit, Rule};
use crate::refusal::{Check, Refusal};
use crate::reign::{Kin, Line};

/// One command.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Command {
    /// Under which rule.
    pub rule: Rule,
    /// In which reign, with its ancestors.
    pub line: Line,
    /// Who writes in it.
    pub writer: Name,
    /// Grows with every command of a shard under one rule.
    pub sequence: u64,
    /// Until when it may be obeyed, counted from its arrival. `None` for what changes no role, and for what must not lapse: a fence.
    pub limit: Option<Limit>,
    /// What to do.
    pub order: Order,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Stop the writer. With `for_operation` it asks to come back when that has passed; without, only an unfence ends it.
    Stop {
        /// Part of an operation, for so long.
        for_operation: Option<Duration>,
    },
    /// Let a stopped writer ask to start again: an unfence, or the way back of a switchover.
    Ask,
    /// Stand ready to be promoted.
    Pledge {
        /// For how long.
        lasts: Duration,
    },
    /// Prove that an instance writes no more in a reign.
    Cede(Ask),
    /// Become the writer.
    Promote(Claim),
    /// Follow the writer of the command's reign, from data that fit it.
    Follow,
}

impl Order {
    /// What it is called in texts.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Stop { .. } => "stop",
            Self::Ask => "start again",
            Self::Pledge { .. } => "pledge",
            Self::Cede(_) => "cede",
            Self::Promote(_) => "promote",
            Self::Follow => "follow",
        }
    }
}

/// Whether it may be obeyed now.
///
/// # Errors
/// [`Check::Rule`], [`Check::Sequence`], [`Check::Reign`], [`Check::Conflict`] or [`Check::Limit`], with both numbers.
pub fn admit(control: &Control, here: &Here, command: &Command) -> Result<(), Refusal> {
    if let Some(own) = control.rule {
        if own.refuses(&command.rule) {
            let evidence = format!("{} of term {}: term {} was obeyed since", command.order.name(), command.rule.term, own.term);
            return Err(Refusal::new(Check::Rule, evidence, "the controller that leads"));
        }
        if own == command.rule && command.sequence < control.sequence {
            let evidence = format!("{} has number {}, {} was taken on since", command.order.name(), command.sequence, control.sequence);
            return Err(Refusal::new(Check::Sequence, evidence, "a new command"));
        }
    }
    match command.line.kin(&control.line) {
        // A reign has one writer. A controller that names another one was restored from before it knew.
        Kin::Same if command.writer != control.writer => {
            let evidence =
                format!("{} in {}: its writer is {}, not {}", command.order.name(), command.line.last(), control.writer, command.writer);
            return Err(Refusal::new(Check::Conflict, evidence, "a controller that has heard who writes"));
        }
        Kin::Same | Kin::Descends => {}
        Kin::Ancestor => {
            let evidence = format!("{} in {}: {} is known here", command.order.name(), command.line.last(), control.line.last());
            return Err(Refusal::new(Check::Reign, evidence, "a command of that reign"));
        }
        Kin::Conflict => {
            let evidence =
                format!("{} in {}, which does not descend from {}", command.order.name(), command.line.last(), control.line.last());
            return Err(Refusal::new(Check::Conflict, evidence, "an operator who picks one"));
        }
    }
    match command.limit {
        Some(limit) if limit.passed(here) => {
            Err(Refusal::new(Check::Limit, format!("{}: its limit has passed", command.order.name()), "asking for it again"))
        }
        Some(_) | None => Ok(()),
    }
}
