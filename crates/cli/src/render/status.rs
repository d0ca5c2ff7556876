//! The one page: the controller, each component with its measured RPO and RTO beside the objectives, its instances, what runs, the agents.

use std::time::Duration;

use muster_common::duration::show;
use muster_common::time::Timestamp;
use muster_wire::proto::v1::{
    AgentStatus, ComponentStatus, ControllerStatus, InstanceRole, InstanceStatus, Operation, Priority, StatusPage, WhoAmIResponse,
};

use super::amount::{
    NOTHING, age, bytes, duration_or_nothing, instant, instant_or_nothing, position, read_duration, read_instant, rounded, short,
};
use super::{agents, findings, operation, pause, resource, table};
use crate::progress;

/// An observation that is older counts as old, and its age is told loudly: the role is looked at each second.
const OLD: Duration = Duration::from_secs(10);

/// The whole page. `place` is how the controller was reached.
#[must_use]
pub fn page(page: &StatusPage, place: &str, here: Timestamp) -> String {
    let empty = ControllerStatus::default();
    let controller = page.controller.as_ref().unwrap_or(&empty);
    // Ages are told by the controller's clock: this machine's may be off.
    let now = read_instant(controller.now.as_ref()).unwrap_or(here);
    let mut text = head(controller, place, now, here);
    if let Some(paused) = &page.pause {
        text.push_str(&pause::loud(paused, now));
    }
    for component in &page.components {
        text.push('\n');
        text.push_str(&one(component, now));
    }
    if page.components.is_empty() {
        text.push_str("\nno components are declared\nHINT: `muster apply -f FILE` declares them; `muster apply --help` shows a file\n");
    }
    text.push('\n');
    text.push_str(&fleet(&page.agents, now));
    text.push('\n');
    text.push_str(&findings::list(&page.findings, now));
    text
}

/// The last page that was seen of a controller that cannot be reached, `at` when. `component`: only this one; empty: all.
#[must_use]
pub fn last(last: &StatusPage, component: &str, place: &str, at: Timestamp, here: Timestamp) -> String {
    let mut kept = last.clone();
    kept.components.retain(|each| component.is_empty() || each.name == component);
    kept.findings.retain(|each| component.is_empty() || each.component.is_empty() || each.component == component);
    let hosts: Vec<&str> = place.split(", ").map(|endpoint| endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host)).collect();
    let age = rounded(here.since(at));
    format!(
        "THE CONTROLLER AT {place} CANNOT BE REACHED. This is its last page, as of {} ({age} ago).\n\
         Databases and agents go on without it; schedules, backups and restores wait for it.\n  \
         on {}: systemctl status muster-controller; journalctl -u muster-controller -n 50\n  \
         gone for good: `muster repo restore --help` brings a component back with no controller\n\n{}\
         (all of this is {age} old)\n",
        instant(at),
        hosts.join(" or "),
        page(&kept, place, at),
    )
}

fn head(controller: &ControllerStatus, place: &str, now: Timestamp, here: Timestamp) -> String {
    let up = read_instant(controller.started_at.as_ref()).map_or_else(|| NOTHING.to_owned(), |at| rounded(now.since(at)));
    let mut text = format!(
        "controller {} at {place}, term {}, up {up}\n  store {} (id {})\n",
        controller.build,
        controller.term,
        controller.store,
        short(&controller.store_id)
    );
    if !controller.behind.is_empty() {
        text.push_str(&format!("  ! BEHIND: {}\n", controller.behind));
    }
    if let Some(at) = read_instant(controller.backed_up_at.as_ref()) {
        text.push_str(&format!("  backed up {} ago: {}\n", rounded(now.since(at)), controller.backup));
    }
    if !controller.backup_problem.is_empty() {
        text.push_str(&format!("  ! backup of the controller itself: {}\n", controller.backup_problem));
    }
    let off = now.since(here).max(here.since(now));
    if off > Duration::from_secs(5) {
        text.push_str(&format!("  ! this machine's clock and the controller's are {} apart\n", rounded(off)));
    }
    text
}

fn fleet(all: &[AgentStatus], now: Timestamp) -> String {
    if all.is_empty() {
        return "no agents\nHINT: `muster token create --site SITE --agent NAME` lets one join\n".to_owned();
    }
    agents::agents(all, now, "")
}

/// One component.
#[must_use]
pub fn one(component: &ComponentStatus, now: Timestamp) -> String {
    let writer = if component.writer.is_empty() { "not known".to_owned() } else { component.writer.clone() };
    let epoch = if component.epoch == 0 { "none yet".to_owned() } else { component.epoch.to_string() };
    let mut text = format!("{}{}\n", component.name, priority(component.priority()));
    let rows = [
        ("writer", format!("{writer}, epoch {epoch}")),
        ("RPO", rpo(component, now)),
        ("RTO", rto(component)),
        ("verified", verified(component, now)),
    ];
    text.push_str(&table::labelled(&rows, "  "));
    if let Some(paused) = &component.pause {
        text.push_str(&pause::loud(paused, now));
    }
    text.push_str(&instances(&component.instances));
    for instance in &component.instances {
        text.push_str(&notes(instance, now));
    }
    for running in &component.running {
        text.push_str(&running_line(running, now));
    }
    text
}

fn priority(priority: Priority) -> &'static str {
    match priority {
        Priority::Unspecified | Priority::Medium => "",
        Priority::Low => " (low)",
        Priority::High => " (high)",
        Priority::Critical => " (CRITICAL)",
    }
}

