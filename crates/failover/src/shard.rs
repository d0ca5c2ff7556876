//! A shard as the controller's journal has it: who writes, who may write, what is under way.
//!
//! ```text
//!  (no record) --observed writer--> Steady(1) --restored in place--> Steady(n+1), same writer, followers superseded
//!
//!  Steady(e) --begin--> + candidate --pledged--> + nonce --move--> Owed(e+1) --a proof for each--> --promoted--> Steady(e+1)
//!      ^                    |                      |                 |   ^
//!      +------ back --------+-------- back --------+                 +---+ another candidate: begin, pledged, move to e+2
//! ```
//! The move is the one point of no return: before it everything goes back, after it everything goes on. It is made by compare-and-swap
//! on reign and phase by whoever keeps the journal; here a transition that does not fit is refused.

use std::collections::{BTreeMap, BTreeSet};

use muster_common::counter::Epoch;
use muster_common::id::{Nonce, OperationId, ReignId};
use muster_common::name::Name;
use serde::{Deserialize, Serialize};

use crate::custody::Ask;
use crate::grant::Claim;
use crate::here::Rule;
use crate::loss::Loss;
use crate::permit::{Confirmation, Confirmed};
use crate::position::Position;
use crate::proof::Proof;
use crate::refusal::{Check, Refusal};
use crate::reign::{Line, Mark, Reign};

/// What is known of who writes in one shard.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ShardRecord {
    /// The present reign.
    pub reign: Reign,
    /// Instances that hold what the writer no longer has: never followed or promoted until seeded anew.
    pub superseded: BTreeSet<Name>,
    /// The reigns before the present one, oldest first.
    #[serde(default)]
    pub ancestors: Vec<Mark>,
    /// What is under way.
    #[serde(default)]
    pub phase: Phase,
    /// Who stands ready for the next reign, if somebody does.
    #[serde(default)]
    pub candidate: Option<Candidate>,
    /// Who may write beside the recorded writer: every candidate of a move since the last one that was promoted, and the writer then.
    #[serde(default)]
    pub possible: BTreeMap<Name, Mark>,
}

/// What is under way in a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// The recorded writer may write.
    #[default]
    Steady,
    /// The reign has moved, and its writer is not promoted yet.
    Owed {
        /// By which operation; `None`: found on an agent by a controller that was restored.
        operation: Option<OperationId>,
        /// Of the candidacy. `None`: not known here, so another move is needed.
        nonce: Option<Nonce>,
        /// Whose proof is owed, and of which reign.
        owed: BTreeMap<Name, Mark>,
        /// What came.
        proofs: BTreeMap<Name, Proof>,
    },
}

/// Who is to be the next writer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Candidate {
    /// For which operation.
    pub operation: OperationId,
    /// The instance.
    pub name: Name,
    /// Of its candidacy, when it has pledged.
    pub nonce: Option<Nonce>,
}

/// Why a record cannot change so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The reign is not the one that the caller saw.
    #[error("the reign moved from epoch {expected} to {present} meanwhile")]
    Moved {
        /// What the caller saw.
        expected: Epoch,
        /// What is.
        present: Epoch,
    },
    /// A move is under way.
    #[error("a switchover or failover of this shard is under way")]
    UnderWay,
    /// The end of 64 bits.
    #[error("epochs are used up")]
    UsedUp,
}

impl ShardRecord {
    /// The first record: `writer` was observed as the only instance that takes writes.
    #[must_use]
    pub fn first(writer: Name, id: ReignId) -> Self {
        Self::of(Reign { epoch: Epoch(1), id, writer, parent: None }, Vec::new(), BTreeSet::new())
    }

    /// A steady record of this reign.
    #[must_use]
    pub fn of(reign: Reign, ancestors: Vec<Mark>, superseded: BTreeSet<Name>) -> Self {
        Self { reign, superseded, ancestors, phase: Phase::Steady, candidate: None, possible: BTreeMap::new() }
    }

