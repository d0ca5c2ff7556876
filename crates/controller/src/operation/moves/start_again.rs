//! The recorded writer, which is stopped, starts again: the way back of a switchover, the end of a fence, and what follows a boot.
//!
//! ```text
//!  its question -> (a word for each agent that is away) -> every other agent pledges -> the journal confirms -> it starts
//! ```
//! A round in which anything fails is tried anew after a pause, with a new question: pledges of others may have to run out first.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::Name;
use muster_failover::command::Order;
use muster_failover::directive::{Answer, Errand, Question};
use muster_failover::position::Position;
use muster_failover::shard::Question as Asked;

use crate::operation::moves::decide::{Next, answer, give, give_up, idle, record, wait, waits_for};
use crate::operation::moves::part::{self, Stand};
use crate::operation::moves::view::{Part, View};

/// How long a pledge for a start lasts: the start must come meanwhile.
pub const PLEDGE: Duration = Duration::from_secs(60);
/// How long a confirmation may be carried out.
const CONFIRM: Duration = Duration::from_secs(30);
/// Between two rounds.
const PAUSE: Duration = Duration::from_secs(5);
/// Rounds.
const MOST_ROUNDS: u32 = 100;
/// Rounds of one that nobody typed: it is begun anew later, and stands in nobody's way meanwhile.
const MOST_BY_ITSELF: u32 = 3;

/// It takes writes again when this is `Ok`. `by_itself`: its agent asked, and is not told to.
///
/// # Errors
/// What to do before.
pub fn start_again(view: &View, instance: &Name, by_itself: bool) -> Next<()> {
    let (round, last_failed) = round(view);
    if let Some(failed) = last_failed {
        if by_itself && round > MOST_BY_ITSELF {
            let fault = Fault::failed(ErrorKind::FailedPrecondition, format!("{}: it could not start", view.state.title()));
            return Err(give_up(
                failed
                    .fault
                    .iter()
                    .fold(fault, |fault, why| fault.evidence(why.message.clone()))
                    .hint(format!("it is tried again while it asks; `muster status {}` shows who writes", view.state.target.component)),
            ));
        }
        let at = failed.finished.unwrap_or(failed.since).plus(PAUSE);
        if view.now < at {
            let why = failed.fault.as_ref().map_or_else(|| "it is not known what became of it".to_owned(), |fault| fault.message.clone());
            return Err(crate::operation::moves::decide::Action::Wait { reason: format!("another try: {why}"), until: Some(at) });
        }
    }
    let Some(question) = question(view, instance, by_itself, round)? else { return Ok(()) };
    let others: Vec<&Name> = view.members.iter().map(|member| &member.name).filter(|name| *name != instance).collect();
    let off = away(view, &others, by_itself)?;
    let (heard, most) = vouched(view, instance, question, round, &others, &off)?;
    let asked = Asked { instance: instance.clone(), reign: question.reign, asked: question.asked, heard, off, most };
    let name = format!("start-{round}/confirm");
    let errand = match part::stand(view, &name) {
        Stand::None => match record(view)?.confirm(&asked, (view.rule, view.adopting)) {
            Ok(confirmation) => Errand::Confirm(confirmation),
            Err(refusal) => return Err(wait(view, refusal.to_string(), PAUSE)),
        },
        Stand::Open(_) | Stand::Failed(_) => return Err(idle(waits_for(view, instance, "start"))),
        Stand::Answered(..) => return Ok(()),
    };
    Err(give(view, &name, instance, errand, Some(CONFIRM)))
}

/// The present round, and what failed in the one before it.
fn round(view: &View) -> (u32, Option<&Part>) {
    let mut last = None;
    for round in 1..=MOST_ROUNDS {
        let prefix = format!("start-{round}/");
        let mut parts = view.parts.iter().filter(|(step, _)| step.starts_with(&prefix));
        match parts.find(|(_, part)| is_over(part)) {
            Some((_, failed)) => last = Some(failed),
            None => return (round, last),
        }
    }
    (MOST_ROUNDS, last)
}

