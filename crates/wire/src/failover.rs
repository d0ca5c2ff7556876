//! Who may write, to protobuf and back: marks, lines, rules, positions, losses, proofs. Directives, answers and reports build on them.
//!
//! What cannot be read is refused with the field's name. Nothing is judged here.

pub mod directive;
pub mod kept;

use muster_common::counter::{Epoch, Term};
use muster_common::fault::Fault;
use muster_failover::here::{Limit, Rule, Uptime};
use muster_failover::loss::Loss;
use muster_failover::position::Position;
use muster_failover::proof::{External, Method, Proof, Receipt, SignedReceipt, Statement, Word};
use muster_failover::reign::{Line, MOST_ANCESTORS, Mark, Reign};

use crate::convert::{
    duration_from_proto, duration_to_proto, id_from_proto, name_from_proto, optional_id_from_proto, postgres_position_from_proto,
    postgres_position_to_proto, refused, required, timestamp_from_proto, timestamp_to_proto,
};
use crate::proto::agent::v1 as link;
use crate::proto::v1;

/// The most certificates of a receipt's chain.
const MOST_CERTIFICATES: usize = 10;

/// A reign's number and id.
#[must_use]
pub fn mark_to_proto(mark: &Mark) -> link::Mark {
    link::Mark { epoch: mark.epoch.0, reign_id: mark.id.to_string() }
}

/// A reign's number and id.
///
/// # Errors
/// Where it is absent or its id is none.
pub fn mark_from_proto(mark: Option<&link::Mark>, field: &str) -> Result<Mark, Fault> {
    let mark = required(mark, field)?;
    Ok(Mark { epoch: Epoch(mark.epoch), id: id_from_proto(&mark.reign_id, field)? })
}

/// A line.
#[must_use]
pub fn line_to_proto(line: &Line) -> link::Line {
    link::Line { marks: line.ancestors().iter().chain([&line.last()]).map(mark_to_proto).collect() }
}

/// A line.
///
/// # Errors
/// Where it is absent, empty, too long, or a mark of it cannot be read.
pub fn line_from_proto(line: Option<&link::Line>, field: &str) -> Result<Line, Fault> {
    let line = required(line, field)?;
    if line.marks.len() > MOST_ANCESTORS + 1 {
        return Err(refused(field, format!("more than {} reigns", MOST_ANCESTORS + 1)));
    }
    let mut marks = line.marks.iter().map(|mark| mark_from_proto(Some(mark), field)).collect::<Result<Vec<_>, _>>()?;
    let last = marks.pop().ok_or_else(|| refused(field, "is empty"))?;
    Ok(Line::with(marks, last))
}

/// A reign.
#[must_use]
pub fn reign_to_proto(reign: &Reign) -> link::Reign {
    link::Reign {
        mark: Some(mark_to_proto(&reign.mark())),
        writer: reign.writer.to_string(),
        parent_id: reign.parent.map(|parent| parent.to_string()).unwrap_or_default(),
    }
}

/// A reign.
///
/// # Errors
/// Where it is absent or a field of it cannot be read.
pub fn reign_from_proto(reign: Option<&link::Reign>, field: &str) -> Result<Reign, Fault> {
    let reign = required(reign, field)?;
    let mark = mark_from_proto(reign.mark.as_ref(), field)?;
    let writer = name_from_proto(&reign.writer, field)?;
    Ok(Reign { epoch: mark.epoch, id: mark.id, writer, parent: optional_id_from_proto(&reign.parent_id, field)? })
}

/// A rule.
#[must_use]
pub fn rule_to_proto(rule: &Rule) -> link::Rule {
    link::Rule { term: rule.term.0, rule_id: rule.id.to_string() }
}

/// A rule.
///
/// # Errors
/// Where it is absent or its id is none.
pub fn rule_from_proto(rule: Option<&link::Rule>, field: &str) -> Result<Rule, Fault> {
    let rule = required(rule, field)?;
    Ok(Rule { term: Term(rule.term), id: id_from_proto(&rule.rule_id, field)? })
}

/// A position.
#[must_use]
pub fn position_to_proto(position: &Position) -> v1::Position {
    let Position::Postgres(postgres) = position;
    v1::Position { position: Some(v1::position::Position::Postgres(postgres_position_to_proto(postgres))) }
}

/// A position that may be absent.
///
/// # Errors
/// Where it cannot be read, or is of an engine that takes no failover.
pub fn position_from_proto(position: Option<&v1::Position>, field: &str) -> Result<Option<Position>, Fault> {
    match position.map(|position| &position.position) {
        None => Ok(None),
        Some(Some(v1::position::Position::Postgres(postgres))) => Ok(Some(Position::Postgres(postgres_position_from_proto(postgres)?))),
        Some(Some(v1::position::Position::Files(_))) => Err(refused(field, "a folder of files has no writer")),
        Some(None) => Err(refused(field, "is of a kind that this build does not know")),
    }
}

/// A loss.
#[must_use]
pub fn loss_to_proto(loss: &Loss) -> link::Loss {
    link::Loss { bytes: loss.bytes, time: loss.time.map(duration_to_proto) }
}

/// A loss.
///
/// # Errors
/// Where it is absent or its duration is none.
pub fn loss_from_proto(loss: Option<&link::Loss>, field: &str) -> Result<Loss, Fault> {
    let loss = required(loss, field)?;
    Ok(Loss { bytes: loss.bytes, time: loss.time.as_ref().map(|time| duration_from_proto(time, field)).transpose()? })
}

/// A limit.
#[must_use]
pub fn limit_to_proto(limit: &Limit) -> link::BootLimit {
    link::BootLimit { boot_id: limit.boot.to_string(), until: Some(duration_to_proto(limit.until.0)) }
}