    /// The present reign with its ancestors.
    #[must_use]
    pub fn line(&self) -> Line {
        Line::with(self.ancestors.clone(), self.reign.mark())
    }

    /// Whether nothing is under way.
    #[must_use]
    pub fn is_steady(&self) -> bool {
        self.phase == Phase::Steady && self.candidate.is_none()
    }

    /// Everyone who may write, with the latest reign in which each may.
    #[must_use]
    pub fn possible_writers(&self) -> BTreeMap<Name, Mark> {
        let mut all = self.possible.clone();
        all.insert(self.reign.writer.clone(), self.reign.mark());
        all
    }

    /// `instance` is restored in place while the reign is `expected`. Where it is the writer, a new reign of the same
    /// writer begins and all `others` are superseded; where it is not, nothing changes but that it is no longer superseded.
    ///
    /// # Errors
    /// Where the reign moved since the caller saw it, or is being moved.
    pub fn restored_in_place(&self, instance: &Name, expected: Epoch, others: &[Name], id: ReignId) -> Result<Self, Refused> {
        let present = self.reign.epoch;
        if present != expected {
            return Err(Refused::Moved { expected, present });
        }
        let mut superseded = self.superseded.clone();
        if *instance != self.reign.writer {
            superseded.remove(instance);
            return Ok(Self { superseded, ..self.clone() });
        }
        if !self.is_steady() {
            return Err(Refused::UnderWay);
        }
        let epoch = present.next().ok_or(Refused::UsedUp)?;
        superseded.extend(others.iter().filter(|other| *other != instance).cloned());
        superseded.remove(instance);
        Ok(Self::of(self.child(epoch, id, instance.clone()), self.with_ancestor(), superseded))
    }

    /// An agent remembers the higher epoch `epoch` of this shard: the record was restored from an older copy. It is adopted, never
    /// lowered. The epoch moves when the writer goes back in time, so all `others` count as superseded until they are seeded anew.
    #[must_use]
    pub fn adopted(&self, epoch: Epoch, id: ReignId, others: &[Name]) -> Self {
        if epoch <= self.reign.epoch {
            return self.clone();
        }
        let mut superseded = self.superseded.clone();
        superseded.extend(others.iter().filter(|other| **other != self.reign.writer).cloned());
        Self::of(self.child(epoch, id, self.reign.writer.clone()), self.with_ancestor(), superseded)
    }

    /// `name` is to be the next writer. After a move whose candidate was lost this is the way to another one, or back to the old writer.
    ///
    /// # Errors
    /// [`Check::Phase`] where another operation has a candidate, [`Check::Role`] where `name` can be none.
    pub fn begin(&self, operation: OperationId, name: &Name) -> Result<Self, Refusal> {
        if let Some(other) = &self.candidate
            && (other.operation != operation || other.name != *name)
        {
            let evidence = format!("operation {} prepares {} to be the writer", other.operation, other.name);
            return Err(Refusal::new(Check::Phase, evidence, format!("its end: muster cancel {}", other.operation)));
        }
        if self.superseded.contains(name) {
            return Err(Refusal::new(Check::Role, format!("{name} holds what the writer no longer has"), format!("muster rejoin {name}")));
        }
        if self.phase == Phase::Steady && *name == self.reign.writer {
            return Err(Refusal::new(Check::Role, format!("{name} is the writer"), "naming another instance"));
        }
        if self.candidate.is_some() {
            return Ok(self.clone());
        }
        Ok(Self { candidate: Some(Candidate { operation, name: name.clone(), nonce: None }), ..self.clone() })
    }

    /// The candidate has pledged.
    ///
    /// # Errors
    /// [`Check::Phase`] where it is not the candidate of this operation.
    pub fn pledged(&self, operation: OperationId, name: &Name, nonce: Nonce) -> Result<Self, Refusal> {
        match &self.candidate {
            Some(candidate) if candidate.operation == operation && candidate.name == *name => {
                Ok(Self { candidate: Some(Candidate { nonce: Some(nonce), ..candidate.clone() }), ..self.clone() })
            }
            Some(_) | None => Err(Refusal::new(Check::Phase, format!("{name} is not the candidate"), "a new switchover or failover")),
        }
    }

