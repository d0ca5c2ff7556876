//! What happens at a keeper: commands, looks, confirmations, crashes. The decisions are the crate's own; here they are carried out.

use std::collections::BTreeSet;

use muster_failover::command::{Command, Order};
use muster_failover::control::{Role, Why};
use muster_failover::here::Limit;
use muster_failover::instance::{Act, Told, confirmed, obey, tend, vouch};
use muster_failover::look::Server;
use muster_failover::permit::{Confirmation, Confirmed};
use muster_failover::proof::{Method, Proof, Receipt};
use muster_failover::reign::Mark;

use crate::mutation::Mutation;
use crate::world::{Content, Harm, Key, LASTS, Message, World, index, name, nonce};

/// How many rounds of acts one command may take. More is a loop, and a failure of the model.
const MOST_ROUNDS: usize = 12;

impl World {
    /// Takes a command on and carries it out, or dies after `survives` acts.
    pub fn take_on(&mut self, at: usize, command: &Command, survives: Option<usize>, mutation: Option<Mutation>) {
        let here = self.keepers[at].here();
        let limit = matches!(command.order, Order::Promote(_) | Order::Ask | Order::Pledge { .. } | Order::Stop { for_operation: Some(_) });
        let arrived = Command { limit: limit.then(|| Limit::after(&here, LASTS)), ..command.clone() };
        self.keepers[at].inbox = Some(arrived);
        self.resume(at, survives, mutation);
    }

    /// Goes on with what the inbox holds.
    pub fn resume(&mut self, at: usize, survives: Option<usize>, mutation: Option<Mutation>) {
        let Some(mut command) = self.keepers[at].inbox.clone() else { return };
        let mut left = survives.unwrap_or(usize::MAX);
        if self.keepers[at].here().boot != self.keepers[at].control.boot {
            // The first look of a boot comes before anything else.
            self.boot_look(at, mutation);
        }
        for _ in 0..MOST_ROUNDS {
            if mutation == Some(Mutation::ResumeUnchecked) {
                let keeper = &self.keepers[at];
                command.rule = keeper.control.rule.unwrap_or(command.rule);
                command.sequence = command.sequence.max(keeper.control.sequence);
                command.limit = command.limit.map(|_| Limit::after(&keeper.here(), LASTS));
                if !matches!(command.order, Order::Promote(_) | Order::Cede(_)) {
                    command.line = keeper.control.line.clone();
                    command.writer = keeper.control.writer.clone();
                }
            }
            let Some(acts) = self.decide(at, &command, mutation) else {
                self.keepers[at].inbox = None;
                return;
            };
            let again = acts.last() == Some(&Act::Again);
            for act in acts {
                if left == 0 {
                    return;
                }
                left -= 1;
                self.carry_out(at, act, &command);
            }
            if !again {
                self.keepers[at].inbox = None;
                return;
            }
        }
        panic!("the command does not end: {command:?} at {:?}", self.keepers[at]);
    }

    fn decide(&mut self, at: usize, command: &Command, mutation: Option<Mutation>) -> Option<Vec<Act>> {
        let keeper = &mut self.keepers[at];
        let here = keeper.here();
        let mut look = keeper.look();
        let mut control = keeper.control.clone();
        let mut command = command.clone();
        match mutation {
            Some(Mutation::LowerTermObeyed) => control.rule = None,
            Some(Mutation::NoRecheck) => {
                if let Order::Promote(claim) = &mut command.order {
                    claim.held.clear();
                    for proof in claim.proofs.values_mut() {
                        if let Proof::Receipt(signed) = proof {
                            signed.receipt.position = keeper.at();
                        }
                    }
                }
            }
            Some(Mutation::SignRunning) => {
                if let (Order::Cede(ask), Role::Writer { reign }) = (&command.order, &control.role)
                    && ask.reign == *reign
                {
                    look = muster_failover::look::Look { permit: false, locked: true, server: Server::Stopped, ..look };
                    control.role = Role::Stopped { reign: *reign, why: Why::Operation, until: None, ceded_to: None };
                }
            }
            Some(Mutation::AnyoneSigns) => {
                if let Order::Cede(ask) = &command.order
                    && !matches!(control.role, Role::Writer { .. } | Role::Promoting { .. })
                {
                    let receipt = Receipt {
                        component: control.component.clone(),
                        instance: control.instance.clone(),
                        reign: ask.reign,
                        successor: ask.next.writer.clone(),
                        next: ask.next.mark(),
                        nonce: ask.nonce,
                        method: Method::Clean,
                        position: keeper.at(),
                    };
                    return Some(vec![Act::Tell(Told::Ceded(receipt))]);
                }
            }
            Some(_) | None => {}
        }
        let fresh = nonce(at, keeper.drawn + 1);
        let acts = obey(&control, &here, &look, &command, fresh, &|_, _| Ok(())).ok()?;
        if acts.iter().any(|act| matches!(act, Act::Tell(Told::Pledged(nonce)) if *nonce == fresh)) {
            keeper.drawn += 1;
        }
        Some(swapped(acts, mutation))
    }

