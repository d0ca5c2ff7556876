//! What switchover and failover have in common: the candidate stands ready, the journal moves, and from there it only goes on.
//!
//! What always holds: nothing here decides who may write; every transition is one of `muster_failover::shard`, and the promoting agent
//! checks all of it again.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::Name;
use muster_failover::command::Order;
use muster_failover::custody::Ask;
use muster_failover::directive::{Answer, Errand};
use muster_failover::loss::Loss;
use muster_failover::position::Position;
use muster_failover::proof::{Proof, Word};
use muster_failover::shard::{Phase, ShardRecord};

use crate::operation::event::Event;
use crate::operation::moves::change::{Change, Deed};
use crate::operation::moves::decide::{
    Action, Next, change, changed, deeds, failed, generation, give, give_up, idle, record, refused, wait, waits_for,
};
use crate::operation::moves::part::{self, Stand, ago, stand};
use crate::operation::moves::route;
use crate::operation::moves::task::{Done, REACH};
use crate::operation::moves::view::View;
use crate::operation::state::Stands;

/// How long a candidacy lasts; while it does, nobody is confirmed to start in that reign by this agent.
pub const CANDIDACY: Duration = Duration::from_secs(120);
/// How long a promotion may be carried out from its arrival.
const PROMOTION: Duration = Duration::from_secs(60);
/// Between two tries of what is refused.
const PAUSE: Duration = Duration::from_secs(3);
/// Failed promotions in one reign before another is begun: a candidate that was started again, or whose candidacy ran out, needs it.
const MOST_PROMOTIONS: u32 = 2;
/// Reigns that one move begins at most.
const MOST_REIGNS: usize = 8;

/// The step of a candidacy: each reign has its own.
#[must_use]
pub fn pledge_step(view: &View) -> String {
    format!("pledge-{}", generation(&view.state) + 1)
}

/// The order of a candidacy.
#[must_use]
pub const fn pledge() -> Errand {
    Errand::Order(Order::Pledge { lasts: CANDIDACY })
}

/// The candidate is recorded, pledges, and the reign moves. `ready` may hold a pledge back.
///
/// # Errors
/// What to do before; nothing is left to do when the move is journaled.
pub fn prepare(view: &View, candidate: &Name, ready: impl FnOnce(Option<&Position>) -> Next<()>) -> Next<()> {
    let record = record(view)?;
    let own = record.candidate.as_ref().filter(|own| own.operation == view.state.id && own.name == *candidate);
    match own {
        None => Err(match changed(view, Change::Begin(candidate.clone())) {
            Ok(event) => Action::Record(vec![event]),
            Err(refusal) if generation(&view.state) == 0 => turn_back(refused(view, &refusal)),
            Err(refusal) => give_up(refused(view, &refusal)),
        }),
        Some(own) if own.nonce.is_some() => Err(change(view, Change::Move { expected: record.reign.mark(), id: view.drawn })),
        Some(_) => {
            let step = pledge_step(view);
            match stand(view, &step) {
                Stand::None => Err(give(view, &step, candidate, pledge(), Some(CANDIDACY))),
                Stand::Open(_) => Err(wait(view, waits_for(view, candidate, "pledge"), PAUSE)),
                Stand::Answered(Answer::Pledged { nonce, position }, _) => {
                    ready(position.as_ref())?;
                    Err(change(view, Change::Pledged(candidate.clone(), *nonce)))
                }
                Stand::Answered(..) => Err(wait(view, format!("{candidate}: an answer that fits"), PAUSE)),
                Stand::Failed(part) if ago(view, part.finished.unwrap_or(part.since)) < PAUSE => {
                    Err(wait(view, failed(view, part, "pledge").message, PAUSE))
                }
                Stand::Failed(_) => Err(give(view, &step, candidate, pledge(), Some(CANDIDACY))),
            }
        }
    }
}