    /// The preparation goes back. After a move only the preparation of the next one does.
    #[must_use]
    pub fn back(&self, operation: OperationId) -> Self {
        match &self.candidate {
            Some(candidate) if candidate.operation == operation => Self { candidate: None, ..self.clone() },
            Some(_) | None => self.clone(),
        }
    }

    /// The journal move: the next reign exists, `expected` is over. What was durable in the journal before must be `expected` still.
    ///
    /// # Errors
    /// [`Check::Phase`] where nobody has pledged for this operation, [`Check::Reign`] where the reign is not `expected`.
    pub fn moved(&self, operation: OperationId, expected: Mark, id: ReignId) -> Result<Self, Refusal> {
        if self.reign.mark() != expected {
            let evidence = format!("the reign is {} now, the move is from {expected}", self.reign.mark());
            return Err(Refusal::new(Check::Reign, evidence, "a new switchover or failover"));
        }
        let Some(Candidate { operation: of, name, nonce: Some(nonce) }) = &self.candidate else {
            return Err(Refusal::new(Check::Phase, "no candidate has pledged", "the candidate's answer"));
        };
        if *of != operation {
            return Err(Refusal::new(Check::Phase, format!("the candidate is of operation {of}"), format!("its end: muster cancel {of}")));
        }
        let epoch = self.reign.epoch.next().ok_or_else(|| Refusal::new(Check::Reign, "epochs are used up", "nothing"))?;
        // Owed is what may write now; the candidate itself comes to it by the move.
        let owed = self.possible_writers();
        let phase = Phase::Owed { operation: Some(operation), nonce: Some(*nonce), owed: owed.clone(), proofs: BTreeMap::new() };
        Ok(Self {
            reign: self.child(epoch, id, name.clone()),
            ancestors: self.with_ancestor(),
            superseded: self.superseded.clone(),
            phase,
            candidate: None,
            possible: owed,
        })
    }

    /// What to ask each for whom a proof is still owed.
    #[must_use]
    pub fn asks(&self) -> Vec<(Name, Ask)> {
        match &self.phase {
            Phase::Owed { nonce: Some(nonce), owed, proofs, .. } => owed
                .iter()
                .filter(|(name, _)| !proofs.contains_key(*name))
                .map(|(name, reign)| (name.clone(), Ask { reign: *reign, next: self.reign.clone(), line: self.line(), nonce: *nonce }))
                .collect(),
            Phase::Owed { nonce: None, .. } | Phase::Steady => Vec::new(),
        }
    }

    /// A proof came for `name`. Whether it holds is checked by the promoting agent; here what an operator must hear at once is.
    ///
    /// # Errors
    /// [`Check::Phase`] where none is owed, [`Check::Proof`] where it is of another move, [`Check::Pledge`] for a word while `name` was
    /// confirmed to start, or while `seen` tells that it is there (a standby that streams from it).
    pub fn proved(&self, name: &Name, proof: Proof, confirmed: bool, seen: Option<&str>) -> Result<Self, Refusal> {
        let Phase::Owed { operation, nonce, owed, proofs } = &self.phase else {
            return Err(Refusal::new(Check::Phase, "nothing is owed: no move is under way", "muster failover"));
        };
        if !owed.contains_key(name) {
            return Err(Refusal::new(Check::Phase, format!("nothing is owed about {name}"), "nothing"));
        }
        let next = match &proof {
            Proof::Receipt(signed) => Some(signed.receipt.next),
            Proof::External(external) => Some(external.next),
            Proof::Word(word) => Some(word.next),
            Proof::ExpiredLease(_) => None,
        };
        if next != Some(self.reign.mark()) {
            let evidence = format!("the {} about {name} is of another move", proof.name());
            return Err(Refusal::new(Check::Proof, evidence, "one for this move"));
        }
        if let Proof::Word(_) = &proof {
            if confirmed {
                let evidence = format!("{name} was confirmed to start a moment ago");
                return Err(Refusal::new(Check::Pledge, evidence, "the end of that confirmation, its receipt, or the external fence"));
            }
            if let Some(seen) = seen {
                return Err(Refusal::new(Check::Proof, format!("{name} is not off: {seen}"), "its receipt, or switching it off"));
            }
        }
        let mut proofs = proofs.clone();
        // A receipt is worth more than a word: it tells the final position.
        let better = !matches!((proofs.get(name), &proof), (Some(Proof::Receipt(_)), Proof::Word(_) | Proof::External(_)));
        if better {
            proofs.insert(name.clone(), proof);
        }
        let phase = Phase::Owed { operation: *operation, nonce: *nonce, owed: owed.clone(), proofs };
        Ok(Self { phase, ..self.clone() })
    }