    fn carry_out(&mut self, at: usize, act: Act, command: &Command) {
        let keeper = &mut self.keepers[at];
        match act {
            Act::Keep(control) => keeper.control = *control,
            Act::RemovePermit => keeper.permit = None,
            Act::Stop => {
                keeper.server = Server::Stopped;
                keeper.locked = true;
            }
            Act::Record(mark) => self.repository = Some(mark),
            Act::GivePermit(permit) => {
                keeper.permit = Some(permit.writes());
                keeper.locked = false;
            }
            Act::Start => {
                keeper.server = if keeper.standby { Server::ReadOnly } else { Server::ReadWrite };
                self.began(at, command);
            }
            Act::Promote => {
                keeper.standby = false;
                keeper.server = Server::ReadWrite;
                keeper.new_timeline(keeper.control.line.last().epoch);
                self.began(at, command);
            }
            Act::Follow => {
                let writer = index(&keeper.control.writer);
                let upstream = &self.keepers[writer];
                if upstream.writes().is_some() {
                    let position = upstream.position.clone();
                    let keeper = &mut self.keepers[at];
                    keeper.position = position;
                    keeper.standby = true;
                }
            }
            Act::Tell(told) => {
                if let Told::Ceded(receipt) = &told {
                    keeper.signed.insert(receipt.reign);
                }
                let key = Key::of(Content::Told(command.rule, command.sequence, told));
                self.bag.insert(Message::Told { to: usize::try_from(command.rule.term.0).unwrap() - 1, from: at, key });
            }
            Act::Again => {}
        }
    }

    /// An instance began to take writes: it must hold what was acknowledged, unless a word or the external fence allowed the loss.
    fn began(&mut self, at: usize, command: &Command) {
        let keeper = &self.keepers[at];
        if keeper.server != Server::ReadWrite {
            return;
        }
        let allowed = match &command.order {
            Order::Promote(claim) => claim.proofs.values().any(|proof| matches!(proof, Proof::Word(_) | Proof::External(_))),
            Order::Stop { .. } | Order::Ask | Order::Pledge { .. } | Order::Cede(_) | Order::Follow => false,
        };
        if !allowed && !keeper.at().covers(&self.acknowledged) {
            self.harm = Some(Harm::Lost);
        }
        self.acknowledged = keeper.at();
    }

    /// One look, carried out whole.
    pub fn tend(&mut self, at: usize, mutation: Option<Mutation>) {
        if self.keepers[at].here().boot != self.keepers[at].control.boot {
            self.boot_look(at, mutation);
        }
        for _ in 0..MOST_ROUNDS {
            let keeper = &self.keepers[at];
            let acts = tend(&keeper.control, &keeper.here(), &keeper.look());
            let done = !matches!(acts.last(), Some(Act::Again));
            let idle = Command {
                rule: keeper.control.rule.unwrap_or(crate::world::rule(0)),
                line: keeper.control.line.clone(),
                writer: keeper.control.writer.clone(),
                sequence: 0,
                limit: None,
                order: Order::Follow,
            };
            for act in swapped(acts, mutation) {
                self.carry_out(at, act, &idle);
            }
            if done {
                return;
            }
        }
        panic!("looks do not end: {:?}", self.keepers[at]);
    }

