//! All that is known of one operation, in the order in which it happened.

use muster_wire::convert::fault_from_proto;
use muster_wire::proto::v1::{Operation, OperationEvent};

use super::amount::instant_or_nothing;
use super::{fault, hooks, operation};

/// The operation, each transition, and at the end why it failed: the end of what the agent's programs said is among what was seen.
#[must_use]
pub fn logs(of: &Operation, events: &[OperationEvent]) -> String {
    let mut text = format!("{}: {}\n", operation::title(of), operation::ended(of));
    for event in events {
        text.push_str(&format!("{}  {}\n", instant_or_nothing(event.at.as_ref()), event.text));
    }
    let failed = of.steps.iter().filter_map(|step| Some((step, step.fault.as_ref()?)));
    let mut told = Vec::new();
    for (step, why) in failed {
        let at = if step.agent.is_empty() { String::new() } else { format!(" at agent {}", step.agent) };
        text.push_str(&format!("step {}{at}: {}\n{}", step.name, why.message, fault::body(&fault_from_proto(why), "  ")));
        told.push(why);
    }
    if let Some(why) = of.fault.as_ref().filter(|why| !told.contains(why)) {
        text.push_str(&format!("{}\n{}", why.message, fault::body(&fault_from_proto(why), "  ")));
    }
    text.push_str(&hooks::runs(&of.hooks, true));
    if let Some(left) = events.first().filter(|first| !first.text.starts_with("accepted")) {
        text.push_str(&format!("what was before {} is kept no longer\n", instant_or_nothing(left.at.as_ref())));
    }
    text
}

#[cfg(test)]
mod tests {
    use muster_wire::proto::v1::{self, Effect, ErrorKind, OperationKind, OperationState, Step};

    use super::*;

    #[test]
    fn a_failed_operation_is_told_with_what_the_agents_program_said_once() {
        let at = |seconds: i64| Some(prost_types::Timestamp { seconds: 1_764_000_000 + seconds, nanos: 0 });
        let why = v1::Fault {
            kind: ErrorKind::FailedPrecondition.into(),
            effect: Effect::Unknown.into(),
            message: "start the server in /srv/pg: pg_ctl gave up".into(),
            evidence: vec!["FATAL:  could not create any TCP/IP sockets".into()],
            hint: "the server's log tells more".into(),
        };
        let step = Step { name: "restore".into(), agent: "istanbul-db1".into(), fault: Some(why.clone()), ..Step::default() };
        let of = Operation {
            id: "3f2a91c0".repeat(4),
            kind: OperationKind::Restore.into(),
            state: OperationState::Failed.into(),
            component: "orders-db".into(),
            instance: "istanbul".into(),
            cause: "operator/ada".into(),
            created_at: at(0),
            finished_at: at(9),
            steps: vec![step],
            fault: Some(why),
            ..Operation::default()
        };
        let event = |seconds, text: &str| OperationEvent { number: 1, at: at(seconds), text: text.into(), operation: None };
        let events = [event(0, "accepted: restore orders-db/istanbul, asked for by operator/ada"), event(9, "pg_ctl gave up")];
        assert_eq!(
            logs(&of, &events),
            "restore 3f2a91c0 of orders-db/istanbul: failed in 9.0s, asked for by operator/ada: start the server in /srv/pg: pg_ctl gave up\n\
             2025-11-24 16:00:00Z  accepted: restore orders-db/istanbul, asked for by operator/ada\n\
             2025-11-24 16:00:09Z  pg_ctl gave up\n\
             step restore at agent istanbul-db1: start the server in /srv/pg: pg_ctl gave up\n  \
             seen: FATAL:  could not create any TCP/IP sockets\n  effect: it is not known what was changed\n  \
             HINT: the server's log tells more\n"
        );
    }
}