/// After the move: proofs, promotion. `Ok`: the new writer takes writes, and it is journaled.
///
/// # Errors
/// What to do before.
pub fn forward(view: &View) -> Next<()> {
    let record = record(view)?;
    if deeds(&view.state).any(|(_, deed)| matches!(deed, Deed::Promoted(_))) {
        return Ok(());
    }
    let Phase::Owed { operation, .. } = &record.phase else { return settled(view, record) };
    if *operation != Some(view.state.id) {
        return Err(superseded(view, record));
    }
    let candidate = record.reign.writer.clone();
    // Begun anew: the candidacy of the reign before is worth nothing any more.
    if record.candidate.as_ref().is_some_and(|own| own.operation == view.state.id) {
        return prepare(view, &candidate, |_| Ok(()));
    }
    if record.candidate.is_some() {
        return Err(superseded(view, record));
    }
    prove(view, record)?;
    promote(view, record, &candidate)
}

/// The record is steady though this move did not see its promotion.
fn settled(view: &View, record: &ShardRecord) -> Next<()> {
    let own = deeds(&view.state).any(|(_, deed)| matches!(deed, Deed::Move { to, .. } if *to == record.reign.mark()));
    match own {
        // The writer told it by itself.
        true => Ok(()),
        false => Err(superseded(view, record)),
    }
}

fn superseded(view: &View, record: &ShardRecord) -> Action {
    let now = format!("{} of {}", record.reign.mark(), record.reign.writer);
    give_up(
        Fault::failed(ErrorKind::Conflict, format!("{}: another move went on from it", view.state.title()))
            .evidence(format!("the reign is {now} now"))
            .hint(format!("`muster status {}` shows who writes", view.state.target.component)),
    )
}

/// A proof for each possible writer: its receipt where its agent answers, else an operator's word.
fn prove(view: &View, record: &ShardRecord) -> Next<()> {
    let asks: BTreeMap<Name, Ask> = record.asks().into_iter().collect();
    let (mut events, mut silent, mut asked) = (Vec::new(), Vec::new(), Vec::new());
    for name in record.missing() {
        let Some(ask) = asks.get(&name) else { continue };
        let step = format!("cede-{}/{name}", generation(&view.state));
        let errand = || Errand::Order(Order::Cede(ask.clone()));
        match stand(view, &step) {
            Stand::Answered(Answer::Ceded(receipt), _) => {
                let proof = Box::new(Proof::Receipt((**receipt).clone()));
                match changed(view, Change::Proved { instance: name.clone(), proof, seen: None }) {
                    Ok(event) => return Err(Action::Record(vec![event])),
                    Err(refusal) => silent.push(format!("{name} ({})", refusal.evidence)),
                }
            }
            Stand::None if view.reaches(&name) => events.extend(part::give(view, &step, &name, errand(), None).ok()),
            Stand::Open(part) if view.reaches(&name) && ago(view, part.since) < REACH => asked.push(name.to_string()),
            Stand::Failed(part) if view.reaches(&name) && ago(view, part.finished.unwrap_or(part.since)) >= PAUSE => {
                by_word(view, record, &name, &mut silent)?;
                events.extend(part::give(view, &step, &name, errand(), None).ok());
            }
            Stand::Answered(..) | Stand::None | Stand::Open(_) | Stand::Failed(_) => by_word(view, record, &name, &mut silent)?,
        }
    }
    if !events.is_empty() {
        return Err(Action::Record(events));
    }
    if silent.is_empty() && asked.is_empty() {
        return Ok(());
    }
    if silent.is_empty() {
        return Err(wait(view, format!("the receipt of {}", asked.join(", ")), PAUSE));
    }
    let names = silent.join(", ");
    let words: Vec<String> = silent.iter().map(|text| format!("--word {}=off", text.split(' ').next().unwrap_or(text))).collect();
    Err(wait(
        view,
        format!(
            "a proof that {names} writes no more: its agent's receipt, or your word that its machine is off: muster approve {} {}",
            view.state.id,
            words.join(" ")
        ),
        PAUSE,
    ))
}

