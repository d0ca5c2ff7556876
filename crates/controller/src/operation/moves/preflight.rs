//! What a switchover or failover needs, as one list: each check with what was seen, how old that is, what would lift it. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_common::name::Name;
use muster_failover::control::Role;
use muster_failover::loss::Loss;
use muster_failover::shard::ShardRecord;
use muster_wire::proto::v1::InstanceRole;

use crate::operation::moves::choose::choose;
use crate::operation::moves::view::{FRESH, Member};

/// A standby that lies further behind would hold a switchover up, in bytes.
const MOST_LAG: u64 = 64 << 20;

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// The instance. `None`: it is about the component.
    pub instance: Option<Name>,
    /// Whether it holds.
    pub ok: bool,
    /// Whether a switchover is refused where it does not.
    pub blocks: bool,
    /// What was seen.
    pub evidence: String,
    /// How old that is. `None`: it was seen now.
    pub age: Option<Duration>,
    /// What would lift it. Empty where it holds.
    pub lifted_by: String,
}

/// All checks of a planned move to `to`.
#[must_use]
pub fn checks(component: &Name, record: Option<&ShardRecord>, members: &[Member], to: &Name) -> Vec<Check> {
    let mut list = List { component, checks: Vec::new() };
    let Some(record) = record else {
        list.put("writer", None, Err(("no writer is known".into(), format!("muster manage {component} --writer INSTANCE"))), None);
        return list.checks;
    };
    let writer = &record.reign.writer;
    let steady = match (record.is_steady(), &record.candidate) {
        (true, _) => Ok(format!("{writer} writes in {}", record.reign.mark())),
        (false, Some(own)) => Err((
            format!("operation {} prepares {} to be the writer", own.operation, own.name),
            format!("its end: muster cancel {}", own.operation),
        )),
        (false, None) => Err((
            format!("{} began and {writer} was not promoted", record.reign.mark()),
            format!("muster failover {component} --to INSTANCE"),
        )),
    };
    list.put("steady", None, steady, None);
    let other = if to == writer {
        Err((format!("{to} is the writer"), "naming another instance".into()))
    } else {
        Ok(format!("{to} is not the writer"))
    };
    list.put("another", Some(to), other, None);
    let superseded = match record.superseded.contains(to) {
        true => Err((format!("{to} holds what the writer no longer has"), format!("muster rejoin {component}/{to}"))),
        false => Ok(format!("{to} is on the writer's line")),
    };
    list.put("line", Some(to), superseded, None);
    for name in [writer, to] {
        match members.iter().find(|member| member.name == *name) {
            Some(member) => list.member(member, name == writer),
            None => list.put("declared", Some(name), Err((format!("{name} is not declared"), "muster apply".into())), None),
        }
    }
    list.lag(members, writer, to);
    for member in members.iter().filter(|member| member.name != *writer && member.name != *to && !member.connected) {
        let away =
            (format!("agent {} is not connected: {} follows later", member.agent, member.name), format!("starting agent {}", member.agent));
        list.soft("link", Some(&member.name), away);
    }
    list.checks
}

struct List<'a> {
    component: &'a Name,
    checks: Vec<Check>,
}

type Seen = Result<String, (String, String)>;