fn is_over(part: &Part) -> bool {
    use crate::operation::kind::Phase;
    match part.phase {
        Phase::Failed | Phase::Cancelled | Phase::Unknown => true,
        Phase::Succeeded => part.answer.is_none(),
        Phase::Pending | Phase::Running | Phase::Cancelling | Phase::Suspended => false,
    }
}

/// Its open question. `None`: it runs.
fn question(view: &View, instance: &Name, by_itself: bool, round: u32) -> Next<Option<Question>> {
    let member = view.member(instance);
    if by_itself {
        return match member.and_then(|member| member.asks) {
            Some(question) => Ok(Some(question)),
            None if member.is_some_and(|member| member.writes()) => Ok(None),
            None => Err(wait(view, format!("the question of {instance}"), PAUSE)),
        };
    }
    match answer(view, &format!("start-{round}/ask"), instance, &Errand::Order(Order::Ask), None)? {
        Ok(Answer::Asking(question)) => Ok(*question),
        Ok(_) | Err(_) => Err(wait(view, format!("the question of {instance}"), PAUSE)),
    }
}

/// Whose machines an operator stated to be off.
fn away(view: &View, others: &[&Name], by_itself: bool) -> Next<BTreeSet<Name>> {
    let (mut off, mut silent) = (BTreeSet::new(), Vec::new());
    for other in others.iter().filter(|other| !view.reaches(other)) {
        match view.moving().words.contains_key(*other) {
            true => {
                off.insert((*other).clone());
            }
            false => silent.push(other.as_str()),
        }
    }
    if silent.is_empty() {
        return Ok(off);
    }
    if by_itself {
        // It must not stand in the way of an operator who moves the writer: it is begun anew when they are back.
        let fault = Fault::failed(ErrorKind::Unavailable, format!("{}: who may know a later reign went silent", view.state.title()));
        return Err(give_up(fault.evidence(format!("the agents of {}", silent.join(", "))).hint(format!(
            "it is tried again when they are connected; or type muster unfence {}, or muster failover {}",
            view.state.target.component, view.state.target.component
        ))));
    }
    let words: Vec<String> = silent.iter().map(|name| format!("--word {name}=off")).collect();
    Err(wait(
        view,
        format!(
            "the agents of {}, who may know a later reign; or your word that their machines are off: muster approve {} {}",
            silent.join(", "),
            view.state.id,
            words.join(" ")
        ),
        PAUSE,
    ))
}

/// Who pledged, and the most log that one of them holds. What a superseded instance holds was given up: it is on no line that counts.
fn vouched(
    view: &View,
    instance: &Name,
    question: Question,
    round: u32,
    others: &[&Name],
    off: &BTreeSet<Name>,
) -> Next<(BTreeSet<Name>, Option<Position>)> {
    let superseded = &record(view)?.superseded;
    let (mut heard, mut most, mut given, mut open) = (BTreeSet::new(), None::<Position>, Vec::new(), Vec::new());
    for other in others.iter().filter(|other| !off.contains(**other)) {
        let name = format!("start-{round}/vouch/{other}");
        match part::stand(view, &name) {
            Stand::None => {
                let errand = Errand::Vouch { instance: instance.clone(), reign: question.reign, asked: question.asked, lasts: PLEDGE };
                given.extend(part::give(view, &name, other, errand, Some(PLEDGE)).ok());
            }
            Stand::Answered(Answer::Vouched(position), _) => {
                heard.insert((*other).clone());
                if let Some(position) = position
                    && !superseded.contains(*other)
                    && most.as_ref().is_none_or(|most| !most.covers(position))
                {
                    most = Some(position.clone());
                }
            }
            Stand::Answered(..) | Stand::Open(_) | Stand::Failed(_) => open.push(other.as_str()),
        }
    }
    if !given.is_empty() {
        return Err(crate::operation::moves::decide::Action::Record(given));
    }
    if !open.is_empty() {
        return Err(idle(format!("the pledge of {}", open.join(", "))));
    }
    Ok((heard, most))
}