/// The word about an instance, where one was given and nothing speaks against it.
fn by_word(view: &View, record: &ShardRecord, name: &Name, silent: &mut Vec<String>) -> Next<()> {
    let Some(given) = view.moving().words.get(name) else {
        silent.push(name.to_string());
        return Ok(());
    };
    let word = Word {
        operator: given.operator.clone(),
        instance: name.clone(),
        next: record.reign.mark(),
        states: given.states,
        ceiling: view.moving().ceiling(),
        at: given.at,
        signature: Vec::new(),
    };
    let member = view.member(name);
    let seen = member.filter(|member| member.writes()).map(|member| format!("agent {} sees it take writes", member.agent));
    match changed(view, Change::Proved { instance: name.clone(), proof: Box::new(Proof::Word(word)), seen }) {
        Ok(event) => Err(Action::Record(vec![event])),
        Err(refusal) => {
            silent.push(format!("{name} ({})", refusal.evidence));
            Ok(())
        }
    }
}

/// The promotion, tried again; a candidate that refuses twice gets a reign of its own anew.
fn promote(view: &View, record: &ShardRecord, candidate: &Name) -> Next<()> {
    let step = format!("promote-{}", generation(&view.state));
    match stand(view, &step) {
        Stand::Answered(Answer::Promoted { reign, .. }, _) => Err(change(view, Change::Promoted(*reign))),
        Stand::Answered(..) => Err(idle(format!("{candidate}: an answer that fits"))),
        Stand::Open(_) => Err(wait(view, waits_for(view, candidate, "promote"), PAUSE)),
        Stand::Failed(part) if ago(view, part.finished.unwrap_or(part.since)) < PAUSE => {
            let why = failed(view, part, "promote");
            Err(wait(
                view,
                format!("another try: {}. Another candidate: muster failover {} --to INSTANCE", why.message, view.state.target.component),
                PAUSE,
            ))
        }
        Stand::Failed(_) if part::tries(view, &step) >= MOST_PROMOTIONS && generation(&view.state) < MOST_REIGNS => {
            Err(change(view, Change::Begin(candidate.clone())))
        }
        Stand::None | Stand::Failed(_) => Err(claimed(view, record, candidate, &step)),
    }
}

fn claimed(view: &View, record: &ShardRecord, candidate: &Name, step: &str) -> Action {
    match record.claim(held(view, record, candidate), loss(view, record), view.moving().ceiling()) {
        Ok(claim) => give(view, step, candidate, Errand::Order(Order::Promote(claim)), Some(PROMOTION)),
        Err(refusal) => wait(view, refused(view, &refusal).to_string(), PAUSE),
    }
}

/// What every other instance that can be reached and was not superseded holds.
fn held(view: &View, record: &ShardRecord, candidate: &Name) -> BTreeMap<Name, Position> {
    let others =
        view.members.iter().filter(|member| member.connected && member.name != *candidate && !record.superseded.contains(&member.name));
    others.filter_map(|member| Some((member.name.clone(), member.fresh()?.clone()))).collect()
}

/// What was approved of the candidate when it was chosen. Of a planned move nothing, where every proof is a receipt: the promoting agent is at
/// or above each of them, or it refuses.
fn loss(view: &View, record: &ShardRecord) -> Loss {
    let by_receipts = match &record.phase {
        Phase::Owed { proofs, .. } => proofs.values().all(|proof| matches!(proof, Proof::Receipt(_))),
        Phase::Steady => false,
    };
    match &view.moving().chosen {
        Some(chosen) => chosen.loss,
        None if by_receipts => Loss::NONE,
        None => Loss::UNKNOWN,
    }
}

