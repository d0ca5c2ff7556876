//! What travels between a controller and the keeper of an instance: directives, answers, reports. Data only; who may do what is judged elsewhere.
//!
//! A directive is all that a controller can say; an [`Order`] is the part of it that moves roles. An answer is an act's
//! [`crate::instance::Told`] with what only the agent can add: its signature, its position.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_common::id::{BootId, Nonce};
use muster_common::name::{InstanceName, Name};
use serde::{Deserialize, Serialize};

use crate::command::{Command, Order};
use crate::control::{Pledge, Role};
use crate::here::{Limit, Rule, Uptime};
use crate::look::Server;
use crate::permit::Confirmation;
use crate::position::Position;
use crate::proof::SignedReceipt;
use crate::reign::{Line, Mark};

/// What a controller tells the keeper of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Directive {
    /// Under which rule.
    pub rule: Rule,
    /// In which reign, with its ancestors.
    pub line: Line,
    /// Who writes in it.
    pub writer: Name,
    /// Grows with every directive of a shard under one rule.
    pub sequence: u64,
    /// How long it may be obeyed, from its arrival. `None`: it does not lapse.
    pub lasts: Option<Duration>,
    /// The other instances that the component lists now.
    pub others: BTreeSet<Name>,
    /// Where the writer is reached, where that is of use.
    pub upstream: Option<Upstream>,
    /// What to do.
    pub errand: Errand,
}

/// Where a follower reaches its writer. No secrets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Upstream {
    /// Its instance.
    pub instance: Name,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The role to connect as. Empty: the one of the follower's own declaration.
    pub user: String,
    /// The replication slot. Empty: none.
    pub slot: String,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Errand {
    /// What the pure core knows as an order.
    Order(Order),
    /// Be bound by another instance's start.
    Vouch {
        /// Whose start.
        instance: Name,
        /// In which reign.
        reign: Mark,
        /// Of its question.
        asked: Nonce,
        /// How long the pledge lasts.
        lasts: Duration,
    },
    /// The question is answered.
    Confirm(Confirmation),
    /// Take over what runs.
    Manage {
        /// As what.
        role: ManagedAs,
    },
    /// Only observe from now on.
    Unmanage,
    /// Make data that left the writer's line able to follow it, then follow.
    Rejoin,
}

/// What an instance is taken over as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ManagedAs {
    /// The one that takes writes.
    Writer,
    /// One that follows.
    Follower,
}

impl Errand {
    /// What it is called in texts.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Order(order) => order.name(),
            Self::Vouch { .. } => "vouch",
            Self::Confirm(_) => "confirm",
            Self::Manage { .. } => "manage",
            Self::Unmanage => "unmanage",
            Self::Rejoin => "rejoin",
        }
    }
}

/// How long a word that lets somebody start may be obeyed where its sender does not say.
const ASKED: Duration = Duration::from_secs(60);

impl Directive {
    /// How long it may be obeyed, from its arrival: what gives a way back or a right lapses with it also where its sender does not say so,
    /// and in another boot. `None`: a fence, and what moves no role.
    #[must_use]
    pub fn lapses(&self) -> Option<Duration> {
        self.lasts.or(match &self.errand {
            Errand::Order(Order::Stop { for_operation }) => *for_operation,
            Errand::Order(Order::Pledge { lasts }) | Errand::Vouch { lasts, .. } => Some(*lasts),
            Errand::Order(Order::Ask | Order::Promote(_)) | Errand::Confirm(_) => Some(ASKED),
            Errand::Order(Order::Cede(_) | Order::Follow) | Errand::Manage { .. } | Errand::Unmanage | Errand::Rejoin => None,
        })
    }

    /// The command that [`crate::command::admit`] judges it by. `arrived` is the limit that was computed when it came.
    #[must_use]
    pub fn command(&self, arrived: Option<Limit>) -> Command {
        let order = match &self.errand {
            Errand::Order(order) => order.clone(),
            // These move no role by themselves; they are judged by rule, sequence, line and limit alone.
            Errand::Vouch { .. } | Errand::Confirm(_) | Errand::Manage { .. } | Errand::Unmanage => Order::Ask,
            Errand::Rejoin => Order::Follow,
        };
        Command { rule: self.rule, line: self.line.clone(), writer: self.writer.clone(), sequence: self.sequence, limit: arrived, order }
    }
}

/// What became of a directive.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is stopped, proved gone, there.
    Stopped(Option<Position>),
    /// It asks to start again. `None`: it runs already.
    Asking(Option<Question>),
    /// It stands ready.
    Pledged {
        /// Of the candidacy.
        nonce: Nonce,
        /// How far it is.
        position: Option<Position>,
    },
    /// Its receipt.
    Ceded(Box<SignedReceipt>),
    /// It takes writes.
    Promoted {
        /// In this reign.
        reign: Mark,
        /// How far it is.
        position: Option<Position>,
    },
    /// It follows.
    Follows,
    /// It is bound.
    Vouched(Option<Position>),
    /// The writer started again in this reign.
    Started(Mark),
    /// It is kept from now on.
    Managed(Option<Position>),
    /// It is only observed from now on.
    Unmanaged,
    /// It follows again.
    Rejoined {
        /// Where the two lines part. `None`: it held nothing that the writer has not.
        fork: Option<Position>,
        /// Bytes of log after the fork that only this instance held.
        bytes: u64,
        /// How far it had been.
        was: Position,
        /// Whether data were rewound.
        rewound: bool,
    },
}

/// A stopped writer asks whether it may start again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Question {
    /// Which: a confirmation of an earlier one is none.
    pub asked: Nonce,
    /// In which reign it would write.
    pub reign: Mark,
}

/// What the keeper of one instance reports by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The instance.
    pub instance: InstanceName,
    /// What its control file says. `None`: it is lost or cannot be read.
    pub known: Option<Known>,
    /// How far it was seen to be.
    pub position: Option<Position>,
    /// A permit of this boot is there.
    pub permit: bool,
    /// What the server does.
    pub server: Server,
    /// The lock is held against a start.
    pub locked: bool,
    /// Its open question.
    pub asks: Option<Question>,
    /// The boot that it is kept in.
    pub boot: BootId,
    /// How long that has lasted.
    pub now: Uptime,
    /// What is wrong, with what to type. Empty: nothing.
    pub trouble: String,
}

/// What a control file says, without its nonces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// What the instance is.
    pub role: Role,
    /// The highest reign.
    pub line: Line,
    /// Who writes in it.
    pub writer: Name,
    /// The rule that is durably obeyed.
    pub rule: Option<Rule>,
    /// The number of the last directive taken on under it.
    pub sequence: u64,
    /// What is refused.
    pub pledges: Vec<Pledge>,
    /// The other instances, as last declared.
    pub others: BTreeSet<Name>,
}
