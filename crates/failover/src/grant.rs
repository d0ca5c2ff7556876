//! The right to become the writer. A [`Grant`] is made in one place, from a checked proof for every possible writer.
//!
//! The promoting agent checks it: signatures against its own assignment, the nonce that only it drew, its own pledges, its own
//! position. It takes nobody's word that somebody else checked, and its own clock only.

use std::collections::BTreeMap;

use muster_common::id::Nonce;
use muster_common::name::Name;
use serde::{Deserialize, Serialize};

use crate::control::{Control, Role, Why};
use crate::here::{Here, Limit};
use crate::look::Look;
use crate::loss::Loss;
use crate::position::Position;
use crate::proof::{Proof, Receipt, SignedReceipt, Word};
use crate::refusal::{Check, Refusal};
use crate::reign::{Kin, Line, Mark, Reign};

/// Checks a receipt's signature and chain, as of its signing, against the key that the assignment names for the instance.
pub type Verify<'a> = &'a dyn Fn(&Name, &SignedReceipt) -> Result<(), String>;

/// What a controller sends with a promotion: all that the right rests on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Claim {
    /// The reign that begins.
    pub reign: Reign,
    /// Its line.
    pub line: Line,
    /// Of the candidacy.
    pub nonce: Nonce,
    /// Everyone who may write, with the latest reign in which each may.
    pub possible: BTreeMap<Name, Mark>,
    /// A proof for each.
    pub proofs: BTreeMap<Name, Proof>,
    /// What every reachable instance that was not superseded holds, read again after the proofs.
    pub held: BTreeMap<Name, Position>,
    /// What is lost at most.
    pub loss: Loss,
    /// What was approved.
    pub ceiling: Loss,
}

/// The checked right of one instance to become the writer of one reign, in this boot, within a limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    reign: Reign,
    line: Line,
    until: Limit,
}

impl Grant {
    /// The reign.
    #[must_use]
    pub const fn reign(&self) -> &Reign {
        &self.reign
    }

    /// Its line.
    #[must_use]
    pub const fn line(&self) -> &Line {
        &self.line
    }

    /// Until when it may be carried out.
    #[must_use]
    pub const fn until(&self) -> Limit {
        self.until
    }

    /// Checks everything.
    ///
    /// # Errors
    /// What is missing or speaks against it.
    pub fn check(control: &Control, here: &Here, look: &Look, claim: &Claim, until: Limit, verify: Verify<'_>) -> Result<Self, Refusal> {
        check_place(control, here, claim, until)?;
        let against = check_candidacy(control, here, claim)?;
        if !claim.possible.contains_key(&against) {
            return Err(missing(&against, "it is the writer that is known here, and the claim does not name it"));
        }
        for (instance, reign) in &claim.possible {
            let proof = claim.proofs.get(instance).ok_or_else(|| missing(instance, "there is no proof"))?;
            check_proof(control, here, claim, instance, *reign, proof, verify)?;
        }
        check_position(look, claim)?;
        if !claim.loss.within(&claim.ceiling) {
            return Err(Refusal::new(
                Check::Loss,
                format!("the loss is {}, approved is {}", claim.loss, claim.ceiling),
                "approving the higher ceiling by name",
            ));
        }
        Ok(Self { reign: claim.reign.clone(), line: claim.line.clone(), until })
    }
}

fn check_place(control: &Control, here: &Here, claim: &Claim, until: Limit) -> Result<(), Refusal> {
    if control.machine != here.machine || control.boot != here.boot {
        return Err(Refusal::new(Check::Limit, "the control file is of another machine or boot", "a new candidacy"));
    }
    if until.passed(here) {
        return Err(Refusal::new(Check::Limit, "the promotion's limit has passed", "asking for it again"));
    }
    if claim.reign.writer != control.instance || claim.line.last() != claim.reign.mark() {
        return Err(Refusal::new(Check::Reign, "the reign is not of this instance", "nothing: it is not meant for this agent"));
    }
    match claim.line.kin(&control.line) {
        Kin::Same | Kin::Descends => {}
        Kin::Ancestor => {
            let evidence = format!("{} is over; {} is known here", claim.reign.mark(), control.line.last());
            return Err(Refusal::new(Check::Reign, evidence, "a move from the reign that is known here"));
        }
        Kin::Conflict => {
            let evidence = format!("{} does not descend from {}, which is known here", claim.reign.mark(), control.line.last());
            return Err(Refusal::new(Check::Conflict, evidence, "an operator who picks one"));
        }
    }
    match &control.role {
        Role::Follower { kept: false } | Role::Promoting { .. } => Ok(()),
        // The way back to the old writer, in a reign of its own.
        Role::Stopped { why: Why::RolledBack | Why::Strayed, .. } => {
            Err(Refusal::new(Check::Role, "its data are older than what was seen of it", "seeding it anew"))
        }
        Role::Stopped { .. } => Ok(()),
        Role::Follower { kept: true } => {
            Err(Refusal::new(Check::Role, "it is kept while the writer is restored in place", "the end of that restore, or a word"))
        }
        Role::Held { .. } => Err(Refusal::new(Check::Role, "it is held until it is seeded anew", "rejoining it")),
        Role::Writer { .. } | Role::Unmanaged | Role::Absent => {
            Err(Refusal::new(Check::Role, "it is neither a follower nor stopped", "making it a follower first"))
        }
    }
}