fn rpo(component: &ComponentStatus, now: Timestamp) -> String {
    let objective = component.objectives.as_ref().and_then(|objectives| read_duration(objectives.rpo.as_ref()));
    let measured = read_duration(component.measured_rpo.as_ref());
    let point = component.newest_point.as_ref().map_or_else(String::new, |point| {
        format!("; newest point {} of {}", short(&point.id), instant_or_nothing(point.finished_at.as_ref()))
    });
    let told = match measured {
        None => format!("no recovery point{}; HINT: `muster backup {}`", of_objective(objective, None), component.name),
        Some(measured) => format!("{}{}{point}", rounded(measured), of_objective(objective, Some(measured))),
    };
    format!("{told}{}", ahead(component, now))
}

/// A newest point of the future hides the true RPO.
fn ahead(component: &ComponentStatus, now: Timestamp) -> &'static str {
    let newest = component.newest_point.as_ref().and_then(|point| read_instant(point.finished_at.as_ref()));
    if newest.is_some_and(|at| at > now.plus(OLD)) { " ! that is in the future: a clock is off" } else { "" }
}

fn rto(component: &ComponentStatus) -> String {
    let objective = component.objectives.as_ref().and_then(|objectives| read_duration(objectives.rto.as_ref()));
    match read_duration(component.measured_rto.as_ref()) {
        None => format!("not measured: no restore and no verification was made yet{}", of_objective(objective, Some(Duration::ZERO))),
        Some(measured) => format!("{} at the last restore or verification{}", show(measured), of_objective(objective, Some(measured))),
    }
}

/// When a point was last proved good, and what the last verification said where it was not.
fn verified(component: &ComponentStatus, now: Timestamp) -> String {
    let Some(last) = &component.verification else {
        let hint = if component.newest_point.is_some() { format!("; HINT: `muster verify {}`", component.name) } else { String::new() };
        return format!("never{hint}");
    };
    if last.ok {
        return format!("{}, point {}", age(last.at.as_ref(), now), short(&last.point_id));
    }
    let before = if last.passed_at.is_some() { format!("; passed {}", age(last.passed_at.as_ref(), now)) } else { String::new() };
    let (at, point, id) = (age(last.at.as_ref(), now), short(&last.point_id), short(&last.operation_id));
    format!("! FAILED {at}, point {point}{before}: {}; `muster watch {id}` shows it", last.problem)
}

/// How a figure stands to its objective: ` of 1h`, ` ! over the objective of 1h`.
fn of_objective(objective: Option<Duration>, measured: Option<Duration>) -> String {
    match (objective, measured) {
        (None, _) => String::new(),
        (Some(objective), Some(measured)) if measured <= objective => format!(" (objective {})", rounded(objective)),
        (Some(objective), Some(_) | None) => format!(" ! OVER the objective of {}", rounded(objective)),
    }
}

fn instances(all: &[InstanceStatus]) -> String {
    let row = |instance: &InstanceStatus| {
        let seen = instance.observation.as_ref();
        vec![
            instance.name.clone(),
            instance.site.clone(),
            if instance.connected { instance.agent.clone() } else { format!("{} (AWAY)", instance.agent) },
            seen.map_or("not seen yet", |seen| role(seen.role())).to_owned(),
            position(seen.and_then(|seen| seen.position.as_ref())),
            seen.and_then(|seen| seen.lag_bytes).map_or_else(|| NOTHING.to_owned(), bytes),
            seen.and_then(|seen| seen.data_bytes).map_or_else(|| NOTHING.to_owned(), bytes),
            seen_ago(instance),
        ]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    table::table(&["INSTANCE", "SITE", "AGENT", "ROLE", "POSITION", "LAG", "DATA", "SEEN"], &rows, "  ")
}

fn seen_ago(instance: &InstanceStatus) -> String {
    match read_duration(instance.age.as_ref()) {
        None => NOTHING.to_owned(),
        Some(age) if age > OLD => format!("{} ago (OLD)", rounded(age)),
        Some(_) => format!("{} ago", duration_or_nothing(instance.age.as_ref())),
    }
}

/// `read-write`.
#[must_use]
pub const fn role(role: InstanceRole) -> &'static str {
    match role {
        InstanceRole::Unspecified => "not seen yet",
        InstanceRole::Unknown => "cannot be seen",
        InstanceRole::ReadWrite => "read-write",
        InstanceRole::Standby => "standby",
        InstanceRole::Down => "DOWN",
    }
}

fn notes(instance: &InstanceStatus, now: Timestamp) -> String {
    let mut text = String::new();
    let indent = format!("  {}: ", instance.name);
    if instance.superseded {
        text.push_str(&format!(
            "{indent}! SUPERSEDED: it holds what the writer no longer has; it is never followed or promoted until it rejoins or is seeded anew\n"
        ));
    }
    if let Some(seen) = &instance.observation {
        text.push_str(&resource::conditions(&seen.conditions, &indent, false));
    }
    for kept in &instance.kept {
        text.push_str(&format!("{indent}{}\n", operation::kept_line(kept, now)));
    }
    text
}

fn running_line(running: &Operation, now: Timestamp) -> String {
    let since = age(running.created_at.as_ref(), now);
    let mut text =
        format!("  > {}: {}, started {since} by {}\n", operation::title(running), operation::state(running.state()), running.cause);
    if let Some(progress) = &running.progress {
        text.push_str(&format!("    {}\n", progress::told(progress, None)));
    }
    if !running.waiting_for.is_empty() {
        text.push_str(&format!("    waits for {}\n", running.waiting_for));
    }
    text
}

/// Who the caller is.
#[must_use]
pub fn who(who: &WhoAmIResponse, now: Timestamp) -> String {
    let role = if who.role.is_empty() { String::new() } else { format!(", role {}", who.role) };
    format!("{}{role}; the certificate ends {}\n", who.identity, age(who.certificate_until.as_ref(), now))
}

#[cfg(test)]
mod tests;
