//! All that is journaled of one operation. What it means is `life` and `kinds`; here it is only data.
//!
//! What always holds: it is kept as JSON under [`VERSION`]; a change that an older reader would misread raises the version, and
//! `journal` goes on reading every version that was released (golden files).

use std::time::Duration;

use muster_common::counter::Epoch;
use muster_common::fault::Fault;
use muster_common::id::{CommandId, OperationId};
use muster_common::name::{InstanceName, Name};
use muster_common::time::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::operation::asked::What;
use crate::operation::done::Done;
use crate::operation::done::hooks::{Around, Ran};
use crate::operation::kind::{Kind, Phase};
use crate::operation::kinds::{backup, check, discard, hold, hook, prune, restore, verify};
use crate::operation::{moves, sites};

/// The version of the journaled form.
pub const VERSION: u32 = 1;

/// An operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Its id.
    pub id: OperationId,
    /// What is to be done.
    pub task: Task,
    /// The instance whose agent does it. Of a site's move: the site's name, twice.
    pub target: InstanceName,
    /// That agent.
    pub agent: Name,
    /// The repository it uses.
    pub repository: Option<Name>,
    /// The epoch that it was decided in. 0: none was known.
    pub epoch: Epoch,
    /// Who or what caused it.
    pub cause: String,
    /// The operation that it is a part of.
    pub parent: Option<OperationId>,
    /// When it was accepted.
    pub created: Timestamp,
    /// Nothing may stand still for longer than so many milliseconds.
    pub stall_limit_ms: u64,
    /// W3C trace context of the call. Empty: none.
    #[serde(default)]
    pub traceparent: String,
    /// What was asked for, without consent. `None`: it was accepted by an older build, which did not keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<What>,
    /// The hooks before and after it.
    #[serde(default, skip_serializing_if = "Around::is_none")]
    pub hooks: Around,
    /// The hooks that ran, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ran: Vec<Ran>,
    /// What a move keeps while it goes on.
    #[serde(default, skip_serializing_if = "moves::task::Moving::is_empty")]
    pub moving: moves::task::Moving,
    /// Where it stands.
    pub phase: Phase,
    /// Its steps so far, in order.
    pub steps: Vec<Step>,
    /// Who asked it to stop.
    pub cancel: Option<Cancel>,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// Why it failed, was cancelled or is unknown.
    pub fault: Option<Fault>,
    /// What came of it.
    pub done: Option<Done>,
}

/// What is to be done, by kind, with everything chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Take a recovery point.
    Backup(backup::Task),
    /// Bring one back.
    Restore(restore::Task),
    /// Check the component's part of its repository.
    Check(check::Task),
    /// Remove what a restore in place kept aside.
    Discard(discard::Task),
    /// Prove a recovery point good.
    Verify(verify::Task),
    /// Remove recovery points that no rule keeps.
    Prune(prune::Task),
    /// Hold a recovery point, or let it go.
    Hold(hold::Task),
    /// Run a hook by itself.
    Hook(hook::Task),
    /// Tell one instance what to do.
    Order(Box<moves::part::Order>),
    /// Decide who may write.
    Move(moves::task::Task),
    /// Move every component away from a site.
    Site(Box<sites::task::Task>),
}

/// A part of an operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its name, unique within the operation.
    pub name: String,
    /// What it is.
    pub work: Work,
    /// Where it stands.
    pub stands: Stands,
    /// When its intent was journaled.
    pub started: Timestamp,
    /// When its outcome was journaled.
    pub finished: Option<Timestamp>,
    /// Why it failed.
    pub fault: Option<Fault>,
}

/// What a step is. Its intent is journaled before it begins, its outcome after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// A command to the operation's agent.
    Command {
        /// Its id, see [`State::command_id`].
        id: CommandId,
        /// Whether the agent has told that the command is in its inbox.
        taken_on: bool,
    },
    /// An operation of its own.
    Child {
        /// It.
        operation: OperationId,
    },
    /// A wait.
    Wait(Awaited),
    /// Something that the controller does itself, in the transaction that records it.
    Action(Act),
}

/// What a step waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Awaited {
    /// An agent has to connect.
    Agent(Name),
}

/// What the controller did itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// A restore of the writer in place moved the epoch.
    MoveReign {
        /// The epoch before.
        from: Epoch,
        /// The epoch that began.
        to: Epoch,
        /// Instances that hold what the writer no longer has.
        superseded: Vec<Name>,
    },
    /// A move changed the record of who writes.
    Shard(moves::change::Deed),
    /// A move changes a name that follows the writer. Not within the transaction: it is begun, carried out, and told.
    Route(moves::route::Acted),
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stands {
    /// Its intent is journaled.
    Started,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
    /// Its outcome is not known.
    Unknown,
    /// Ended because somebody asked.
    Cancelled,
}

