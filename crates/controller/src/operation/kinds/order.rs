//! An order to one instance: a part of a move. It is decided there (`moves`), and lives the life of one command like any other.

use std::time::Duration;

use muster_failover::directive::Directive;
use muster_failover::here::Rule;
use muster_wire::failover::directive::directive_to_proto;
use muster_wire::failover::rule_to_proto;
use muster_wire::proto::agent::v1::{Command, OrderWork, command};

use crate::operation::moves::part::Order;

/// What the agent is told.
#[must_use]
pub fn work(order: &Order, rule: Rule, sequence: u64) -> OrderWork {
    directive_to_proto(&Directive {
        rule,
        line: order.line.clone(),
        writer: order.writer.clone(),
        sequence,
        lasts: order.lasts_ms.map(Duration::from_millis),
        others: order.others.clone(),
        upstream: order.upstream.clone(),
        errand: order.errand.clone(),
    })
}

/// The command as it is sent now: an order is always of the controller that sends it.
#[must_use]
pub fn under(mut command: Command, rule: Rule) -> Command {
    if let Some(command::Work::Order(work)) = &mut command.work {
        work.rule = Some(rule_to_proto(&rule));
    }
    command
}
