//! What agents tell about commands. A session hands it in and sends the answers back, in order.

use muster_common::name::Name;
use muster_wire::proto::agent::v1::{Hello, TaskOutcome, TaskProgress, TaskReport};

/// One piece of news, from an agent whose certificate was checked.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentNews {
    /// A session began. The answers go out right after Welcome, whose term is the store's *after* this was heard.
    Connected(Box<Hello>),
    /// The session is over.
    Disconnected,
    /// A command is in the inbox, durably.
    TakenOn {
        /// Its id.
        command_id: String,
    },
    /// How far a task is.
    Progress(TaskProgress),
    /// How a task ended. Its acknowledgement is among the answers once it is journaled.
    Outcome(Box<TaskOutcome>),
    /// The answer to AskTask.
    Report(TaskReport),
}

/// News and who tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    /// The agent.
    pub agent: Name,
    /// What it tells.
    pub news: AgentNews,
}
