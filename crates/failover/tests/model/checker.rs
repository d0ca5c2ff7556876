//! The model as the checker sees it: what can happen next, and what comes of it.

use std::collections::{BTreeMap, BTreeSet};

use muster_common::time::Timestamp;
use muster_failover::adopt::{Report, hear};
use muster_failover::command::{Command, Order};
use muster_failover::control::{Role, Why};
use muster_failover::instance::Told;
use muster_failover::look::Server;
use muster_failover::loss::Loss;
use muster_failover::position::Position;
use muster_failover::proof::{Proof, SignedReceipt, Statement, Word};
use muster_failover::shard::{Phase, Question};
use stateright::{Model, Property};

use crate::mutation::Mutation;
use crate::world::{Budget, Content, Image, Key, LASTS, Message, World, index, name, nonce, operation, reign_id};

/// A bounded world, with or without one rule of the protocol.
#[derive(Clone, Copy, Debug)]
pub struct Bounded {
    pub instances: usize,
    pub budget: Budget,
    /// As many messages are under way at most.
    pub late: usize,
    /// Whether peers can confirm a start.
    pub peers: bool,
    /// Whether `a` has an outdated list of the others: nobody.
    pub outdated: bool,
    pub mutation: Option<Mutation>,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    Write(usize),
    Replicate(usize),
    Begin {
        at: usize,
        candidate: usize,
        planned: bool,
    },
    Back(usize),
    /// A controller sends what its record calls for.
    Send {
        at: usize,
        to: usize,
        what: Sent,
    },
    Move(usize),
    Word {
        at: usize,
        about: usize,
    },
    Report {
        at: usize,
        from: usize,
    },
    NameSilent {
        at: usize,
        who: usize,
    },
    Wake(usize),
    Deliver {
        message: Message,
        survives: Option<usize>,
        repository: bool,
    },
    Resume {
        at: usize,
        survives: Option<usize>,
    },
    Tend(usize),
    Ask(usize),
    Confirm {
        at: usize,
        who: usize,
        heard: bool,
    },
    Vouch {
        at: usize,
        peer: usize,
    },
    StartUnasked(usize),
    PowerOff(usize),
    Boot(usize),
    ServerEnds(usize),
    ServerReads(usize),
    ServerRuns(usize),
    Snapshot(usize),
    RollBack(usize),
    LosePermit(usize),
}

/// What a controller sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sent {
    Stop,
    Ask,
    Pledge,
    Cede,
    Promote,
    Follow,
}

impl Model for Bounded {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        let mut world = World::first(self.instances, self.budget);
        if self.outdated {
            world.keepers[0].control.others.clear();
        }
        vec![world]
    }

    fn actions(&self, world: &World, events: &mut Vec<Event>) {
        if world.harm.is_some() {
            return;
        }
        for at in 0..world.keepers.len() {
            self.keeper_events(world, at, events);
        }
        for at in 0..world.controllers.len() {
            self.controller_events(world, at, events);
        }
        for message in &world.bag {
            self.deliveries(world, message, events);
        }
    }

    fn next_state(&self, last: &World, event: Event) -> Option<World> {
        let mut world = last.clone();
        self.happen(&mut world, event);
        world.judge(self.mutation);
        (world != *last).then_some(world)
    }

    fn within_boundary(&self, world: &World) -> bool {
        world.bag.len() <= self.late
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nothing that must never be", |_: &Self, world: &World| world.harm.is_none()),
            Property::sometimes("a move ends: another instance takes writes in a later reign", |_: &Self, world: &World| {
                world.keepers.iter().skip(1).any(|keeper| keeper.writes().is_some())
            }),
            Property::sometimes("a move goes back: the old writer takes writes again", |model: &Self, world: &World| {
                model.budget.backs == 0
                    || (world.left.backs < model.budget.backs
                        && world.keepers[0].control.role_is_writer()
                        && world.keepers[0].question.is_none()
                        && world.keepers[0].drawn > 0)
            }),
        ]
    }
}

/// What the properties ask of a control file.
trait Roles {
    fn role_is_writer(&self) -> bool;
}

