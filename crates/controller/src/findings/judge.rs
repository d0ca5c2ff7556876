//! The rules themselves: pure over a world. Which holds now, about what, what was seen, what to type next.

use std::collections::{BTreeMap, BTreeSet};

use muster_common::duration::show;
use muster_common::name::Name;
use muster_common::size::Size;
use muster_common::time::Timestamp;

use crate::findings::rule::Rule;
use crate::findings::subject::Subject;
use crate::findings::world::{Agent, Component, Standing, Unfinished, World};

mod expected;
mod instance;
#[cfg(test)]
mod tests;

/// The most sentences that one finding carries.
const MOST_EVIDENCE: usize = 20;
/// What counts as a clock that is off, in milliseconds.
const CLOCK_OFF_MS: u64 = 5_000;
/// For so long a refused call is told.
const REFUSED_TOLD: std::time::Duration = std::time::Duration::from_secs(3_600);
/// An operator's certificate with less than this left is told.
const OPERATOR_CERTIFICATE: std::time::Duration = std::time::Duration::from_secs(10 * 86_400);

/// A verification that passed longer ago is told.
const VERIFICATION_OLD: std::time::Duration = std::time::Duration::from_secs(14 * 86_400);

/// A CA that is being replaced for longer is told.
const ROTATION_OPEN: std::time::Duration = std::time::Duration::from_secs(7 * 86_400);

/// The controller is backed up each night: an own backup that is older is told.
const OWN_BACKUP_OLD: std::time::Duration = std::time::Duration::from_secs(26 * 3_600);

/// A controller's disk with this much left has room, however small a part of it that is.
const ROOM: u64 = 10 << 30;

/// That a rule holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The component that it concerns.
    pub component: Option<Name>,
    /// What was seen.
    pub evidence: Vec<String>,
    /// What to do.
    pub hint: String,
}

/// What holds now.
pub type Judged = BTreeMap<(Rule, Subject), Held>;

/// Judges every rule.
#[must_use]
pub fn judge(world: &World) -> Judged {
    let mut all = Judges { judged: Judged::new() };
    for component in &world.components {
        all.component(component, world.now);
        all.expected(component, world.now);
        for instance in &component.instances {
            all.instance(component, instance, world.now);
        }
    }
    all.agents(world);
    for operation in &world.operations {
        all.operation(operation, world.now);
    }
    all.controller(world);
    for (operator, until) in &world.operators {
        if until.since(world.now) < OPERATOR_CERTIFICATE {
            let hint = format!("`muster operator add {operator} --role ROLE` makes a new one");
            all.holds(Rule::CertificateEnding, Subject::Operator(operator.clone()), None, ends(*until, world.now), hint);
        }
    }
    all.judged
}

/// What cannot be seen now: findings about it that need sight stay.
#[must_use]
pub fn blind(world: &World) -> BTreeSet<Subject> {
    let mut blind = BTreeSet::new();
    for component in &world.components {
        for instance in component.instances.iter().filter(|instance| instance.seen.is_none()) {
            blind.insert(Subject::Instance(instance.name.clone()));
            blind.insert(Subject::Component(component.name.clone()));
        }
    }
    blind.extend(world.agents.iter().filter(|agent| !agent.connected).map(|agent| Subject::Agent(agent.name.clone())));
    blind
}

struct Judges {
    judged: Judged,
}

impl Judges {
    /// A rule holds. What holds twice about one subject is one finding with more evidence.
    fn holds(&mut self, rule: Rule, subject: Subject, component: Option<&Name>, evidence: String, hint: String) {
        let held = self.judged.entry((rule, subject)).or_default();
        held.component = component.cloned();
        if held.evidence.len() < MOST_EVIDENCE {
            held.evidence.push(evidence);
        }
        if held.hint.is_empty() {
            held.hint = if hint.is_empty() { rule.about().remedy.to_owned() } else { hint };
        }
    }

