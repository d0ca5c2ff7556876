//! What happens at a controller: what it sends, hears, moves and confirms. The decisions are the crate's own.

use std::collections::{BTreeMap, BTreeSet};

use muster_common::name::Name;
use muster_common::time::Timestamp;
use muster_failover::adopt::{Report, hear};
use muster_failover::command::{Command, Order};
use muster_failover::control::Role;
use muster_failover::instance::Told;
use muster_failover::loss::Loss;
use muster_failover::position::Position;
use muster_failover::proof::{Proof, SignedReceipt, Statement, Word};
use muster_failover::shard::{Phase, Question};

use crate::checker::{Bounded, Sent};
use crate::mutation::Mutation;
use crate::world::{Content, Key, LASTS, Message, World, index, name, operation, reign_id};

impl Bounded {
    pub fn send(&self, world: &mut World, at: usize, to: usize, what: Sent) {
        let held = self.held(world, at);
        let controller = &world.controllers[at];
        let record = &controller.record;
        let order = match what {
            Sent::Stop => Order::Stop { for_operation: Some(LASTS) },
            Sent::Ask => Order::Ask,
            Sent::Pledge => {
                // A planned move waits until the candidate holds everything.
                let behind = controller.stopped_at.as_ref().is_some_and(|stopped| !world.keepers[to].at().covers(stopped));
                if behind && self.mutation != Some(Mutation::MoveBehind) {
                    return;
                }
                Order::Pledge { lasts: LASTS }
            }
            Sent::Cede => match record.asks().into_iter().find(|(name, _)| index(name) == to) {
                Some((_, ask)) => Order::Cede(ask),
                None => return,
            },
            Sent::Promote => {
                let allowed = match &record.phase {
                    Phase::Owed { proofs, .. } => proofs.values().any(|proof| matches!(proof, Proof::Word(_))),
                    Phase::Steady => false,
                };
                let loss = if allowed { Loss::UNKNOWN } else { Loss::NONE };
                match record.claim(held, loss, loss) {
                    Ok(claim) => Order::Promote(claim),
                    Err(_) => return,
                }
            }
            Sent::Follow => Order::Follow,
        };
        let command = Command {
            rule: controller.rule,
            line: record.line(),
            writer: record.reign.writer.clone(),
            sequence: controller.sequence,
            limit: None,
            order,
        };
        world.bag.insert(Message::Command { to, key: Key::of(Content::Command(command)) });
    }

    /// What every instance that can be reached and was not superseded holds.
    pub fn held(&self, world: &World, at: usize) -> BTreeMap<Name, Position> {
        let record = &world.controllers[at].record;
        (0..world.keepers.len())
            .filter(|who| world.keepers[*who].on && !record.superseded.contains(&name(*who)))
            .map(|who| (name(who), world.keepers[who].at()))
            .collect()
    }

    pub fn make_move(&self, world: &mut World, at: usize) {
        let controller = &mut world.controllers[at];
        if self.mutation == Some(Mutation::LastCandidateOnly) {
            controller.record.possible.clear();
        }
        let expected = controller.record.reign.mark();
        if let Ok(next) = controller.record.moved(operation(at), expected, reign_id(at, controller.drawn)) {
            controller.record = next;
            controller.drawn += 1;
            controller.sequence += 1;
        }
    }

    pub fn word(&self, world: &mut World, at: usize, about: usize) {
        let controller = &mut world.controllers[at];
        let word = Word {
            operator: "omar".parse().unwrap(),
            instance: name(about),
            next: controller.record.reign.mark(),
            states: Statement::MachineOff,
            ceiling: Loss::UNKNOWN,
            at: Timestamp::default(),
            signature: Vec::new(),
        };
        if let Ok(next) = controller.record.proved(&name(about), Proof::Word(word), false, None) {
            controller.record = next;
        }
    }