impl Roles for muster_failover::control::Control {
    fn role_is_writer(&self) -> bool {
        matches!(self.role, Role::Writer { .. })
    }
}

impl Bounded {
    fn survivals(&self, world: &World) -> Vec<Option<usize>> {
        let mut all = vec![None];
        if world.left.crashes > 0 {
            all.extend((1..=4).map(Some));
        }
        all
    }

    fn keeper_events(&self, world: &World, at: usize, events: &mut Vec<Event>) {
        let keeper = &world.keepers[at];
        let left = &world.left;
        if !keeper.on {
            events.push(Event::Boot(at));
            return;
        }
        if keeper.writes().is_some() && left.writes > 0 {
            events.push(Event::Write(at));
        }
        if keeper.server == Server::ReadOnly {
            events.push(Event::Replicate(at));
        }
        if keeper.inbox.is_some() {
            events.extend(self.survivals(world).into_iter().map(|survives| Event::Resume { at, survives }));
        }
        events.push(Event::Tend(at));
        if keeper.control.asks(&keeper.here()) && keeper.permit.is_none() && keeper.server == Server::Stopped && keeper.question.is_none() {
            events.push(Event::Ask(at));
        }
        if keeper.question.is_some() && self.peers {
            events.extend(
                (0..world.keepers.len()).filter(|peer| *peer != at && world.keepers[*peer].on).map(|peer| Event::Vouch { at, peer }),
            );
        }
        let unasked = match (self.mutation, &keeper.control.role) {
            (Some(Mutation::StartUnasked), Role::Stopped { why: Why::Asking, ceded_to: None, .. })
            | (Some(Mutation::LimitStarts), Role::Stopped { why: Why::Operation, ceded_to: None, .. }) => true,
            (Some(Mutation::NobodyIsEverybody), Role::Stopped { why: Why::Asking, ceded_to: None, .. }) => keeper.control.others.is_empty(),
            (_, _) => false,
        };
        if unasked && keeper.here().boot == keeper.control.boot {
            events.push(Event::StartUnasked(at));
        }
        if left.words > 0 {
            events.push(Event::PowerOff(at));
        }
        if left.reboots > 0 {
            events.push(Event::Boot(at));
        }
        if left.restarts > 0 && keeper.server != Server::Stopped {
            events.push(Event::ServerEnds(at));
        }
        if keeper.permit.is_some() && keeper.server == Server::Stopped && !keeper.starting {
            events.push(Event::ServerReads(at));
        }
        if keeper.starting {
            events.push(Event::ServerRuns(at));
        }
        if left.rollbacks > 0 {
            events.push(if keeper.image.is_none() { Event::Snapshot(at) } else { Event::RollBack(at) });
        }
        if left.lost_permits > 0 && keeper.permit.is_some() {
            events.push(Event::LosePermit(at));
        }
    }

    fn controller_events(&self, world: &World, at: usize, events: &mut Vec<Event>) {
        let controller = &world.controllers[at];
        if !controller.awake {
            if world.left.copies > 0 {
                events.push(Event::Wake(at));
            }
            return;
        }
        let keepers = || 0..world.keepers.len();
        for from in keepers().filter(|from| world.keepers[*from].on) {
            events.push(Event::Report { at, from });
        }
        events.extend(
            controller
                .adoption
                .silent
                .iter()
                .filter(|who| !controller.adoption.named.contains(*who))
                .map(|who| Event::NameSilent { at, who: index(who) }),
        );
        if controller.adoption.goes_on() && self.mutation != Some(Mutation::NoAdopting) {
            return;
        }
        let record = &controller.record;
        if world.left.moves > 0 && controller.record.candidate.is_none() {
            for candidate in keepers() {
                events.push(Event::Begin { at, candidate, planned: false });
                if record.phase == Phase::Steady {
                    events.push(Event::Begin { at, candidate, planned: true });
                }
            }
        }
        if record.candidate.is_some() && world.left.backs > 0 {
            events.push(Event::Back(at));
        }
        let writer = index(&record.reign.writer);
        let send = |to, what| Event::Send { at, to, what };
        if let Some(candidate) = &record.candidate {
            if controller.planned && controller.stopped_at.is_none() {
                events.push(send(writer, Sent::Stop));
            } else if candidate.nonce.is_none() {
                events.push(send(index(&candidate.name), Sent::Pledge));
            } else {
                events.push(Event::Move(at));
            }
        }
        match &record.phase {
            Phase::Steady if record.candidate.is_none() => {
                if world.left.backs < self.budget.backs {
                    events.push(send(writer, Sent::Ask));
                }
                events.extend(record.superseded.iter().map(|to| send(index(to), Sent::Follow)));
            }
            Phase::Steady => {}
            Phase::Owed { owed, .. } => {
                events.extend(record.asks().iter().map(|(to, _)| send(index(to), Sent::Cede)));
                events.push(send(writer, Sent::Promote));
                let off = |who: &usize| {
                    !world.keepers[*who].on
                        || (self.mutation == Some(Mutation::WordAboutServer) && world.keepers[*who].server == Server::Stopped)
                };
                events.extend(owed.keys().map(index).filter(off).map(|about| Event::Word { at, about }));
            }
        }
        for who in keepers().filter(|who| world.keepers[*who].question.is_some() && world.keepers[*who].on) {
            events.extend([true, false].map(|heard| Event::Confirm { at, who, heard }));
        }
    }