    fn component(&mut self, component: &Component, now: Timestamp) {
        let name = &component.name;
        let subject = Subject::Component(name.clone());
        let mut holds = |rule, evidence: String, hint: String| self.holds(rule, subject.clone(), Some(name), evidence, hint);
        let backup = format!("`muster backup {name}`");
        match (&component.stored.newest, component.rpo) {
            (None, rpo) if component.has_repository || rpo.is_some() => {
                let hint = if component.has_repository { backup } else { "give it a repository: `muster apply --help`".to_owned() };
                holds(Rule::NoRecoveryPoint, "nothing of it could be brought back".to_owned(), hint);
            }
            (Some(point), Some(rpo)) => {
                let age = now.since(point.finished);
                let told = format!("point {} is {} old; the objective is {}", short(&point.id), seconds(age), show(rpo));
                if age > rpo {
                    holds(Rule::RpoBroken, told, backup);
                } else if age.saturating_mul(5) > rpo.saturating_mul(4) {
                    holds(Rule::RpoNear, told, backup);
                }
            }
            (None, _) | (Some(_), None) => {}
        }
        if let Some((evidence, lifted_by)) = &component.later_reign {
            holds(Rule::LaterReign, evidence.clone(), lifted_by.clone());
        }
        for (evidence, lifted_by) in &component.missing {
            holds(Rule::NotReady, evidence.clone(), format!("{lifted_by}; all checks: muster preflight {name}"));
        }
        if let Some(point) = component.stored.newest.as_ref().filter(|point| point.damaged_pages > 0) {
            let told = format!("point {} has {} damaged pages", short(&point.id), point.damaged_pages);
            holds(Rule::DamagedPages, told, format!("`muster points {name}`; restore an older one beside and compare"));
        }
        if let Some((operation, at, why)) = &component.stored.failed_backup {
            let id = operation.to_string();
            let told = format!("{}: {why} ({} ago)", short(&id), seconds(now.since(*at)));
            holds(Rule::BackupFailed, told, format!("`muster logs {}`, then `muster backup {name}`", short(&id)));
        }
        match (component.rto, component.stored.measured_rto) {
            (Some(rto), Some(measured)) if measured > rto => {
                let told = format!("the last complete restore took {}; the objective is {}", show(measured), show(rto));
                holds(Rule::RtoBroken, told, format!("`muster history {name}`; a faster disk or network, or another objective"));
            }
            (Some(rto), None) => {
                let told = format!("the objective is {}", show(rto));
                holds(Rule::RtoNotMeasured, told, format!("`muster verify {name}`"));
            }
            (Some(_), Some(_)) | (None, _) => {}
        }
        self.verified(component, now);
        self.writers(component);
    }

    fn verified(&mut self, component: &Component, now: Timestamp) {
        let (name, stored) = (&component.name, &component.stored);
        let mut holds = |rule, evidence: String, hint: String| {
            self.holds(rule, Subject::Component(name.clone()), Some(name), evidence, hint);
        };
        let verify = format!("`muster verify {name}`");
        if let Some((operation, at, why)) = &stored.failed_verification {
            let id = operation.to_string();
            let told = format!("{}: {why} ({} ago)", short(&id), seconds(now.since(*at)));
            holds(Rule::VerificationFailed, told, format!("`muster logs {}`; then `muster backup {name}` and {verify}", short(&id)));
        }
        match stored.verified.map(|at| now.since(at)) {
            None if stored.newest.is_some() => holds(Rule::NeverVerified, "no verification has passed yet".to_owned(), verify),
            // What the spec expects stands before what is usual: `VerificationLate` tells.
            Some(age) if age > VERIFICATION_OLD && component.verify_every.is_none() => {
                holds(Rule::VerificationOld, format!("the last that passed was {} ago", seconds(age)), verify);
            }
            None | Some(_) => {}
        }
    }

    fn agents(&mut self, world: &World) {
        let mut kept: BTreeMap<&Name, Vec<String>> = BTreeMap::new();
        for instance in world.components.iter().flat_map(|component| &component.instances) {
            kept.entry(&instance.agent).or_default().push(instance.name.to_string());
        }
        for agent in &world.agents {
            self.agent(agent, kept.get(&agent.name).map(Vec::as_slice), world.now);
        }
        let known: BTreeSet<&Name> = world.agents.iter().map(|agent| &agent.name).collect();
        for instance in world.components.iter().flat_map(|component| &component.instances) {
            if !known.contains(&instance.agent) {
                let hint = format!("`muster token create --site {} --agent {}`", instance.site, instance.agent);
                let subject = Subject::Agent(instance.agent.clone());
                self.holds(Rule::AgentMissing, subject, None, format!("{} is declared to be kept by it", instance.name), hint);
            }
        }
    }

