//! What is expected to happen regularly: recovery points, verifications, runs of schedules; and that it is switched off. Pure.

use std::time::Duration;

use muster_common::duration::show;
use muster_common::time::Timestamp;

use super::{Judges, seconds, short};
use crate::findings::rule::Rule;
use crate::findings::subject::Subject;
use crate::findings::world::Component;

/// What is late by less than a tenth is not told: a backup takes its time.
fn late(age: Duration, every: Duration) -> bool {
    age > every.saturating_add(every / 10)
}

impl Judges {
    pub(super) fn expected(&mut self, component: &Component, now: Timestamp) {
        let name = &component.name;
        let subject = Subject::Component(name.clone());
        let mut holds = |rule, evidence: String, hint: String| self.holds(rule, subject.clone(), Some(name), evidence, hint);
        if let (Some(every), Some(point)) = (component.backup_every, component.stored.newest.as_ref()) {
            let age = now.since(point.finished);
            if late(age, every) {
                let told = format!("point {} is {} old; one is expected each {}", short(&point.id), seconds(age), show(every));
                holds(Rule::BackupLate, told, format!("`muster schedules --component {name}`; `muster backup {name}`"));
            }
        }
        if let Some(every) = component.verify_every {
            let (since, told) = match component.stored.verified {
                Some(at) => (at, "the last that passed was"),
                None => (component.declared, "none has passed; it was declared"),
            };
            let age = now.since(since);
            if late(age, every) {
                let told = format!("{told} {} ago; one is expected each {}", seconds(age), show(every));
                holds(Rule::VerificationLate, told, format!("`muster verify {name}`"));
            }
        }
        for (_, planned, why) in &component.stored.waiting {
            let told = format!("a run that was planned {} ago: {why}", seconds(now.since(*planned)));
            holds(Rule::RunWaits, told, format!("`muster schedules --component {name}`"));
        }
        if let Some((until, why)) = &component.paused {
            let told = format!("for {} more, by {why}", seconds(until.since(now)));
            holds(Rule::Paused, told, format!("`muster resume {name}`, or `muster resume --all`"));
        }
    }
}