    fn deliveries(&self, world: &World, message: &Message, events: &mut Vec<Event>) {
        let deliver = |survives, repository| Event::Deliver { message: message.clone(), survives, repository };
        match message {
            Message::Command { to, .. } => {
                if world.keepers[*to].on && world.keepers[*to].inbox.is_none() {
                    events.extend(self.survivals(world).into_iter().map(|survives| deliver(survives, false)));
                }
            }
            Message::Told { .. } => events.push(deliver(None, false)),
            Message::Confirm { to, .. } => {
                if world.keepers[*to].on {
                    events.extend([true, false].map(|repository| deliver(None, repository)));
                }
            }
        }
    }

    fn happen(&self, world: &mut World, event: Event) {
        match event {
            Event::Write(at) => {
                let keeper = &mut world.keepers[at];
                world.left.writes -= 1;
                keeper.position.lsn.0 += 1;
                keeper.control.last = Some(keeper.at());
                world.acknowledged = keeper.at();
            }
            Event::Replicate(at) => {
                let writer = index(&world.keepers[at].control.writer);
                let upstream = &world.keepers[writer];
                if writer != at && upstream.writes().is_some() && upstream.at().covers(&world.keepers[at].at()) {
                    world.keepers[at].position = upstream.position.clone();
                    world.keepers[at].control.last = Some(world.keepers[at].at());
                }
            }
            Event::Begin { at, candidate, planned } => {
                let controller = &mut world.controllers[at];
                if let Ok(next) = controller.record.begin(operation(at), &name(candidate)) {
                    world.left.moves -= 1;
                    controller.record = next;
                    controller.planned = planned;
                    controller.stopped_at = None;
                    controller.sequence += 1;
                }
            }
            Event::Back(at) => {
                let controller = &mut world.controllers[at];
                world.left.backs -= 1;
                controller.record = controller.record.back(operation(at));
                controller.sequence += 1;
            }
            Event::Send { at, to, what } => self.send(world, at, to, what),
            Event::Move(at) => self.make_move(world, at),
            Event::Word { at, about } => self.word(world, at, about),
            Event::Report { at, from } => self.report(world, at, from),
            Event::NameSilent { at, who } => {
                let controller = &mut world.controllers[at];
                if let Ok(next) = controller.adoption.named(&name(who)) {
                    controller.adoption = next;
                }
            }
            Event::Wake(at) => {
                world.left.copies -= 1;
                world.controllers[at].awake = true;
            }
            Event::Deliver { message, survives, repository } => self.deliver(world, message, survives, repository),
            Event::Resume { at, survives } => {
                if survives.is_some() {
                    world.left.crashes -= 1;
                }
                world.resume(at, survives, self.mutation);
            }
            Event::Tend(at) => world.tend(at, self.mutation),
            Event::Ask(at) => {
                let keeper = &mut world.keepers[at];
                keeper.drawn += 1;
                keeper.question = Some(nonce(at, keeper.drawn));
            }
            Event::Confirm { at, who, heard } => self.confirm(world, at, who, heard),
            Event::Vouch { at, peer } => world.vouch(at, peer, self.mutation),
            Event::StartUnasked(at) => world.start_unasked(at),
            Event::PowerOff(at) => {
                world.left.words -= 1;
                world.keepers[at].power_off();
            }
            Event::Boot(at) => {
                if world.keepers[at].on {
                    world.left.reboots -= 1;
                    world.keepers[at].power_off();
                }
                world.keepers[at].on = true;
                world.keepers[at].boot += 1;
            }
            Event::ServerEnds(at) => {
                world.left.restarts -= 1;
                world.keepers[at].server = Server::Stopped;
            }
            Event::ServerReads(at) => world.keepers[at].starting = true,
            Event::ServerRuns(at) => world.keepers[at].runs(self.mutation == Some(Mutation::NoLock)),
            Event::Snapshot(at) => world.keepers[at].snapshot(),
            Event::RollBack(at) => {
                world.left.rollbacks -= 1;
                world.keepers[at].roll_back();
                world.forget_with(at);
            }
            Event::LosePermit(at) => {
                world.left.lost_permits -= 1;
                world.keepers[at].permit = None;
            }
        }
    }