    fn agent(&mut self, agent: &Agent, keeps: Option<&[String]>, now: Timestamp) {
        let subject = Subject::Agent(agent.name.clone());
        let mut holds = |rule, evidence: String, hint: String| self.holds(rule, subject.clone(), None, evidence, hint);
        if let Some(keeps) = keeps.filter(|_| !agent.connected) {
            let heard =
                agent.last_heard.map_or_else(|| "never heard".to_owned(), |at| format!("last heard {} ago", seconds(now.since(at))));
            holds(Rule::AgentGone, format!("{heard}; it keeps {}", keeps.join(", ")), String::new());
        }
        if let Some((at, count)) = agent.refused.filter(|(at, _)| now.since(*at) < REFUSED_TOLD) {
            let hint = format!("see who uses its certificate; if it is stolen: `muster agents revoke {}`", agent.name);
            holds(Rule::AgentRefused, format!("{count} of its messages were refused, the last {} ago", seconds(now.since(at))), hint);
        }
        for problem in &agent.problems {
            holds(Rule::AssignmentProblem, problem.clone(), String::new());
        }
        if agent.connected && agent.clock_offset_ms.unsigned_abs() > CLOCK_OFF_MS {
            let told = format!("its clock is {:+.1} s from the controller's", agent.clock_offset_ms as f64 / 1_000.0);
            holds(Rule::ClockOff, told, String::new());
        }
        if let Some((until, life)) = agent.certificate.filter(|(until, life)| until.since(now).saturating_mul(6) < *life) {
            let told = format!("{}; such a certificate lives {}", ends(until, now), show(life));
            let hint = "on its machine: `journalctl -u muster-agent | grep certificate`; when it is over: a new join token".to_owned();
            holds(Rule::CertificateEnding, told, hint);
        }
    }

    fn operation(&mut self, operation: &Unfinished, now: Timestamp) {
        let id = operation.id.to_string();
        let since = seconds(now.since(operation.created));
        let (rule, hint) = match operation.stands {
            Standing::GoesOn => return,
            Standing::Unknown => (
                Rule::OperationUnknown,
                format!("`muster logs {0}`; when you know what became of it: `muster resolve {0} --help`", short(&id)),
            ),
            Standing::Suspended => (Rule::OperationSuspended, "start its agent: `muster agents` tells which is away".to_owned()),
            Standing::Waits => (Rule::OperationWaits, format!("`muster watch {0}`, or `muster cancel {0}`", short(&id))),
        };
        let told = format!("{}, accepted {since} ago: {}", operation.title, operation.why);
        let component = operation.component.parse().ok();
        self.holds(rule, Subject::Operation(operation.id), component.as_ref(), told, hint);
    }

    /// What the controller keeps of itself.
    fn kept(&mut self, world: &World) {
        if let Some(backup) = &world.controller.backup {
            let told = match backup.taken.map(|taken| world.now.since(taken)) {
                None => Some("none was taken yet".to_owned()),
                Some(age) if age > OWN_BACKUP_OLD => Some(format!("the last good one is {} old", seconds(age))),
                Some(_) => None,
            };
            if let Some(told) = told {
                let why = if backup.problem.is_empty() { String::new() } else { format!("; the last attempt failed: {}", backup.problem) };
                self.holds(Rule::ControllerBackupOld, Subject::Controller, None, format!("{told}{why}"), String::new());
            }
        }
        if !world.controller.audit.is_empty() {
            self.holds(Rule::AuditLogBroken, Subject::Controller, None, world.controller.audit.clone(), String::new());
        }
    }

    fn controller(&mut self, world: &World) {
        if !world.controller.behind.is_empty() {
            let hint = "let every agent connect: `muster agents`; make sure that no second controller runs on a copy".to_owned();
            self.holds(Rule::ControllerBehind, Subject::Controller, None, world.controller.behind.clone(), hint);
        }
        if let Some(disk) = world.controller.disk.as_ref().filter(|disk| disk.free.saturating_mul(10) < disk.total && disk.free < ROOM) {
            let told = format!("{} of {} free at {}", Size(disk.free), Size(disk.total), disk.path);
            self.holds(Rule::ControllerDiskNearlyFull, Subject::Controller, None, told, format!("`df -h {}`", disk.path));
        }
        self.kept(world);
        let open = world.controller.rotating_since.map(|since| world.now.since(since)).filter(|open| *open > ROTATION_OPEN);
        if let Some(open) = open {
            let told = format!("the old CA and the new one are both trusted since {}", seconds(open));
            self.holds(Rule::RotationOpen, Subject::Controller, None, told, String::new());
        }
    }
}

fn ends(until: Timestamp, now: Timestamp) -> String {
    if until <= now { format!("it ended {} ago", seconds(now.since(until))) } else { format!("it ends in {}", seconds(until.since(now))) }
}

/// Whole seconds: an age needs no more.
fn seconds(duration: std::time::Duration) -> String {
    if duration.as_secs() == 0 { "0s".to_owned() } else { show(std::time::Duration::from_secs(duration.as_secs())) }
}

fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}
