//! Agents and operators.

use muster_common::time::Timestamp;
use muster_wire::proto::v1::{AgentStatus, Operator};

use super::amount::{NOTHING, age, count};
use super::authority::short;
use super::table;

/// Over so many milliseconds a clock is told to be off (issue: 5 s).
const CLOCK_OFF_MS: u64 = 5_000;

/// A table of agents, and below it what is wrong with which.
#[must_use]
pub fn agents(agents: &[AgentStatus], now: Timestamp, indent: &str) -> String {
    let row = |agent: &AgentStatus| {
        let state = match (agent.revoked, agent.connected, &agent.last_heard_at) {
            (true, _, _) => "REVOKED".to_owned(),
            (false, true, _) => "connected".to_owned(),
            (false, false, Some(_)) => "AWAY".to_owned(),
            (false, false, None) => "never joined".to_owned(),
        };
        let build = if agent.build.is_empty() { NOTHING.to_owned() } else { agent.build.clone() };
        let heard = age(agent.last_heard_at.as_ref(), now);
        vec![
            agent.name.clone(),
            agent.site.clone(),
            state,
            heard,
            build,
            offset(agent),
            age(agent.certificate_until.as_ref(), now),
            authority(agent),
        ]
    };
    let rows: Vec<_> = agents.iter().map(row).collect();
    let mut text = table::table(&["AGENT", "SITE", "STATE", "HEARD", "BUILD", "CLOCK", "CERTIFICATE ENDS", "CA"], &rows, indent);
    for agent in agents {
        for problem in problems(agent) {
            text.push_str(&format!("{indent}! {}: {problem}\n", agent.name));
        }
    }
    text
}

/// The CA of its certificate, as `muster ca status` shows it.
fn authority(agent: &AgentStatus) -> String {
    if agent.authority.is_empty() { NOTHING.to_owned() } else { short(&agent.authority).to_owned() }
}

/// How far the clock is off: `+0.2 s`.
fn offset(agent: &AgentStatus) -> String {
    if agent.last_heard_at.is_none() {
        return NOTHING.to_owned();
    }
    format!("{:+.1} s", agent.clock_offset_ms as f64 / 1_000.0)
}

fn problems(agent: &AgentStatus) -> Vec<String> {
    let mut problems = agent.problems.clone();
    // The controller tells it too; here it is told whatever the controller's version.
    if agent.clock_offset_ms.unsigned_abs() > CLOCK_OFF_MS && !problems.iter().any(|problem| problem.contains("clock")) {
        problems.push(format!("its clock is off by {}. HINT: start chrony or ntpd there", offset(agent)));
    }
    if agent.refused_calls > 0 {
        problems.push(format!("{} of its calls were refused: they spoke for what is not its own", count(agent.refused_calls)));
    }
    problems
}

/// A table of operators.
#[must_use]
pub fn operators(operators: &[Operator], now: Timestamp) -> String {
    let row = |operator: &Operator| {
        let state = if operator.revoked { "REVOKED" } else { "" };
        vec![operator.name.clone(), operator.role.clone(), age(operator.certificate_until.as_ref(), now), state.to_owned()]
    };
    let rows: Vec<_> = operators.iter().map(row).collect();
    table::table(&["OPERATOR", "ROLE", "CERTIFICATE ENDS", ""], &rows, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    }

    #[test]
    fn agents_are_told_with_their_clock_and_what_is_wrong() {
        let now = Timestamp(1_764_000_000_000_000);
        let istanbul = AgentStatus {
            name: "istanbul-db1".into(),
            site: "istanbul".into(),
            connected: true,
            last_heard_at: at(1_763_999_999),
            build: "0.1.0".into(),
            clock_offset_ms: -6_300,
            certificate_until: at(1_764_864_000),
            refused_calls: 2,
            authority: "ab".repeat(32),
            ..AgentStatus::default()
        };
        let ankara = AgentStatus { name: "ankara-db1".into(), site: "ankara".into(), ..AgentStatus::default() };
        assert_eq!(
            agents(&[istanbul, ankara], now, ""),
            "AGENT         SITE      STATE         HEARD   BUILD  CLOCK   CERTIFICATE ENDS  CA\n\
             istanbul-db1  istanbul  connected     1s ago  0.1.0  -6.3 s  in 10d            abababababab\n\
             ankara-db1    ankara    never joined  -       -      -       -                 -\n\
             ! istanbul-db1: its clock is off by -6.3 s. HINT: start chrony or ntpd there\n\
             ! istanbul-db1: 2 of its calls were refused: they spoke for what is not its own\n"
        );
    }

    #[test]
    fn operators_are_told_with_their_role() {
        let ada = Operator { name: "ada".into(), role: "admin".into(), certificate_until: at(1_764_864_000), ..Operator::default() };
        let bob = Operator { name: "bob".into(), role: "viewer".into(), revoked: true, ..Operator::default() };
        assert_eq!(
            operators(&[ada, bob], Timestamp(1_764_000_000_000_000)),
            "OPERATOR  ROLE    CERTIFICATE ENDS\nada       admin   in 10d\nbob       viewer  -                 REVOKED\n"
        );
    }
}
