//! A controller that was restored, moved or doubled: what it may do before it has heard from every instance.
//!
//! It takes a higher term and asks. A report counts only after the agent has durably refused lower terms. Until all have reported, or an
//! operator named the silent ones, it confirms, promotes and unfences nothing. A higher reign that is reported is adopted; of two that do
//! not descend from each other none is picked.

use std::collections::{BTreeMap, BTreeSet};

use muster_common::name::Name;
use serde::{Deserialize, Serialize};

use crate::control::Role;
use crate::here::Rule;
use crate::refusal::{Check, Refusal};
use crate::reign::{Kin, Line, Reign};
use crate::shard::{Phase, ShardRecord};

/// Whom it waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Adoption {
    /// Who has not reported under this rule.
    pub silent: BTreeSet<Name>,
    /// Those of them whom an operator named: they are not waited for, and what was theirs is proved by receipt, external fence or word only.
    pub named: BTreeSet<Name>,
}

/// What an agent reports of its instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Report {
    /// The instance.
    pub instance: Name,
    /// The rule that the agent durably obeys since before this report.
    pub obeys: Option<Rule>,
    /// The highest reign that it knows.
    pub line: Line,
    /// Who writes in it.
    pub writer: Name,
    /// What the instance is.
    pub role: Role,
}

impl Adoption {
    /// All of them are silent.
    #[must_use]
    pub fn of(instances: impl IntoIterator<Item = Name>) -> Self {
        Self { silent: instances.into_iter().collect(), named: BTreeSet::new() }
    }

    /// Whether it goes on: somebody is silent whom nobody named.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        !self.silent.is_subset(&self.named)
    }

    /// `instance` reported.
    #[must_use]
    pub fn heard(&self, instance: &Name) -> Self {
        let mut next = self.clone();
        next.silent.remove(instance);
        next.named.remove(instance);
        next
    }

    /// An operator names a silent one.
    ///
    /// # Errors
    /// [`Check::Adopting`] where it is not silent.
    pub fn named(&self, instance: &Name) -> Result<Self, Refusal> {
        if !self.silent.contains(instance) {
            return Err(Refusal::new(Check::Adopting, format!("{instance} has reported"), "nothing: it is not waited for"));
        }
        let mut next = self.clone();
        next.named.insert(instance.clone());
        Ok(next)
    }
}

/// The record after a report under `rule`. `granted` tells whether a reign that is not known here carries the signature of a controller or
/// an operator who may open one: an agent's own claim opens none.
///
/// # Errors
/// [`Check::Rule`] where the agent does not obey this rule yet, [`Check::Conflict`] where two reigns exclude each other, [`Check::Proof`]
/// where nobody granted the higher one.
pub fn hear(record: &ShardRecord, report: &Report, rule: &Rule, granted: &dyn Fn(&Line) -> bool) -> Result<ShardRecord, Refusal> {
    if report.obeys != Some(*rule) {
        let evidence = format!("{} does not refuse lower terms yet", report.instance);
        return Err(Refusal::new(Check::Rule, evidence, "its next report"));
    }
    match report.line.kin(&record.line()) {
        Kin::Same => Ok(settled(record, report)),
        Kin::Ancestor => Ok(record.clone()),
        Kin::Conflict => Err(Refusal::new(
            Check::Conflict,
            format!(
                "{} knows {} of {}, the journal has {} of {}",
                report.instance,
                report.line.last(),
                report.writer,
                record.reign.mark(),
                record.reign.writer
            ),
            "an operator who picks one; both are stopped until then, and their data are kept",
        )),
        Kin::Descends if !granted(&report.line) => {
            let evidence = format!("{} claims {}, which nobody granted", report.instance, report.line.last());
            Err(Refusal::new(Check::Proof, evidence, "nothing: the claim is ignored; look at that machine"))
        }
        Kin::Descends => {
            let last = report.line.last();
            let parent = report.line.ancestors().last().map(|mark| mark.id);
            let reign = Reign { epoch: last.epoch, id: last.id, writer: report.writer.clone(), parent };
            // Everyone who could have written on the way may write still, as far as is known here.
            let owed = record.possible_writers();
            let phase = Phase::Owed { operation: None, nonce: None, owed: owed.clone(), proofs: BTreeMap::new() };
            let adopted = ShardRecord {
                reign,
                superseded: record.superseded.clone(),
                ancestors: report.line.ancestors().to_vec(),
                phase,
                candidate: None,
                possible: owed,
            };
            Ok(settled(&adopted, report))
        }
    }
}

/// The writer itself reports that it writes in the present reign: nothing is owed any more.
fn settled(record: &ShardRecord, report: &Report) -> ShardRecord {
    match report.role {
        Role::Writer { reign } if report.instance == record.reign.writer && reign == record.reign.mark() => record.promoted(reign),
        Role::Writer { .. }
        | Role::Promoting { .. }
        | Role::Stopped { .. }
        | Role::Follower { .. }
        | Role::Held { .. }
        | Role::Unmanaged
        | Role::Absent => record.clone(),
    }
}
