//! The state of the modelled world: journals, keepers with their servers, the repository, messages that may come late, twice or never.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use muster_common::counter::{Epoch, Term};
use muster_common::id::{BootId, MachineId, Nonce, OperationId, ReignId, RuleId};
use muster_common::name::Name;
use muster_common::position::{Lsn, PostgresPosition};
use muster_failover::adopt::Adoption;
use muster_failover::command::Command;
use muster_failover::control::{Control, Role};
use muster_failover::here::{Here, Rule, Uptime};
use muster_failover::instance::Told;
use muster_failover::look::{Look, Server};
use muster_failover::permit::Confirmation;
use muster_failover::position::Position;
use muster_failover::reign::{Line, Mark};
use muster_failover::shard::ShardRecord;

/// How often each fault may happen, and how far the world goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Switchovers and failovers that are begun.
    pub moves: u8,
    /// Preparations that go back.
    pub backs: u8,
    /// Agents killed between two acts.
    pub crashes: u8,
    /// Machines started again.
    pub reboots: u8,
    /// Machines switched off, and the words given about them.
    pub words: u8,
    /// Servers that end by themselves and are started by their service manager, stalled between configuration and lock.
    pub restarts: u8,
    /// Disks set back to an image, with a boot.
    pub rollbacks: u8,
    /// Writes that are acknowledged.
    pub writes: u8,
    /// Commands of the journal's older copy: it is started as a second controller.
    pub copies: u8,
    /// Permits removed by hand, or lost.
    pub lost_permits: u8,
}

/// The whole world.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub controllers: Vec<Controller>,
    pub keepers: Vec<Keeper>,
    pub bag: BTreeSet<Message>,
    /// The reign that the repository records.
    pub repository: Option<Mark>,
    pub left: Budget,
    /// The last acknowledged write: what a writer must have, unless a word allowed its loss.
    pub acknowledged: Position,
    pub harm: Option<Harm>,
}

/// What must never be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Harm {
    TwoWriters,
    /// A write that was acknowledged is not in what was promoted, and nobody allowed its loss.
    Lost,
    /// An instance takes writes in a reign for which it signed that it does not.
    WroteAfterReceipt,
    /// Two instances were writers of one reign.
    TwoOfOneReign,
}

/// One controller with its copy of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Controller {
    pub awake: bool,
    pub rule: Rule,
    pub record: ShardRecord,
    pub adoption: Adoption,
    /// Grows with each decision.
    pub sequence: u64,
    pub planned: bool,
    pub stopped_at: Option<Position>,
    pub drawn: u8,
}

/// One keeper, its machine and its server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Keeper {
    pub control: Control,
    pub on: bool,
    pub boot: u8,
    /// The permit: in which reign it may write, `Some(None)` for a follower's.
    pub permit: Option<Option<Mark>>,
    pub server: Server,
    /// A start that has read its configuration, and not taken the lock.
    pub starting: bool,
    pub locked: bool,
    pub standby: bool,
    pub position: PostgresPosition,
    /// A command that was taken on and has no outcome.
    pub inbox: Option<Command>,
    pub question: Option<Nonce>,
    pub drawn: u8,
    /// An image of its disks.
    pub image: Option<Box<Image>>,
    /// Reigns in which it took writes, and for which it signed a receipt. Only the checker looks at these.
    pub wrote: BTreeSet<Mark>,
    pub signed: BTreeSet<Mark>,
}

/// What a disk holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Image {
    pub control: Control,
    pub position: PostgresPosition,
    pub standby: bool,
    pub inbox: Option<Command>,
}

/// A message that is under way. It stays until it is delivered; who never delivers it has lost it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Message {
    Command { to: usize, key: Key },
    Told { to: usize, from: usize, key: Key },
    Confirm { to: usize, key: Key },
}

/// A message's content under a fingerprint: a set of messages needs an order and many comparisons, and the content's own are slow.
#[derive(Clone)]
pub struct Key {
    pub content: Arc<Content>,
    fingerprint: (u64, u64),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    Command(Command),
    Told(Rule, u64, Told),
    Confirm(Confirmation),
}

impl Key {
    pub fn of(content: Content) -> Self {
        let half = |salt: u8| {
            let mut hasher = DefaultHasher::new();
            (salt, &content).hash(&mut hasher);
            hasher.finish()
        };
        let fingerprint = (half(0), half(1));
        Self { content: Arc::new(content), fingerprint }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.content {
            Content::Command(command) => {
                write!(f, "{} term {} {} no. {}", command.order.name(), command.rule.term, command.line.last(), command.sequence)
            }
            Content::Told(rule, sequence, Told::Ceded(receipt)) => {
                write!(f, "ceded {} (term {}, no. {sequence})", receipt.reign, rule.term)
            }
            Content::Told(rule, sequence, told) => write!(f, "{told:?} (term {}, no. {sequence})", rule.term),
            Content::Confirm(confirmation) => {
                write!(f, "confirm {} by {:?}, heard {:?}", confirmation.reign, confirmation.by, confirmation.heard)
            }
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}
impl Eq for Key {}
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fingerprint.hash(state);
    }
}
impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.fingerprint.cmp(&other.fingerprint)
    }
}

pub const LASTS: Duration = Duration::from_secs(60);

pub fn name(index: usize) -> Name {
    ["a", "b", "c"][index].parse().unwrap()
}

pub fn index(name: &Name) -> usize {
    usize::from(name.as_str().as_bytes()[0] - b'a')
}