/// After the promotion, and the first try to cut the routes over.
/// The others follow, each in its own time; one that cannot is named and does not hold the move up.
///
/// # Errors
/// What to do before.
pub fn follow(view: &View) -> Next<Vec<String>> {
    let record = record(view)?;
    let (mut notes, mut given, mut open) = (Vec::new(), Vec::new(), Vec::new());
    for member in view.members.iter().filter(|member| member.name != record.reign.writer) {
        let (name, step) = (&member.name, format!("follow/{}", member.name));
        let rejoin = || format!("{name} does not follow yet: muster rejoin {}/{name}", view.state.target.component);
        match stand(view, &step) {
            Stand::None if member.connected => {
                let errand = if record.superseded.contains(name) { Errand::Rejoin } else { Errand::Order(Order::Follow) };
                given.extend(part::give(view, &step, name, errand, None).ok());
            }
            Stand::Answered(..) if record.superseded.contains(name) => return Err(change(view, Change::Rejoined(name.clone()))),
            Stand::Answered(..) => {}
            Stand::Open(part) if member.connected && ago(view, part.since) < 3 * REACH => open.push(name.to_string()),
            Stand::Failed(part) => notes.push(format!("{}: {}", rejoin(), failed(view, part, "follow").message)),
            Stand::None | Stand::Open(_) => notes.push(rejoin()),
        }
    }
    if !given.is_empty() {
        return Err(Action::Record(given));
    }
    if !open.is_empty() {
        return Err(wait(view, format!("{} to follow", open.join(", ")), PAUSE));
    }
    Ok(notes)
}

/// What came of it.
///
/// # Errors
/// Where no writer is known.
pub fn done(view: &View, notes: Vec<String>) -> Next<Done> {
    let record = record(view)?;
    let moves = deeds(&view.state).filter_map(|(_, deed)| match deed {
        Deed::Move { from, .. } => Some(from.epoch),
        Deed::First(_) | Deed::Begin(_) | Deed::Pledged(_) | Deed::Back | Deed::Proved { .. } | Deed::Promoted(_) | Deed::Rejoined(_) => {
            None
        }
    });
    Ok(Done {
        writer: Some(record.reign.writer.clone()),
        reign: record.reign.mark(),
        before: moves.min().unwrap_or(record.reign.epoch),
        outage_us: outage(view),
        loss: view.moving().chosen.as_ref().map(|chosen| chosen.loss),
        notes,
    })
}

/// From the stop that succeeded to the promotion, as the journal has them.
fn outage(view: &View) -> Option<u64> {
    let stopped = view.state.steps.iter().find(|step| step.name.starts_with("stop") && step.stands == Stands::Succeeded)?.started;
    let promoted =
        view.state.steps.iter().rev().find(|step| step.name.starts_with("promote-") && step.stands == Stands::Succeeded)?.finished?;
    u64::try_from(promoted.since(stopped).as_micros()).ok()
}

/// It goes back, for this reason. Only before the move.
#[must_use]
pub fn turn_back(fault: Fault) -> Action {
    Action::Record(vec![Event::TurnedBack(fault)])
}

/// The way back: the preparation is over, and a writer that was stopped for it starts again.
///
/// # Errors
/// What to do now: the last of it ends the move.
pub fn back(view: &View, stop: &str) -> Action {
    let own = view.record.as_ref().and_then(|record| record.candidate.as_ref()).is_some_and(|own| own.operation == view.state.id);
    if own {
        return change(view, Change::Back);
    }
    let Some(writer) = view.record.as_ref().map(|record| record.reign.writer.clone()) else { return Action::Record(vec![Event::WentBack]) };
    let touched = match stand(view, stop) {
        Stand::None => false,
        Stand::Open(_) if view.reaches(&writer) => return idle(waits_for(view, &writer, "stop")),
        // Its agent is away: what it was told lapses, it asks by itself when it is back, and is started then.
        Stand::Open(_) => false,
        Stand::Answered(..) => true,
        Stand::Failed(part) => part.fault.as_ref().is_none_or(|fault| fault.effect != muster_common::fault::Effect::None),
    };
    if touched && view.reaches(&writer) {
        match crate::operation::moves::start_again::start_again(view, &writer, false) {
            Ok(()) => {}
            Err(action) => return action,
        }
    }
    if let Err(action) = route::restore(view) {
        return action;
    }
    Action::Record(vec![Event::WentBack])
}
