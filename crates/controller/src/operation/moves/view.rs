//! What a move's decision sees: the move, its parts, the shard's record, the instances. Plain data; reading it is the driver's.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_common::fault::Fault;
use muster_common::id::ReignId;
use muster_common::name::Name;
use muster_common::time::Timestamp;
use muster_failover::control::Role;
use muster_failover::directive::{Answer, Question, Upstream};
use muster_failover::here::Rule;
use muster_failover::position::Position;
use muster_failover::shard::ShardRecord;
use muster_wire::proto::v1::InstanceRole;

use crate::operation::kind::Phase;
use crate::operation::moves::task::Moving;
use crate::operation::state::State;

/// A position that is older tells nothing of now.
pub const FRESH: Duration = Duration::from_secs(15);

/// All that is seen.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The move.
    pub state: State,
    /// Who writes, as it is journaled.
    pub record: Option<ShardRecord>,
    /// Its parts, by step.
    pub parts: BTreeMap<String, Part>,
    /// The instances, as declared.
    pub members: Vec<Member>,
    /// The routes that follow the component.
    pub routes: Vec<Name>,
    /// Under which rule orders are given now.
    pub rule: Rule,
    /// This store was brought back or copied, and has not heard from every instance since.
    pub adopting: bool,
    /// Now.
    pub now: Timestamp,
    /// Drawn for this decision: the id of a reign that it begins.
    pub drawn: ReignId,
}

/// An order to one instance, as its own operation has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Where it stands.
    pub phase: Phase,
    /// What its agent answered.
    pub answer: Option<Answer>,
    /// Why it failed.
    pub fault: Option<Fault>,
    /// When it was given.
    pub since: Timestamp,
    /// When it ended.
    pub finished: Option<Timestamp>,
}

/// An instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its name.
    pub name: Name,
    /// The agent beside it.
    pub agent: Name,
    /// Where it stands.
    pub site: String,
    /// Whether that agent is connected.
    pub connected: bool,
    /// What it does, by the last look that is fresh.
    pub role: InstanceRole,
    /// How far it is, by the newest look or report, with its age.
    pub position: Option<(Position, Duration)>,
    /// What its keeper says that it is. `None`: nothing was reported since this process began.
    pub kept: Option<Role>,
    /// Its keeper's open question.
    pub asks: Option<Question>,
    /// Where others reach it, if that is declared so that they can.
    pub upstream: Option<Upstream>,
}

impl View {
    /// A member by its name.
    #[must_use]
    pub fn member(&self, name: &Name) -> Option<&Member> {
        self.members.iter().find(|member| member.name == *name)
    }

    /// Whether its agent is connected.
    #[must_use]
    pub fn reaches(&self, name: &Name) -> bool {
        self.member(name).is_some_and(|member| member.connected)
    }

    /// What is journaled of the move beside its steps.
    #[must_use]
    pub const fn moving(&self) -> &Moving {
        &self.state.moving
    }
}

impl Member {
    /// How far it is, where that is known freshly.
    #[must_use]
    pub fn fresh(&self) -> Option<&Position> {
        self.position.as_ref().filter(|(_, age)| *age <= FRESH).map(|(position, _)| position)
    }

    /// Whether it is seen to take writes now.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.connected && self.role == InstanceRole::ReadWrite
    }
}
