//! The rules about instances: what their agents tell of them, and who of them takes writes.

use muster_common::size::Size;
use muster_common::time::Timestamp;
use muster_wire::convert::timestamp_from_proto;
use muster_wire::proto::v1::{Condition, InstanceRole};

use super::{Judges, seconds, short};
use crate::findings::rule::Rule;
use crate::findings::subject::Subject;
use crate::findings::world::{Component, Instance, Seen};

/// A standby that is further behind is told.
const LAG: u64 = 256 << 20;

/// The conditions that have rules of their own, as agents name them.
const BY_CONDITION: [(&str, Rule); 15] = [
    ("ServerReachable", Rule::ServerUnreachable),
    ("Answers", Rule::ServerHangs),
    ("Observable", Rule::ServerHangs),
    ("Startup", Rule::ServerStarting),
    ("Connections", Rule::NoConnectionsLeft),
    ("BackupRights", Rule::RightsMissing),
    ("ReplicationRights", Rule::RightsMissing),
    ("DataDirectory", Rule::WrongFolder),
    ("Version", Rule::VersionNotServed),
    ("Repository", Rule::RepositoryUnusable),
    ("DataKey", Rule::KeyMissing),
    ("Checksums", Rule::NoChecksums),
    ("Durability", Rule::NotDurable),
    ("DiskSpace", Rule::DiskNearlyFull),
    ("Archiver", Rule::ArchiverFailing),
];

/// The rule of a condition that does not hold.
fn rule_of(condition: &Condition) -> Rule {
    match condition.name.as_str() {
        "Slots" => Rule::SlotHoldsLog,
        name => BY_CONDITION.iter().find(|(known, _)| *known == name).map_or(Rule::ConditionFailed, |(_, rule)| *rule),
    }
}

impl Judges {
    pub(super) fn instance(&mut self, component: &Component, instance: &Instance, now: Timestamp) {
        let subject = Subject::Instance(instance.name.clone());
        let of = &component.name;
        if instance.superseded {
            let told = "a restore of the writer left it behind: it holds what the writer no longer has".to_owned();
            let hint = format!("never promote it; seed it anew: `muster restore {of} --instance {} --in-place`", instance.name.instance);
            self.holds(Rule::Superseded, subject.clone(), Some(of), told, hint);
        }
        let Some(seen) = &instance.seen else { return };
        self.conditions(component, &subject, seen);
        let newest = component.stored.newest.as_ref();
        if let (Some(serves), Some(kept)) = (seen.system_id, newest.and_then(|point| point.system_id))
            && serves != kept
        {
            let id = newest.map_or("", |point| short(&point.id));
            let told = format!("it serves cluster {serves}; point {id} is of cluster {kept}");
            let hint = format!("if that was meant: `muster backup {of}`; if not: `muster restore {of} --in-place`");
            self.holds(Rule::ClusterReplaced, subject.clone(), Some(of), told, hint);
        }
        if let Some((before, since)) = &instance.version_changed
            && major(before) != major(&seen.version)
            && newest.is_some_and(|point| point.finished < *since)
        {
            let told = format!("it was {before} and is {} now; no point was taken since", seen.version);
            self.holds(Rule::VersionChanged, subject.clone(), Some(of), told, format!("`muster backup {of}`"));
        }
        if let Some(lag) = seen.lag_bytes.filter(|lag| *lag > LAG) {
            self.holds(Rule::StandbyLagging, subject.clone(), Some(of), format!("{} behind its upstream", Size(lag)), String::new());
        }
        for kept in &seen.kept {
            let until = kept.until.as_ref().and_then(|until| timestamp_from_proto(until, "until").ok());
            let until = until.map_or_else(String::new, |until| format!(", for another {}", seconds(until.since(now))));
            self.holds(
                Rule::KeptDirectory,
                subject.clone(),
                Some(of),
                format!("{} at {}{until}", Size(kept.bytes), kept.path),
                String::new(),
            );
        }
    }

    fn conditions(&mut self, component: &Component, subject: &Subject, seen: &Seen) {
        let of = &component.name;
        let is_down = seen.role == InstanceRole::Down;
        let failing: Vec<(Rule, &Condition)> =
            seen.conditions.iter().filter(|condition| !condition.ok).map(|condition| (rule_of(condition), condition)).collect();
        let why = |rule: Rule| matches!(rule, Rule::ServerHangs | Rule::ServerStarting | Rule::NoConnectionsLeft);
        let has_a_reason = failing.iter().any(|(rule, _)| why(*rule));
        for (rule, condition) in &failing {
            // That it cannot be reached is told by its reason where there is one.
            if *rule == Rule::ServerUnreachable && (is_down || has_a_reason) {
                continue;
            }
            self.holds(*rule, subject.clone(), Some(of), condition.message.clone(), condition.hint.clone());
        }
        if is_down {
            let reason = failing.iter().find(|(rule, _)| *rule == Rule::ServerUnreachable).map(|(_, condition)| *condition);
            let told = reason.map_or_else(|| "it does not run".to_owned(), |condition| condition.message.clone());
            self.holds(
                Rule::ServerDown,
                subject.clone(),
                Some(of),
                told,
                reason.map_or_else(String::new, |condition| condition.hint.clone()),
            );
        }
    }

    /// Of a component that only one may write to.
    pub(super) fn writers(&mut self, component: &Component) {
        if !component.has_one_writer {
            return;
        }
        let of = &component.name;
        let seen = |role: InstanceRole| move |instance: &&Instance| instance.seen.as_ref().is_some_and(|seen| seen.role == role);
        let writing: Vec<String> = component.instances.iter().filter(seen(InstanceRole::ReadWrite)).map(|i| i.name.to_string()).collect();
        let all_seen = component.instances.iter().all(|instance| instance.seen.is_some());
        let subject = Subject::Component(of.clone());
        if writing.len() > 1 {
            let told = format!("{} take writes", writing.join(" and "));
            self.holds(Rule::TwoWriters, subject, Some(of), told, String::new());
        } else if writing.is_empty() && all_seen && !component.instances.is_empty() {
            let told = format!("{} instances are seen, none takes writes", component.instances.len());
            self.holds(Rule::NoWriter, subject, Some(of), told, format!("`muster status {of}` tells what stands in the way"));
        }
    }
}

/// PostgreSQL's major version: what stands before the first dot.
fn major(version: &str) -> &str {
    version.split(['.', ' ']).next().unwrap_or(version)
}