    fn boot_look(&mut self, at: usize, mutation: Option<Mutation>) {
        let keeper = &mut self.keepers[at];
        let here = keeper.here();
        let mut next = keeper.control.in_boot(&here);
        match mutation {
            Some(Mutation::BootEndsPledges) => next.pledges.clear(),
            Some(Mutation::GrantOutlivesBoot) => {
                if let Role::Promoting { reign, until } = keeper.control.role {
                    next.role = Role::Promoting { reign, until: Limit { boot: here.boot, ..until } };
                    next.pledges = keeper.control.pledges.clone();
                    if let Some(command) = &mut keeper.inbox {
                        command.limit = Some(Limit::after(&here, LASTS));
                    }
                }
            }
            Some(_) | None => {}
        }
        keeper.control = next;
    }

    /// A confirmation arrives. `asked` the repository or not.
    pub fn hear_confirmation(&mut self, at: usize, confirmation: &Confirmation, asked: bool, mutation: Option<Mutation>) {
        let keeper = &mut self.keepers[at];
        let Some(question) = keeper.question else { return };
        let mut confirmation = confirmation.clone();
        let repository = if asked { self.repository } else { None };
        match mutation {
            Some(Mutation::StartBehind) => confirmation.most = None,
            Some(Mutation::ConfirmUnheard) => {
                confirmation.heard = keeper.control.others.clone();
            }
            Some(_) | None => {}
        }
        let Ok(acts) = confirmed(&keeper.control, &keeper.here(), &keeper.look(), &confirmation, question, repository) else { return };
        keeper.question = None;
        self.start(at, acts);
    }

    fn start(&mut self, at: usize, acts: Vec<Act>) {
        let keeper = &self.keepers[at];
        let start = Command {
            rule: crate::world::rule(0),
            line: keeper.control.line.clone(),
            writer: keeper.control.writer.clone(),
            sequence: 0,
            limit: None,
            order: Order::Ask,
        };
        for act in acts {
            self.carry_out(at, act, &start);
        }
    }

    /// Starts without a confirmation: what mutations allow.
    pub fn start_unasked(&mut self, at: usize) {
        let keeper = &mut self.keepers[at];
        let Role::Stopped { reign, .. } = keeper.control.role else { return };
        keeper.control.role = Role::Writer { reign };
        keeper.permit = Some(Some(reign));
        keeper.locked = false;
        self.start(at, vec![Act::Start]);
    }

    /// `peer` is asked to confirm the start of `at`, in `reign`. Tells whether it bound itself.
    pub fn bind(&mut self, peer: usize, reign: Mark, mutation: Option<Mutation>) -> bool {
        let keeper = &mut self.keepers[peer];
        let mut control = keeper.control.clone();
        if mutation == Some(Mutation::CandidateVouches) {
            control.pledges.clear();
        }
        let Ok(bound) = vouch(&control, &keeper.here(), &keeper.look(), reign, LASTS) else { return false };
        if mutation != Some(Mutation::CandidateVouches) {
            keeper.control = bound;
        }
        true
    }

    /// `peer` is asked without a controller between.
    pub fn vouch(&mut self, at: usize, peer: usize, mutation: Option<Mutation>) {
        let Some(asked) = self.keepers[at].question else { return };
        let (Role::Stopped { reign, .. } | Role::Writer { reign }) = self.keepers[at].control.role else { return };
        if !self.bind(peer, reign, mutation) {
            return;
        }
        let (heard, most) = (BTreeSet::from([name(peer)]), Some(self.keepers[peer].at()));
        let confirmation = Confirmation { instance: name(at), reign, asked, by: Confirmed::Peers, heard, off: BTreeSet::new(), most };
        self.bag.insert(Message::Confirm { to: at, key: Key::of(Content::Confirm(confirmation)) });
    }
}

/// The acts, with two of them swapped where a mutation says so.
fn swapped(mut acts: Vec<Act>, mutation: Option<Mutation>) -> Vec<Act> {
    let of = |acts: &[Act], what: fn(&Act) -> bool| acts.iter().position(what);
    let pair = match mutation {
        Some(Mutation::RemoveBeforeRecord) => {
            of(&acts, |act| matches!(act, Act::Keep(_))).zip(of(&acts, |act| matches!(act, Act::RemovePermit | Act::Stop)))
        }
        Some(Mutation::PermitBeforeRecord) => {
            of(&acts, |act| matches!(act, Act::Keep(_))).zip(of(&acts, |act| matches!(act, Act::Promote | Act::Start)))
        }
        Some(_) | None => None,
    };
    if let Some((first, second)) = pair {
        acts.swap(first, second);
    }
    acts
}