/// That somebody asked an operation to stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// Who.
    pub by: String,
    /// Why. May be empty.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

impl Task {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Backup(_) => Kind::Backup,
            Self::Restore(_) => Kind::Restore,
            Self::Check(_) => Kind::Check,
            Self::Discard(_) => Kind::Discard,
            Self::Verify(_) => Kind::Verify,
            Self::Prune(_) => Kind::Prune,
            Self::Hold(_) => Kind::Hold,
            Self::Hook(_) => Kind::Hook,
            Self::Order(_) => Kind::Order,
            Self::Move(task) => task.kind(),
            Self::Site(task) => task.how.kind(),
        }
    }
}

impl State {
    /// The component. `None`: a site as a whole is moved.
    #[must_use]
    pub const fn component(&self) -> Option<&Name> {
        match &self.task {
            Task::Site(_) => None,
            Task::Backup(_)
            | Task::Restore(_)
            | Task::Check(_)
            | Task::Discard(_)
            | Task::Verify(_)
            | Task::Prune(_)
            | Task::Hold(_)
            | Task::Hook(_)
            | Task::Order(_)
            | Task::Move(_) => Some(&self.target.component),
        }
    }

    /// The instance as it is shown and stored. Empty: a site as a whole is moved.
    #[must_use]
    pub fn instance(&self) -> &str {
        self.component().map_or("", |_| self.target.instance.as_str())
    }

    /// The id of the operation's command. It follows from the operation and its kind, so that a controller that was restored from an
    /// older copy issues the same one again and the agent's inbox knows it.
    #[must_use]
    pub fn command_id(&self) -> CommandId {
        let digest = Sha256::new()
            .chain_update(b"muster command 1")
            .chain_update(self.id.as_bytes())
            .chain_update(self.task.kind().name().as_bytes())
            .finalize();
        let mut id = [0; 16];
        id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        CommandId::from_bytes(id)
    }

    /// The command step, once it was issued.
    #[must_use]
    pub fn command(&self) -> Option<&Step> {
        self.steps.iter().find(|step| matches!(step.work, Work::Command { .. }))
    }

    /// Whether the agent has told that the command is in its inbox.
    #[must_use]
    pub fn taken_on(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.work, Work::Command { taken_on: true, .. }))
    }

    /// Whether the epoch was moved on behalf of this operation.
    #[must_use]
    pub fn reign_moved(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.work, Work::Action(Act::MoveReign { .. })))
    }

    /// Nothing may stand still for longer.
    #[must_use]
    pub const fn stall_limit(&self) -> Duration {
        Duration::from_millis(self.stall_limit_ms)
    }

    /// Whether a move is past its point of no return.
    #[must_use]
    pub fn has_moved(&self) -> bool {
        moves::decide::generation(self) > 0
    }

    fn order_title(&self) -> String {
        match &self.task {
            Task::Order(order) => format!("{} {}", order.errand.name(), self.target),
            Task::Backup(_)
            | Task::Restore(_)
            | Task::Check(_)
            | Task::Discard(_)
            | Task::Verify(_)
            | Task::Prune(_)
            | Task::Hold(_)
            | Task::Hook(_)
            | Task::Move(_)
            | Task::Site(_) => self.target.to_string(),
        }
    }

    /// `back up orders-db/istanbul`: how texts name it.
    #[must_use]
    pub fn title(&self) -> String {
        let verb = match self.task.kind() {
            Kind::Backup => "back up",
            Kind::Restore => "restore",
            Kind::Check => "check the repository of",
            Kind::Discard => "discard the old directory of",
            Kind::Verify => "verify a point of",
            Kind::Prune => "prune the points of",
            Kind::Hold => "hold or release a point of",
            Kind::Hook => "run a hook of",
            Kind::Order => return self.order_title(),
            Kind::Manage => return format!("keep {}", self.target.component),
            Kind::Switchover => "switch over to",
            Kind::Failover => return format!("fail over {}", self.target.component),
            Kind::Fence => "fence",
            Kind::Unfence => "start again",
            Kind::Rejoin => "rejoin",
            Kind::SwitchoverSite => return format!("switch site {} over", self.target.component),
            Kind::FailoverSite => return format!("fail site {} over", self.target.component),
        };
        format!("{verb} {}", self.target)
    }
}