    fn send(&self, world: &mut World, at: usize, to: usize, what: Sent) {
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
    fn held(&self, world: &World, at: usize) -> BTreeMap<muster_common::name::Name, Position> {
        let record = &world.controllers[at].record;
        (0..world.keepers.len())
            .filter(|who| world.keepers[*who].on && !record.superseded.contains(&name(*who)))
            .map(|who| (name(who), world.keepers[who].at()))
            .collect()
    }

    fn make_move(&self, world: &mut World, at: usize) {
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

    fn word(&self, world: &mut World, at: usize, about: usize) {
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

    fn report(&self, world: &mut World, at: usize, from: usize) {
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

    fn confirm(&self, world: &mut World, at: usize, who: usize, heard: bool) {
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
        let controller = &mut world.controllers[at];
        let question = Question { instance: name(who), reign, asked, heard: bound, off, most };
        let adopting = controller.adoption.goes_on() && self.mutation != Some(Mutation::NoAdopting);
        if let Ok(confirmation) = controller.record.confirm(&question, (controller.rule, adopting)) {
            controller.confirmed = Some(reign);
            world.bag.insert(Message::Confirm { to: who, key: Key::of(Content::Confirm(confirmation)) });
        }
    }

    fn deliver(&self, world: &mut World, message: Message, survives: Option<usize>, repository: bool) {
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

    fn told(&self, world: &mut World, at: usize, from: usize, sequence: u64, told: Told) {
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

impl World {
    /// What only the disk held that was set back, is gone with it: from here on what anybody holds counts.
    fn forget_with(&mut self, at: usize) {
        let most = self
            .keepers
            .iter()
            .map(crate::world::Keeper::at)
            .fold(self.keepers[at].at(), |most, own| if own.covers(&most) { own } else { most });
        if !most.covers(&self.acknowledged) {
            self.acknowledged = most;
        }
    }
}

impl crate::world::Keeper {
    fn power_off(&mut self) {
        self.on = false;
        self.server = Server::Stopped;
        self.permit = None;
        self.starting = false;
        self.locked = false;
        self.question = None;
    }

    /// A start that has read its configuration takes the lock, or dies at it.
    fn runs(&mut self, past_the_lock: bool) {
        self.starting = false;
        if (self.locked && !past_the_lock) || self.server != Server::Stopped {
            return;
        }
        self.server = if self.standby { Server::ReadOnly } else { Server::ReadWrite };
    }

    fn snapshot(&mut self) {
        let (control, position, standby, inbox) = (self.control.clone(), self.position.clone(), self.standby, self.inbox.clone());
        self.image = Some(Box::new(Image { control, position, standby, inbox }));
    }

    fn roll_back(&mut self) {
        let Some(image) = self.image.take() else { return };
        self.power_off();
        let Image { control, position, standby, inbox } = *image;
        (self.control, self.position, self.standby, self.inbox) = (control, position, standby, inbox);
    }
}
