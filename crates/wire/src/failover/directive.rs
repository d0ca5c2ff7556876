//! Directives and answers, to protobuf and back.

use std::collections::{BTreeMap, BTreeSet};

use muster_common::fault::Fault;
use muster_common::name::Name;
use muster_failover::command::Order;
use muster_failover::custody::Ask;
use muster_failover::directive::{Answer, Directive, Errand, ManagedAs, Question, Upstream};
use muster_failover::grant::Claim;
use muster_failover::here::Rule;
use muster_failover::permit::{Confirmation, Confirmed};

use super::{
    line_from_proto, line_to_proto, loss_from_proto, loss_to_proto, mark_from_proto, mark_to_proto, position_from_proto, position_to_proto,
    proof_from_proto, proof_to_proto, receipt_from_proto, receipt_to_proto, reign_from_proto, reign_to_proto, rule_from_proto,
    rule_to_proto,
};
use crate::convert::{duration_from_proto, duration_to_proto, id_from_proto, name_from_proto, refused, required};
use crate::proto::agent::v1::{self as link, order_result, order_work};

/// The most instances that a directive may name: more than any component lists.
const MOST_INSTANCES: usize = 1_000;

/// Instance names.
///
/// # Errors
/// Where one is no name, or there are too many.
pub fn names_from_proto(names: &[String], field: &str) -> Result<BTreeSet<Name>, Fault> {
    if names.len() > MOST_INSTANCES {
        return Err(refused(field, format!("more than {MOST_INSTANCES} instances")));
    }
    names.iter().map(|name| name_from_proto(name, field)).collect()
}

fn names_to_proto(names: &BTreeSet<Name>) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// A directive.
#[must_use]
pub fn directive_to_proto(directive: &Directive) -> link::OrderWork {
    link::OrderWork {
        rule: Some(rule_to_proto(&directive.rule)),
        line: Some(line_to_proto(&directive.line)),
        writer: directive.writer.to_string(),
        sequence: directive.sequence,
        lasts: directive.lasts.map(duration_to_proto),
        others: names_to_proto(&directive.others),
        upstream: directive.upstream.as_ref().map(|upstream| link::Upstream {
            instance: upstream.instance.to_string(),
            host: upstream.host.clone(),
            port: upstream.port.into(),
            user: upstream.user.clone(),
            slot: upstream.slot.clone(),
        }),
        order: Some(errand_to_proto(&directive.errand)),
    }
}

/// A directive.
///
/// # Errors
/// Where a field of it is missing or cannot be read.
pub fn directive_from_proto(work: &link::OrderWork) -> Result<Directive, Fault> {
    let rule = rule_from_proto(work.rule.as_ref(), "order.rule")?;
    Ok(Directive {
        rule,
        line: line_from_proto(work.line.as_ref(), "order.line")?,
        writer: name_from_proto(&work.writer, "order.writer")?,
        sequence: work.sequence,
        lasts: work.lasts.as_ref().map(|lasts| duration_from_proto(lasts, "order.lasts")).transpose()?,
        others: names_from_proto(&work.others, "order.others")?,
        upstream: work.upstream.as_ref().map(upstream_from_proto).transpose()?,
        errand: errand_from_proto(required(work.order.as_ref(), "order.order")?, rule)?,
    })
}

fn upstream_from_proto(upstream: &link::Upstream) -> Result<Upstream, Fault> {
    let port = u16::try_from(upstream.port).ok().filter(|port| *port > 0);
    Ok(Upstream {
        instance: name_from_proto(&upstream.instance, "order.upstream.instance")?,
        host: Some(upstream.host.clone()).filter(|host| !host.is_empty()).ok_or_else(|| refused("order.upstream.host", "is missing"))?,
        port: port.ok_or_else(|| refused("order.upstream.port", "is no port"))?,
        user: upstream.user.clone(),
        slot: upstream.slot.clone(),
    })
}