/// The writer that the candidacy was given against.
fn check_candidacy(control: &Control, here: &Here, claim: &Claim) -> Result<Name, Refusal> {
    let parent = claim.line.ancestors().last().copied();
    let pledged = parent.and_then(|parent| control.candidacy(parent, here.now));
    match pledged {
        Some((against, nonce)) if nonce == claim.nonce => Ok(against.clone()),
        Some(_) => Err(Refusal::new(Check::Pledge, "the nonce is of another candidacy", "a new move")),
        None => Err(Refusal::new(Check::Pledge, "it holds no candidacy of this boot for this reign", "a new move")),
    }
}

fn check_proof(
    control: &Control,
    here: &Here,
    claim: &Claim,
    instance: &Name,
    reign: Mark,
    proof: &Proof,
    verify: Verify<'_>,
) -> Result<(), Refusal> {
    match proof {
        Proof::Receipt(signed) => {
            check_receipt(control, claim, instance, reign, &signed.receipt)?;
            verify(instance, signed).map_err(|why| missing(instance, &format!("the receipt's signature: {why}")))
        }
        Proof::External(external) => {
            let fits = external.instance == *instance && external.next == claim.reign.mark() && external.nonce == claim.nonce;
            if fits { Ok(()) } else { Err(missing(instance, "the external fence ran for another move, or before this one")) }
        }
        Proof::Word(word) => check_word(control, here, claim, instance, word),
        Proof::ExpiredLease(_) => Err(Refusal::new(
            Check::Mode,
            format!("a lease of {instance} is no proof in mode manual"),
            "its receipt, the external fence, or a word",
        )),
    }
}

fn check_receipt(control: &Control, claim: &Claim, instance: &Name, reign: Mark, receipt: &Receipt) -> Result<(), Refusal> {
    let fits = receipt.component == control.component
        && receipt.instance == *instance
        && receipt.reign == reign
        && receipt.successor == control.instance
        && receipt.next == claim.reign.mark()
        && receipt.nonce == claim.nonce;
    if fits { Ok(()) } else { Err(missing(instance, "the receipt is of another reign, successor or candidacy")) }
}

fn check_word(control: &Control, here: &Here, claim: &Claim, instance: &Name, word: &Word) -> Result<(), Refusal> {
    if word.instance != *instance || word.next != claim.reign.mark() {
        return Err(missing(instance, "the word is about another instance or another move"));
    }
    if control.is_patient(here.now) {
        return Err(Refusal::new(
            Check::Pledge,
            format!("this agent confirmed a start, and takes no word about {instance} meanwhile"),
            "the end of that confirmation, a receipt, or the external fence",
        ));
    }
    if !claim.loss.within(&word.ceiling) {
        return Err(Refusal::new(
            Check::Loss,
            format!("the word about {instance} allows {}", word.ceiling),
            "a word for the higher ceiling",
        ));
    }
    Ok(())
}

/// The candidate holds all that was seen after the proofs, and all that a receipt tells of or all but what the claim says is lost: a writer that
/// crashed ends with log that nobody streamed, and an operator may go on without it.
fn check_position(look: &Look, claim: &Claim) -> Result<(), Refusal> {
    let Some(own) = &look.position else {
        return Err(Refusal::new(Check::Position, "its own position cannot be read", "a server that answers"));
    };
    let receipt = |name: &Name| match claim.proofs.get(name) {
        Some(Proof::Receipt(signed)) => Some(&signed.receipt.position),
        Some(Proof::External(_) | Proof::Word(_) | Proof::ExpiredLease(_)) | None => None,
    };
    // Of a line that parted nothing is bounded. A later timeline may lie no byte ahead: who loses nothing holds that too.
    let is_lost =
        |position: &Position| own.bytes_to(position).is_some_and(|bytes| claim.loss.bytes.is_none_or(|lost| lost > 0 && bytes <= lost));
    let told = claim.proofs.keys().filter_map(|name| Some((name, receipt(name)?)));
    let is_behind = |name: &Name, position: &Position| !(own.covers(position) || receipt(name).is_some() && is_lost(position));
    match told.chain(&claim.held).find(|(name, position)| is_behind(name, position)) {
        Some((name, position)) => Err(Refusal::new(
            Check::Position,
            format!("it is at {own}, {name} holds {position}"),
            format!("fetching the rest from {name} or the repository, or a move to it"),
        )),
        None => Ok(()),
    }
}

fn missing(instance: &Name, why: &str) -> Refusal {
    Refusal::new(
        Check::Proof,
        format!("{instance} is not proved to be stopped: {why}"),
        format!("its receipt, the external fence, or a word that its machine is off: muster approve … --word {instance}=off"),
    )
}
