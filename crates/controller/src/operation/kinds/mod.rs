//! What an operator can ask for, a file each: how it is settled when it is accepted, what its agent is told, what its outcome changes
//! here. All of them live the life of one command (`life`).

pub mod backup;
pub mod check;
pub mod discard;
pub mod hold;
pub mod hook;
pub mod order;
pub mod prune;
pub mod restore;
pub mod verify;

use muster_common::counter::Epoch;
use muster_common::name::{InstanceName, Name};
use muster_failover::here::Rule;
use muster_wire::proto::agent::v1::{HookedWork, command, hooked_work};

use crate::operation::done::hooks::Around;
use crate::operation::done::prune::Fate;
use crate::operation::done::{BackupDone, Done, Outcome};
use crate::operation::fleet::{Fleet, Instance};
use crate::operation::state::{State, Task};

/// What was asked for, with everything chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    /// What is to be done.
    pub task: Task,
    /// The instance whose agent does it.
    pub target: InstanceName,
    /// That agent.
    pub agent: Name,
    /// The repository it uses.
    pub repository: Option<Name>,
    /// The epoch it is decided in. 0: none is known.
    pub epoch: Epoch,
    /// The hooks before and after it.
    pub hooks: Around,
}

impl Settled {
    fn on(fleet: &Fleet, instance: &Instance, task: Task) -> Self {
        Self {
            hooks: hooks(fleet, &task),
            task,
            target: fleet.full_name(instance),
            agent: instance.agent.clone(),
            repository: fleet.repository.clone(),
            epoch: fleet.shard.record.as_ref().map_or(Epoch(0), |record| record.reign.epoch),
        }
    }
}

/// The hooks that the component names for what is to be done. What only tells has none.
fn hooks(fleet: &Fleet, task: &Task) -> Around {
    match task {
        Task::Backup(_) => fleet.hooks.backup.clone(),
        Task::Restore(restore) if !restore.dry_run => fleet.hooks.restore.clone(),
        Task::Verify(_) => fleet.hooks.verify.clone(),
        Task::Restore(_)
        | Task::Check(_)
        | Task::Discard(_)
        | Task::Prune(_)
        | Task::Hold(_)
        | Task::Hook(_)
        | Task::Order(_)
        | Task::Move(_)
        | Task::Site(_) => Around::default(),
    }
}

/// What an outcome changes in the store, in the transaction that records it.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// A recovery point is there.
    KeepPoint(BackupDone),
    /// What is known of the component's points has changed.
    TellPoints(Vec<Fate>),
    /// The instance holds an older moment now: of the writer the epoch moves, another one is no longer superseded.
    Restored,
}

/// What the agent is told, under this rule and by this number. `None`: it is no command to an agent.
#[must_use]
pub fn work(state: &State, rule: Rule, sequence: u64) -> Option<command::Work> {
    let hooked = |work| {
        let names = |names: &[Name]| names.iter().map(ToString::to_string).collect();
        let (before, after) = (names(&state.hooks.before), names(&state.hooks.after));
        command::Work::Hooked(HookedWork { before, after, work: Some(work) })
    };
    let bare = state.hooks.is_none();
    Some(match &state.task {
        Task::Backup(task) if !bare => hooked(hooked_work::Work::Backup(backup::work(task))),
        Task::Restore(task) if !bare => hooked(hooked_work::Work::Restore(restore::work(task))),
        Task::Verify(task) if !bare => hooked(hooked_work::Work::Verify(verify::work(task))),
        Task::Hook(task) => command::Work::RunHook(hook::work(task)),
        Task::Backup(task) => command::Work::Backup(backup::work(task)),
        Task::Restore(task) => command::Work::Restore(restore::work(task)),
        Task::Check(task) => command::Work::Check(check::work(task)),
        Task::Discard(task) => command::Work::Discard(discard::work(task)),
        Task::Verify(task) => command::Work::Verify(verify::work(task)),
        Task::Prune(task) => command::Work::Prune(prune::work(task)),
        Task::Hold(task) => command::Work::Hold(hold::work(task)),
        Task::Order(order) => command::Work::Order(order::work(order, rule, sequence)),
        Task::Move(_) | Task::Site(_) => return None,
    })
}

/// What an outcome changes here, whether it comes in time or late.
#[must_use]
pub fn effects(state: &State, outcome: &Outcome) -> Option<Effect> {
    match &state.task {
        Task::Backup(_) => match outcome {
            Outcome::Done(Done::Backup(done)) => Some(Effect::KeepPoint(done.clone())),
            Outcome::Done(
                Done::Restore(_)
                | Done::Check(_)
                | Done::Discard { .. }
                | Done::Verify(_)
                | Done::Prune(_)
                | Done::Hold(_)
                | Done::Hook { .. }
                | Done::Order(_)
                | Done::Move(_)
                | Done::Site(_),
            )
            | Outcome::Fault(_) => None,
        },
        Task::Restore(task) => (restore::restored_here(task, outcome) && !state.reign_moved()).then_some(Effect::Restored),
        Task::Prune(task) => prune::fates(task, outcome).map(Effect::TellPoints),
        Task::Hold(task) => hold::fates(task, outcome).map(Effect::TellPoints),
        Task::Check(_) | Task::Discard(_) | Task::Verify(_) | Task::Hook(_) | Task::Order(_) | Task::Move(_) | Task::Site(_) => None,
    }
}

/// What an operator's word that it is done changes here.
#[must_use]
pub fn effects_of_word(state: &State) -> Option<Effect> {
    match &state.task {
        Task::Restore(task) => (restore::is_here(task) && !state.reign_moved()).then_some(Effect::Restored),
        Task::Backup(_)
        | Task::Check(_)
        | Task::Discard(_)
        | Task::Verify(_)
        | Task::Prune(_)
        | Task::Hold(_)
        | Task::Hook(_)
        | Task::Order(_)
        | Task::Move(_)
        | Task::Site(_) => None,
    }
}