/// A limit.
///
/// # Errors
/// Where a field of it cannot be read.
pub fn limit_from_proto(limit: &link::BootLimit, field: &str) -> Result<Limit, Fault> {
    let until = duration_from_proto(&required(limit.until, field)?, field)?;
    Ok(Limit { boot: id_from_proto(&limit.boot_id, field)?, until: Uptime(until) })
}

/// A signed receipt.
#[must_use]
pub fn receipt_to_proto(signed: &SignedReceipt) -> link::SignedReceipt {
    let receipt = &signed.receipt;
    let method = match receipt.method {
        Method::Clean => link::StopMethod::Clean,
        Method::Killed => link::StopMethod::Killed,
        Method::NeverStarted => link::StopMethod::NeverStarted,
    };
    link::SignedReceipt {
        component: receipt.component.to_string(),
        instance: receipt.instance.to_string(),
        reign: Some(mark_to_proto(&receipt.reign)),
        successor: receipt.successor.to_string(),
        next: Some(mark_to_proto(&receipt.next)),
        nonce: receipt.nonce.to_string(),
        method: method.into(),
        position: Some(position_to_proto(&receipt.position)),
        signature: signed.signature.clone(),
        chain: signed.chain.clone(),
    }
}

/// A signed receipt. Its signature is not checked.
///
/// # Errors
/// Where a field of it cannot be read.
pub fn receipt_from_proto(signed: &link::SignedReceipt) -> Result<SignedReceipt, Fault> {
    let method = match signed.method() {
        link::StopMethod::Clean => Method::Clean,
        link::StopMethod::Killed => Method::Killed,
        link::StopMethod::NeverStarted => Method::NeverStarted,
        link::StopMethod::Unspecified => return Err(refused("receipt.method", "is missing")),
    };
    if signed.chain.len() > MOST_CERTIFICATES {
        return Err(refused("receipt.chain", format!("more than {MOST_CERTIFICATES} certificates")));
    }
    let receipt = Receipt {
        component: name_from_proto(&signed.component, "receipt.component")?,
        instance: name_from_proto(&signed.instance, "receipt.instance")?,
        reign: mark_from_proto(signed.reign.as_ref(), "receipt.reign")?,
        successor: name_from_proto(&signed.successor, "receipt.successor")?,
        next: mark_from_proto(signed.next.as_ref(), "receipt.next")?,
        nonce: id_from_proto(&signed.nonce, "receipt.nonce")?,
        method,
        position: required(position_from_proto(signed.position.as_ref(), "receipt.position")?, "receipt.position")?,
    };
    Ok(SignedReceipt { receipt, signature: signed.signature.clone(), chain: signed.chain.clone() })
}

/// A proof. `None` for an expired lease, which does not travel: each side counts its own.
#[must_use]
pub fn proof_to_proto(proof: &Proof) -> Option<link::Proof> {
    let proof = match proof {
        Proof::Receipt(signed) => link::proof::Proof::Receipt(receipt_to_proto(signed)),
        Proof::External(external) => link::proof::Proof::External(link::ExternalFence {
            instance: external.instance.to_string(),
            next: Some(mark_to_proto(&external.next)),
            nonce: external.nonce.to_string(),
            hook: external.hook.clone(),
            output: external.output.clone(),
        }),
        Proof::Word(word) => link::proof::Proof::Word(word_to_proto(word)),
        Proof::ExpiredLease(_) => return None,
    };
    Some(link::Proof { proof: Some(proof) })
}

/// A proof.
///
/// # Errors
/// Where it is empty or a field of it cannot be read.
pub fn proof_from_proto(proof: &link::Proof) -> Result<Proof, Fault> {
    Ok(match required(proof.proof.as_ref(), "proof")? {
        link::proof::Proof::Receipt(signed) => Proof::Receipt(receipt_from_proto(signed)?),
        link::proof::Proof::External(external) => Proof::External(External {
            instance: name_from_proto(&external.instance, "proof.external.instance")?,
            next: mark_from_proto(external.next.as_ref(), "proof.external.next")?,
            nonce: id_from_proto(&external.nonce, "proof.external.nonce")?,
            hook: external.hook.clone(),
            output: external.output.clone(),
        }),
        link::proof::Proof::Word(word) => Proof::Word(word_from_proto(word)?),
    })
}

/// An operator's word.
#[must_use]
pub fn word_to_proto(word: &Word) -> link::Word {
    let states = match word.states {
        Statement::MachineOff => link::WordStatement::MachineOff,
        Statement::FencedThere => link::WordStatement::FencedThere,
    };
    link::Word {
        operator: word.operator.to_string(),
        instance: word.instance.to_string(),
        next: Some(mark_to_proto(&word.next)),
        states: states.into(),
        ceiling: Some(loss_to_proto(&word.ceiling)),
        at: Some(timestamp_to_proto(word.at)),
        signature: word.signature.clone(),
    }
}

/// An operator's word.
///
/// # Errors
/// Where a field of it cannot be read.
pub fn word_from_proto(word: &link::Word) -> Result<Word, Fault> {
    let states = match word.states() {
        link::WordStatement::MachineOff => Statement::MachineOff,
        link::WordStatement::FencedThere => Statement::FencedThere,
        link::WordStatement::Unspecified => return Err(refused("word.states", "is missing")),
    };
    Ok(Word {
        operator: name_from_proto(&word.operator, "word.operator")?,
        instance: name_from_proto(&word.instance, "word.instance")?,
        next: mark_from_proto(word.next.as_ref(), "word.next")?,
        states,
        ceiling: loss_from_proto(word.ceiling.as_ref(), "word.ceiling")?,
        at: timestamp_from_proto(&required(word.at, "word.at")?, "word.at")?,
        signature: word.signature.clone(),
    })
}

#[cfg(test)]
mod tests;