    pub fn report(&self, world: &mut World, at: usize, from: usize) {
        let rule = world.controllers[at].rule;
        let keeper = &mut world.keepers[from];
        if keeper.here().boot != keeper.control.boot {
            return;
        }
        if keeper.control.rule.is_some_and(|own| own.refuses(&rule)) && self.mutation != Some(Mutation::LowerTermObeyed) {
            return;
        }
        if keeper.control.rule != Some(rule) {
            keeper.control.rule = Some(rule);
            keeper.control.sequence = 0;
        }
        let report = Report {
            instance: name(from),
            obeys: keeper.control.rule,
            line: keeper.control.line.clone(),
            writer: keeper.control.writer.clone(),
            role: keeper.control.role.clone(),
        };
        let controller = &mut world.controllers[at];
        if let Ok(next) = hear(&controller.record, &report, &rule, &|_| true) {
            controller.adoption = controller.adoption.heard(&name(from));
            controller.record = next;
        }
    }

    pub fn confirm(&self, world: &mut World, at: usize, who: usize, heard: bool) {
        let (Role::Stopped { reign, .. } | Role::Writer { reign }) = world.keepers[who].control.role else { return };
        let (mut bound, mut off) = (BTreeSet::new(), BTreeSet::new());
        let mut most: Option<Position> = None;
        for other in (0..world.keepers.len()).filter(|other| *other != who) {
            if !world.keepers[other].on {
                off.insert(name(other));
            } else if heard {
                self.report(world, at, other);
                if world.keepers[other].control.rule == Some(world.controllers[at].rule) && world.bind(other, reign, self.mutation) {
                    bound.insert(name(other));
                    let own = world.keepers[other].at();
                    if most.as_ref().is_none_or(|most| own.covers(most)) {
                        most = Some(own);
                    }
                }
            }
        }
        let keeper = &world.keepers[who];
        let Some(asked) = keeper.question else { return };
        let controller = &world.controllers[at];
        let question = Question { instance: name(who), reign, asked, heard: bound, off, most };
        let adopting = controller.adoption.goes_on() && self.mutation != Some(Mutation::NoAdopting);
        if let Ok(confirmation) = controller.record.confirm(&question, (controller.rule, adopting)) {
            world.bag.insert(Message::Confirm { to: who, key: Key::of(Content::Confirm(confirmation)) });
        }
    }

    pub fn deliver(&self, world: &mut World, message: Message, survives: Option<usize>, repository: bool) {
        world.bag.remove(&message);
        match message {
            Message::Command { to, key } => {
                let Content::Command(command) = &*key.content else { return };
                if survives.is_some() {
                    world.left.crashes -= 1;
                }
                world.take_on(to, command, survives, self.mutation);
            }
            Message::Told { to, from, key } => {
                let Content::Told(rule, sequence, told) = &*key.content else { return };
                if world.controllers[to].rule == *rule {
                    self.told(world, to, from, *sequence, told.clone());
                }
            }
            Message::Confirm { to, key } => {
                let Content::Confirm(confirmation) = &*key.content else { return };
                world.hear_confirmation(to, confirmation, repository, self.mutation);
            }
        }
    }

    pub fn told(&self, world: &mut World, at: usize, from: usize, sequence: u64, told: Told) {
        let controller = &mut world.controllers[at];
        let record = &controller.record;
        let next = match told {
            Told::Stopped(position) => {
                if controller.sequence == sequence && record.candidate.is_some() {
                    controller.stopped_at = position;
                }
                None
            }
            Told::Pledged(nonce) => {
                (controller.sequence == sequence).then(|| record.pledged(operation(at), &name(from), nonce).ok()).flatten()
            }
            Told::Ceded(mut receipt) => {
                if self.mutation == Some(Mutation::ReceiptOfAnyMove)
                    && let Phase::Owed { nonce: Some(nonce), owed, .. } = &record.phase
                    && let Some(reign) = owed.get(&name(from))
                {
                    receipt.next = record.reign.mark();
                    receipt.nonce = *nonce;
                    receipt.reign = *reign;
                    receipt.successor = record.reign.writer.clone();
                }
                let proof = Proof::Receipt(SignedReceipt { receipt, signature: Vec::new(), chain: Vec::new() });
                record.proved(&name(from), proof, false, None).ok()
            }
            Told::Promoted(reign) => Some(record.promoted(reign)),
            Told::Asking | Told::Follows => None,
        };
        if let Some(next) = next {
            controller.record = next;
        }
    }
}