    /// Whose proof is missing.
    #[must_use]
    pub fn missing(&self) -> Vec<Name> {
        match &self.phase {
            Phase::Owed { owed, proofs, .. } => owed.keys().filter(|name| !proofs.contains_key(*name)).cloned().collect(),
            Phase::Steady => Vec::new(),
        }
    }

    /// What the new writer is sent, once every proof is there. `held` is what each reachable instance that was not superseded holds, read
    /// after the last proof came.
    ///
    /// # Errors
    /// [`Check::Phase`] where no move is under way, [`Check::Proof`] with who is missing, [`Check::Loss`] above the ceiling.
    pub fn claim(&self, held: BTreeMap<Name, Position>, loss: Loss, ceiling: Loss) -> Result<Claim, Refusal> {
        let Phase::Owed { nonce: Some(nonce), owed, proofs, .. } = &self.phase else {
            return Err(Refusal::new(Check::Phase, "no move is under way here", "muster failover"));
        };
        let missing = self.missing();
        if !missing.is_empty() {
            let names: Vec<_> = missing.iter().map(Name::as_str).collect();
            return Err(Refusal::new(
                Check::Proof,
                format!("not proved to be stopped: {}", names.join(", ")),
                "its receipt, the external fence, or a word that its machine is off",
            ));
        }
        if !loss.within(&ceiling) {
            return Err(Refusal::new(Check::Loss, format!("the loss is {loss}, approved is {ceiling}"), "approving the higher ceiling"));
        }
        Ok(Claim {
            reign: self.reign.clone(),
            line: self.line(),
            nonce: *nonce,
            possible: owed.clone(),
            proofs: proofs.clone(),
            held,
            loss,
            ceiling,
        })
    }

    /// The writer of `reign` takes writes. Those that wrote before are superseded until they are rejoined.
    #[must_use]
    pub fn promoted(&self, reign: Mark) -> Self {
        let Phase::Owed { owed, .. } = &self.phase else { return self.clone() };
        if self.reign.mark() != reign {
            return self.clone();
        }
        let mut superseded = self.superseded.clone();
        superseded.extend(owed.keys().cloned());
        superseded.remove(&self.reign.writer);
        Self { superseded, phase: Phase::Steady, possible: BTreeMap::new(), ..self.clone() }
    }

    /// `instance` follows the writer of the present reign, from data that fit it: it is no longer superseded.
    #[must_use]
    pub fn rejoined(&self, instance: &Name) -> Self {
        let mut superseded = self.superseded.clone();
        superseded.remove(instance);
        Self { superseded, ..self.clone() }
    }