pub fn operation(controller: usize) -> OperationId {
    OperationId::from_bytes([controller as u8 + 1; 16])
}

pub fn reign_id(controller: usize, drawn: u8) -> ReignId {
    let mut bytes = [0; 16];
    bytes[0] = controller as u8 + 1;
    bytes[1] = drawn;
    ReignId::from_bytes(bytes)
}

pub fn nonce(keeper: usize, drawn: u8) -> Nonce {
    let mut bytes = [0; 16];
    bytes[0] = keeper as u8 + 1;
    bytes[1] = drawn;
    Nonce::from_bytes(bytes)
}

pub fn rule(controller: usize) -> Rule {
    Rule { term: Term(controller as u64 + 1), id: RuleId::from_bytes([controller as u8 + 1; 16]) }
}

impl World {
    /// Epoch 1: `a` writes, the others follow, all hold the same. A second controller sleeps on a copy of this journal.
    pub fn first(instances: usize, left: Budget) -> Self {
        let record = ShardRecord::first(name(0), reign_id(0, 0));
        let position = PostgresPosition { system_id: 1, timeline: 1, history: Vec::new(), lsn: Lsn(1) };
        let keepers = (0..instances).map(|at| Keeper::first(at, instances, &record, &position)).collect();
        let controllers = (0..=usize::from(left.copies)).map(|at| Controller::first(at, instances, &record)).collect();
        let repository = Some(record.reign.mark());
        Self { controllers, keepers, bag: BTreeSet::new(), repository, left, acknowledged: Position::Postgres(position), harm: None }
    }

    /// Looks for what must not be, after each step.
    pub fn judge(&mut self) {
        let writing: Vec<_> = (0..self.keepers.len()).filter(|at| self.keepers[*at].writes().is_some()).collect();
        if writing.len() > 1 {
            self.harm = Some(Harm::TwoWriters);
        }
        for at in writing {
            let Some(mark) = self.keepers[at].writes() else { continue };
            self.keepers[at].wrote.insert(mark);
            if self.keepers[at].signed.contains(&mark) {
                self.harm = Some(Harm::WroteAfterReceipt);
            }
        }
        let mut seen: BTreeMap<Mark, usize> = BTreeMap::new();
        for keeper in &self.keepers {
            for mark in &keeper.wrote {
                *seen.entry(*mark).or_default() += 1;
            }
        }
        if seen.values().any(|count| *count > 1) && self.harm.is_none() {
            self.harm = Some(Harm::TwoOfOneReign);
        }
    }
}

impl Controller {
    fn first(at: usize, instances: usize, record: &ShardRecord) -> Self {
        let adoption = if at == 0 { Adoption::default() } else { Adoption::of((0..instances).map(name)) };
        Self { awake: at == 0, rule: rule(at), record: record.clone(), adoption, sequence: 1, planned: false, stopped_at: None, drawn: 1 }
    }
}

impl Keeper {
    fn first(at: usize, instances: usize, record: &ShardRecord, position: &PostgresPosition) -> Self {
        let reign = record.reign.mark();
        let writes = at == 0;
        let control = Control {
            machine: MachineId::from_bytes([at as u8 + 1; 16]),
            boot: BootId::from_bytes([0; 16]),
            component: "orders".parse().unwrap(),
            instance: name(at),
            line: Line::of(reign),
            writer: name(0),
            role: if writes { Role::Writer { reign } } else { Role::Follower { kept: false } },
            last: None,
            pledges: Vec::new(),
            rule: Some(rule(0)),
            sequence: 0,
            others: (0..instances).filter(|other| *other != at).map(name).collect(),
            sole: false,
        };
        Self {
            control,
            on: true,
            boot: 0,
            permit: Some(writes.then_some(reign)),
            server: if writes { Server::ReadWrite } else { Server::ReadOnly },
            starting: false,
            locked: false,
            standby: !writes,
            position: position.clone(),
            inbox: None,
            question: None,
            drawn: 0,
            image: None,
            wrote: BTreeSet::new(),
            signed: BTreeSet::new(),
        }
    }

    pub fn here(&self) -> Here {
        Here { machine: self.control.machine, boot: BootId::from_bytes([self.boot; 16]), now: Uptime::default() }
    }

    pub fn at(&self) -> Position {
        Position::Postgres(self.position.clone())
    }

    pub fn look(&self) -> Look {
        Look {
            permit: self.permit.is_some(),
            server: self.server,
            locked: self.locked,
            standby: self.standby,
            position: Some(self.at()),
            clean: true,
            ahead_of_upstream: false,
        }
    }

    /// The reign that it takes writes in. A server whose permit is of a follower acknowledges nothing.
    pub fn writes(&self) -> Option<Mark> {
        match (self.on, self.server, &self.control.role) {
            (true, Server::ReadWrite, Role::Writer { reign } | Role::Promoting { reign, .. } | Role::Stopped { reign, .. }) => Some(*reign),
            (true, Server::ReadWrite, _) => Some(self.control.line.last()),
            (true, Server::Stopped | Server::ReadOnly | Server::Unclear, _) | (false, _, _) => None,
        }
    }

    /// It becomes the writer of a new timeline.
    pub fn new_timeline(&mut self, epoch: Epoch) {
        let fork = muster_common::position::Fork { timeline: self.position.timeline, at: self.position.lsn };
        self.position.history.push(fork);
        self.position.timeline = epoch.0 as u32;
    }
}