impl List<'_> {
    fn put(&mut self, name: &str, instance: Option<&Name>, seen: Seen, age: Option<Duration>) {
        let ok = seen.is_ok();
        let (evidence, lifted_by) = seen.map_or_else(|bad| bad, |good| (good, String::new()));
        self.checks.push(Check { name: name.into(), instance: instance.cloned(), ok, blocks: true, evidence, age, lifted_by });
    }

    fn soft(&mut self, name: &str, instance: Option<&Name>, (evidence, lifted_by): (String, String)) {
        self.checks.push(Check {
            name: name.into(),
            instance: instance.cloned(),
            ok: false,
            blocks: false,
            evidence,
            age: None,
            lifted_by,
        });
    }

    fn member(&mut self, member: &Member, writes: bool) {
        let name = Some(&member.name);
        let link = match member.connected {
            true => Ok(format!("agent {} is connected", member.agent)),
            false => Err((
                format!("agent {} is not connected", member.agent),
                format!("starting it; without it: muster failover {}", self.component),
            )),
        };
        self.put("link", name, link, None);
        let kept = match (&member.kept, writes) {
            (Some(Role::Writer { .. }), true) => Ok(format!("Muster keeps {} as the writer", member.name)),
            (Some(Role::Follower { kept: false }), false) => Ok(format!("Muster keeps {} as a follower", member.name)),
            (Some(Role::Unmanaged) | None, _) => {
                Err((format!("Muster does not keep {}", member.name), format!("muster manage {} --writer INSTANCE", self.component)))
            }
            (Some(role), _) => Err((format!("{} is {}", member.name, role_name(role)), format!("`muster status {}`", self.component))),
        };
        self.put("kept", name, kept, None);
        let wanted = if writes { InstanceRole::ReadWrite } else { InstanceRole::Standby };
        let role = match member.role == wanted {
            true => Ok(format!("{} {}", member.name, if writes { "takes writes" } else { "follows" })),
            false => Err((
                format!("{} was seen as {}", member.name, member.role.as_str_name()),
                format!("a server that {}", if writes { "takes writes" } else { "follows" }),
            )),
        };
        self.put("role", name, role, member.position.as_ref().map(|(_, age)| *age));
        let position = match &member.position {
            Some((position, age)) if *age <= FRESH => Ok(format!("{} is at {position}", member.name)),
            Some((position, _)) => Err((format!("{} was at {position}", member.name), "a fresh look of its agent".into())),
            None => Err((format!("how far {} is was not reported", member.name), "a look of its agent".into())),
        };
        self.put("position", name, position, member.position.as_ref().map(|(_, age)| *age));
    }

    fn lag(&mut self, members: &[Member], writer: &Name, to: &Name) {
        let at = |name: &Name| members.iter().find(|member| member.name == *name).and_then(Member::fresh);
        let (Some(ahead), Some(own)) = (at(writer), at(to)) else { return };
        let lag = match (own.covers(ahead), own.bytes_to(ahead)) {
            (true, _) => Ok(format!("{to} has all that {writer} had when it was seen")),
            (false, Some(bytes)) if bytes <= MOST_LAG => Ok(format!("{to} lies {bytes} bytes behind")),
            (false, Some(bytes)) => {
                Err((format!("{to} lies {bytes} bytes behind; {MOST_LAG} is the bound"), "replication that keeps up".into()))
            }
            (false, None) => {
                Err((format!("{to} at {own} is not on the line of {writer} at {ahead}"), format!("muster rejoin {}/{to}", self.component)))
            }
        };
        self.put("lag", Some(to), lag, None);
    }
}

/// What a kept instance is, in words.
#[must_use]
pub const fn role_name(role: &Role) -> &'static str {
    match role {
        Role::Unmanaged => "only observed",
        Role::Writer { .. } => "the writer",
        Role::Stopped { ceded_to: Some(_), .. } => "stopped, and gave up the writing",
        Role::Stopped { why: muster_failover::control::Why::Fence, .. } => "fenced",
        Role::Stopped { .. } => "stopped",
        Role::Promoting { .. } => "being promoted",
        Role::Follower { .. } => "a follower",
        Role::Held { .. } => "held until it is seeded anew",
        Role::Absent => "without data",
    }
}

/// The checks, and what a failover now would lose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preflight {
    /// Who was looked at as the next writer.
    pub to: Option<Name>,
    /// All checks.
    pub checks: Vec<Check>,
    /// What a failover to it would lose at most, were the writer gone, and what that rests on.
    pub loss: Option<(Loss, String)>,
}

impl Preflight {
    /// Whether a switchover would be accepted.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.to.is_some() && self.checks.iter().all(|check| check.ok || !check.blocks)
    }
}

/// Looks at everything.
#[must_use]
pub fn look(component: &Name, record: Option<&ShardRecord>, members: &[Member], to: Option<&Name>) -> Preflight {
    let found = record.map(|record| choose(members, &BTreeMap::new(), record, to));
    let chosen = found.as_ref().and_then(|found| found.as_ref().ok());
    let to = to.cloned().or_else(|| chosen.map(|chosen| chosen.candidate.clone()));
    // Nobody can be: the first that is not the writer shows why.
    let shown = to.clone().or_else(|| {
        let writer = record.map(|record| &record.reign.writer);
        members.iter().map(|member| &member.name).find(|name| Some(*name) != writer).cloned()
    });
    let checks = shown.as_ref().map(|shown| checks(component, record, members, shown)).unwrap_or_default();
    Preflight { to: shown, checks, loss: chosen.map(|chosen| (chosen.loss, chosen.evidence.clone())) }
}