    /// Confirms that the recorded writer may start again. It must be durable in the journal, with its time, before it is told; while it
    /// lasts no word about this instance is taken.
    ///
    /// # Errors
    /// [`Check::Phase`] while a move is under way or prepared, [`Check::Reign`] for any but the recorded writer of the present reign.
    pub fn confirm(&self, question: &Question, by: (Rule, bool)) -> Result<Confirmation, Refusal> {
        if question.instance != self.reign.writer || question.reign != self.reign.mark() {
            let evidence =
                format!("{} of {} is over: {} writes in {}", question.reign, question.instance, self.reign.writer, self.reign.mark());
            return Err(Refusal::new(Check::Reign, evidence, format!("muster rejoin {}", question.instance)));
        }
        if !self.is_steady() {
            return Err(Refusal::new(Check::Phase, "a switchover or failover is under way", "its end"));
        }
        let (rule, adopting) = by;
        if adopting {
            return Err(Refusal::new(Check::Adopting, "this controller has not heard from every instance yet", "muster adopt --silent …"));
        }
        Ok(Confirmation {
            instance: question.instance.clone(),
            reign: question.reign,
            asked: question.asked,
            by: Confirmed::Controller { rule, adopting },
            heard: question.heard.clone(),
            off: question.off.clone(),
            most: question.most.clone(),
        })
    }

    fn child(&self, epoch: Epoch, id: ReignId, writer: Name) -> Reign {
        Reign { epoch, id, writer, parent: Some(self.reign.id) }
    }

    fn with_ancestor(&self) -> Vec<Mark> {
        self.line().then(self.reign.mark()).ancestors().to_vec()
    }
}

/// A writer asks whether it may start again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// Who asks.
    pub instance: Name,
    /// In which reign.
    pub reign: Mark,
    /// Drawn for this question.
    pub asked: Nonce,
    /// Whose agents wrote a pledge since.
    pub heard: BTreeSet<Name>,
    /// Whose machines an operator stated, since, to be off.
    pub off: BTreeSet<Name>,
    /// The most log that one of them holds on this line.
    pub most: Option<Position>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn id(byte: u8) -> ReignId {
        ReignId::from_bytes([byte; 16])
    }

    #[test]
    fn a_writer_that_is_restored_in_place_opens_a_reign_and_supersedes_its_followers() {
        let first = ShardRecord::first(name("istanbul"), id(1));
        let next = first.restored_in_place(&name("istanbul"), Epoch(1), &[name("istanbul"), name("ankara")], id(2)).unwrap();
        assert_eq!(next.line().ancestors(), [first.reign.mark()]);
        assert_eq!(next.reign, Reign { epoch: Epoch(2), id: id(2), writer: name("istanbul"), parent: Some(id(1)) });
        assert_eq!(next.superseded, BTreeSet::from([name("ankara")]));
    }

    #[test]
    fn a_restore_that_is_decided_on_an_older_reign_is_refused() {
        let first = ShardRecord::first(name("istanbul"), id(1));
        let next = first.restored_in_place(&name("istanbul"), Epoch(1), &[], id(2)).unwrap();
        assert_eq!(
            next.restored_in_place(&name("istanbul"), Epoch(1), &[], id(3)),
            Err(Refused::Moved { expected: Epoch(1), present: Epoch(2) })
        );
    }

    #[test]
    fn an_epoch_that_an_agent_remembers_is_adopted_and_none_is_ever_lowered() {
        let first = ShardRecord::first(name("istanbul"), id(1));
        let adopted = first.adopted(Epoch(4), id(9), &[name("istanbul"), name("ankara")]);
        assert_eq!(adopted.reign, Reign { epoch: Epoch(4), id: id(9), writer: name("istanbul"), parent: Some(id(1)) });
        assert_eq!(adopted.superseded, BTreeSet::from([name("ankara")]));
        for older in [Epoch(0), Epoch(3), Epoch(4)] {
            assert_eq!(adopted.adopted(older, id(8), &[name("izmir")]), adopted);
        }
    }

    #[test]
    fn a_follower_that_is_restored_moves_no_epoch() {
        let first = ShardRecord::first(name("istanbul"), id(1));
        let next = first.restored_in_place(&name("ankara"), Epoch(1), &[name("istanbul")], id(2)).unwrap();
        assert_eq!(next, first);
    }
}
