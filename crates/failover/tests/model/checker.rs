//! The model as the checker sees it: what can happen next, and what comes of it.

use muster_failover::control::{Role, Why};
use muster_failover::look::Server;
use muster_failover::shard::Phase;
use stateright::{Model, Property};

use crate::mutation::Mutation;
use crate::world::{Budget, Message, World, index, name, nonce, operation};

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
        world.judge();
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
}