fn errand_to_proto(errand: &Errand) -> order_work::Order {
    match errand {
        Errand::Order(Order::Stop { for_operation }) => {
            order_work::Order::Stop(link::StopOrder { for_operation: for_operation.map(duration_to_proto) })
        }
        Errand::Order(Order::Ask) => order_work::Order::Ask(link::AskOrder {}),
        Errand::Order(Order::Pledge { lasts }) => order_work::Order::Pledge(link::PledgeOrder { lasts: Some(duration_to_proto(*lasts)) }),
        Errand::Order(Order::Cede(ask)) => order_work::Order::Cede(link::CedeOrder {
            reign: Some(mark_to_proto(&ask.reign)),
            next: Some(reign_to_proto(&ask.next)),
            line: Some(line_to_proto(&ask.line)),
            nonce: ask.nonce.to_string(),
        }),
        Errand::Order(Order::Promote(claim)) => order_work::Order::Promote(claim_to_proto(claim)),
        Errand::Order(Order::Follow) => order_work::Order::Follow(link::FollowOrder {}),
        Errand::Vouch { instance, reign, asked, lasts } => order_work::Order::Vouch(link::VouchOrder {
            instance: instance.to_string(),
            reign: Some(mark_to_proto(reign)),
            asked: asked.to_string(),
            lasts: Some(duration_to_proto(*lasts)),
        }),
        Errand::Confirm(confirmation) => order_work::Order::Confirm(link::ConfirmOrder {
            instance: confirmation.instance.to_string(),
            reign: Some(mark_to_proto(&confirmation.reign)),
            asked: confirmation.asked.to_string(),
            adopting: matches!(confirmation.by, Confirmed::Controller { adopting: true, .. }),
            heard: names_to_proto(&confirmation.heard),
            off: names_to_proto(&confirmation.off),
            most: confirmation.most.as_ref().map(position_to_proto),
        }),
        Errand::Manage { role } => {
            let role = match role {
                ManagedAs::Writer => link::ManagedAs::Writer,
                ManagedAs::Follower => link::ManagedAs::Follower,
            };
            order_work::Order::Manage(link::ManageOrder { r#as: role.into() })
        }
        Errand::Unmanage => order_work::Order::Unmanage(link::UnmanageOrder {}),
        Errand::Rejoin => order_work::Order::Rejoin(link::RejoinOrder {}),
    }
}

fn errand_from_proto(order: &order_work::Order, rule: Rule) -> Result<Errand, Fault> {
    Ok(match order {
        order_work::Order::Stop(stop) => {
            let for_operation = stop.for_operation.as_ref();
            let for_operation = for_operation.map(|lasts| duration_from_proto(lasts, "order.stop.for_operation")).transpose()?;
            Errand::Order(Order::Stop { for_operation })
        }
        order_work::Order::Ask(link::AskOrder {}) => Errand::Order(Order::Ask),
        order_work::Order::Pledge(pledge) => {
            let lasts = duration_from_proto(&required(pledge.lasts, "order.pledge.lasts")?, "order.pledge.lasts")?;
            Errand::Order(Order::Pledge { lasts })
        }
        order_work::Order::Cede(cede) => Errand::Order(Order::Cede(Ask {
            reign: mark_from_proto(cede.reign.as_ref(), "order.cede.reign")?,
            next: reign_from_proto(cede.next.as_ref(), "order.cede.next")?,
            line: line_from_proto(cede.line.as_ref(), "order.cede.line")?,
            nonce: id_from_proto(&cede.nonce, "order.cede.nonce")?,
        })),
        order_work::Order::Promote(promote) => Errand::Order(Order::Promote(claim_from_proto(promote)?)),
        order_work::Order::Follow(link::FollowOrder {}) => Errand::Order(Order::Follow),
        order_work::Order::Vouch(vouch) => Errand::Vouch {
            instance: name_from_proto(&vouch.instance, "order.vouch.instance")?,
            reign: mark_from_proto(vouch.reign.as_ref(), "order.vouch.reign")?,
            asked: id_from_proto(&vouch.asked, "order.vouch.asked")?,
            lasts: duration_from_proto(&required(vouch.lasts, "order.vouch.lasts")?, "order.vouch.lasts")?,
        },
        order_work::Order::Confirm(confirm) => Errand::Confirm(Confirmation {
            instance: name_from_proto(&confirm.instance, "order.confirm.instance")?,
            reign: mark_from_proto(confirm.reign.as_ref(), "order.confirm.reign")?,
            asked: id_from_proto(&confirm.asked, "order.confirm.asked")?,
            by: Confirmed::Controller { rule, adopting: confirm.adopting },
            heard: names_from_proto(&confirm.heard, "order.confirm.heard")?,
            off: names_from_proto(&confirm.off, "order.confirm.off")?,
            most: position_from_proto(confirm.most.as_ref(), "order.confirm.most")?,
        }),
        order_work::Order::Manage(manage) => Errand::Manage {
            role: match manage.r#as() {
                link::ManagedAs::Writer => ManagedAs::Writer,
                link::ManagedAs::Follower => ManagedAs::Follower,
                link::ManagedAs::Unspecified => return Err(refused("order.manage.as", "is missing")),
            },
        },
        order_work::Order::Unmanage(link::UnmanageOrder {}) => Errand::Unmanage,
        order_work::Order::Rejoin(link::RejoinOrder {}) => Errand::Rejoin,
    })
}

fn claim_to_proto(claim: &Claim) -> link::PromoteOrder {
    let possible = claim.possible.iter().map(|(instance, reign)| link::PossibleWriter {
        instance: instance.to_string(),
        reign: Some(mark_to_proto(reign)),
        proof: claim.proofs.get(instance).and_then(proof_to_proto),
    });
    let held = claim.held.iter();
    let held =
        held.map(|(instance, position)| link::HeldPosition { instance: instance.to_string(), position: Some(position_to_proto(position)) });
    link::PromoteOrder {
        reign: Some(reign_to_proto(&claim.reign)),
        line: Some(line_to_proto(&claim.line)),
        nonce: claim.nonce.to_string(),
        possible: possible.collect(),
        held: held.collect(),
        loss: Some(loss_to_proto(&claim.loss)),
        ceiling: Some(loss_to_proto(&claim.ceiling)),
    }
}

fn claim_from_proto(promote: &link::PromoteOrder) -> Result<Claim, Fault> {
    if promote.possible.len() > MOST_INSTANCES || promote.held.len() > MOST_INSTANCES {
        return Err(refused("order.promote", format!("more than {MOST_INSTANCES} instances")));
    }
    let (mut possible, mut proofs, mut held) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for writer in &promote.possible {
        let name = name_from_proto(&writer.instance, "order.promote.possible.instance")?;
        if let Some(proof) = &writer.proof {
            proofs.insert(name.clone(), proof_from_proto(proof)?);
        }
        possible.insert(name, mark_from_proto(writer.reign.as_ref(), "order.promote.possible.reign")?);
    }
    for one in &promote.held {
        let field = "order.promote.held.position";
        let position = required(position_from_proto(one.position.as_ref(), field)?, field)?;
        held.insert(name_from_proto(&one.instance, "order.promote.held.instance")?, position);
    }
    Ok(Claim {
        reign: reign_from_proto(promote.reign.as_ref(), "order.promote.reign")?,
        line: line_from_proto(promote.line.as_ref(), "order.promote.line")?,
        nonce: id_from_proto(&promote.nonce, "order.promote.nonce")?,
        possible,
        proofs,
        held,
        loss: loss_from_proto(promote.loss.as_ref(), "order.promote.loss")?,
        ceiling: loss_from_proto(promote.ceiling.as_ref(), "order.promote.ceiling")?,
    })
}

/// An answer.
#[must_use]
pub fn answer_to_proto(answer: &Answer) -> link::OrderResult {
    let told = match answer {
        Answer::Stopped(position) => order_result::Told::Stopped(link::StoppedTold { position: position.as_ref().map(position_to_proto) }),
        Answer::Asking(question) => order_result::Told::Asking(link::AskingTold { question: question.as_ref().map(question_to_proto) }),
        Answer::Pledged { nonce, position } => {
            order_result::Told::Pledged(link::PledgedTold { nonce: nonce.to_string(), position: position.as_ref().map(position_to_proto) })
        }
        Answer::Ceded(signed) => order_result::Told::Ceded(receipt_to_proto(signed)),
        Answer::Promoted { reign, position } => order_result::Told::Promoted(link::PromotedTold {
            reign: Some(mark_to_proto(reign)),
            position: position.as_ref().map(position_to_proto),
        }),
        Answer::Follows => order_result::Told::Follows(link::FollowsTold {}),
        Answer::Vouched(position) => order_result::Told::Vouched(link::VouchedTold { position: position.as_ref().map(position_to_proto) }),
        Answer::Started(reign) => order_result::Told::Started(link::StartedTold { reign: Some(mark_to_proto(reign)) }),
        Answer::Managed(position) => order_result::Told::Managed(link::ManagedTold { position: position.as_ref().map(position_to_proto) }),
        Answer::Unmanaged => order_result::Told::Unmanaged(link::UnmanagedTold {}),
        Answer::Rejoined { fork, bytes, was, rewound } => order_result::Told::Rejoined(link::RejoinedTold {
            fork: fork.as_ref().map(position_to_proto),
            bytes: *bytes,
            was: Some(position_to_proto(was)),
            rewound: *rewound,
        }),
    };
    link::OrderResult { told: Some(told) }
}

/// An answer.
///
/// # Errors
/// Where it is empty or a field of it cannot be read.
pub fn answer_from_proto(result: &link::OrderResult) -> Result<Answer, Fault> {
    let position = |position: &Option<crate::proto::v1::Position>| position_from_proto(position.as_ref(), "order.told.position");
    Ok(match required(result.told.as_ref(), "order.told")? {
        order_result::Told::Stopped(stopped) => Answer::Stopped(position(&stopped.position)?),
        order_result::Told::Asking(asking) => Answer::Asking(asking.question.as_ref().map(question_from_proto).transpose()?),
        order_result::Told::Pledged(pledged) => {
            Answer::Pledged { nonce: id_from_proto(&pledged.nonce, "order.told.pledged.nonce")?, position: position(&pledged.position)? }
        }
        order_result::Told::Ceded(signed) => Answer::Ceded(Box::new(receipt_from_proto(signed)?)),
        order_result::Told::Promoted(promoted) => Answer::Promoted {
            reign: mark_from_proto(promoted.reign.as_ref(), "order.told.promoted.reign")?,
            position: position(&promoted.position)?,
        },
        order_result::Told::Follows(link::FollowsTold {}) => Answer::Follows,
        order_result::Told::Vouched(vouched) => Answer::Vouched(position(&vouched.position)?),
        order_result::Told::Started(started) => Answer::Started(mark_from_proto(started.reign.as_ref(), "order.told.started.reign")?),
        order_result::Told::Managed(managed) => Answer::Managed(position(&managed.position)?),
        order_result::Told::Unmanaged(link::UnmanagedTold {}) => Answer::Unmanaged,
        order_result::Told::Rejoined(rejoined) => Answer::Rejoined {
            fork: position(&rejoined.fork)?,
            bytes: rejoined.bytes,
            was: required(position(&rejoined.was)?, "order.told.rejoined.was")?,
            rewound: rejoined.rewound,
        },
    })
}

/// A question.
#[must_use]
pub fn question_to_proto(question: &Question) -> link::Question {
    link::Question { asked: question.asked.to_string(), reign: Some(mark_to_proto(&question.reign)) }
}

/// A question.
///
/// # Errors
/// Where a field of it cannot be read.
pub fn question_from_proto(question: &link::Question) -> Result<Question, Fault> {
    Ok(Question {
        asked: id_from_proto(&question.asked, "question.asked")?,
        reign: mark_from_proto(question.reign.as_ref(), "question.reign")?,
    })
}
