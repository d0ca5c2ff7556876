//! Prove a recovery point good: one agent restores it to its scratch folder, starts it there, checks it, and removes it.
//!
//! ```text
//!  accepted: instance and point chosen, the declared assertions taken along
//!     -> command verify{point, assertions} -> every check that could be made passed -> succeeded
//!                                          -> fault (data loss: what was found)    -> failed | cancelled
//! ```
//! It locks nothing: no instance is touched, and what is declared later counts for the next one.

use std::time::Duration;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::PointId;
use muster_wire::convert::{duration_from_proto, duration_to_proto};
use muster_wire::proto::agent::v1::VerifyWork;
use muster_wire::proto::v1::{Condition, InstanceRole, VerifyAssertion, VerifySpec};
use serde::{Deserialize, Serialize};

use crate::operation::asked::AskedVerify;
use crate::operation::fleet::{Fleet, Instance};
use crate::operation::kinds::{Settled, restore};
use crate::operation::state;

/// How long one statement may run where nothing is declared.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);

/// A verification with everything chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The point.
    pub point: PointId,
    /// What the copy must answer.
    pub assertions: Vec<Assertion>,
    /// How long one statement may run, in milliseconds.
    pub statement_timeout_ms: u64,
}

/// See `muster.v1.VerifyAssertion`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assertion {
    /// What it is called.
    pub name: String,
    /// The database.
    pub database: String,
    /// One statement.
    pub sql: String,
    /// The answer.
    pub expect: String,
}

/// Chooses the instance and takes the component's assertions along.
///
/// # Errors
/// Why it cannot be done now.
pub fn settle(asked: &AskedVerify, fleet: &Fleet, spec: &VerifySpec, point: PointId) -> Result<Settled, Fault> {
    fleet.repository()?;
    let instance = match &asked.instance {
        Some(name) => fleet.instance(name)?,
        None => choose(fleet)?,
    };
    let counts = |condition: &Condition| restore::about_repository(condition) || condition.name == "VerifyHooks";
    instance.refuse_on(&format!("verify a point of {}", fleet.full_name(instance)), counts)?;
    let timeout = spec.statement_timeout.as_ref();
    let timeout = timeout.map_or(Ok(STATEMENT_TIMEOUT), |timeout| duration_from_proto(timeout, "verify.statement_timeout"))?;
    let assertion = |assertion: &VerifyAssertion| Assertion {
        name: assertion.name.clone(),
        database: assertion.database.clone(),
        sql: assertion.sql.clone(),
        expect: assertion.expect.clone(),
    };
    let task = Task {
        point,
        assertions: spec.assertions.iter().map(assertion).collect(),
        statement_timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
    };
    Ok(Settled::on(fleet, instance, state::Task::Verify(task)))
}

/// Where it disturbs least: beside a standby, else beside whoever is connected.
fn choose(fleet: &Fleet) -> Result<&Instance, Fault> {
    let connected = || fleet.instances.iter().filter(|instance| instance.connected);
    let fit = |instance: &&Instance| !instance.blocking.iter().any(restore::about_repository);
    let standby = connected().filter(fit).find(|instance| instance.role == InstanceRole::Standby);
    let chosen = standby.or_else(|| connected().find(fit)).or_else(|| connected().next()).or_else(|| fleet.instances.first());
    chosen.ok_or_else(|| {
        Fault::refused(ErrorKind::FailedPrecondition, format!("component {} has no instance", fleet.component))
            .hint("declare one in the component's spec, then `muster apply`")
    })
}

/// What the agent is told.
#[must_use]
pub fn work(task: &Task) -> VerifyWork {
    let assertion = |assertion: &Assertion| VerifyAssertion {
        name: assertion.name.clone(),
        database: assertion.database.clone(),
        sql: assertion.sql.clone(),
        expect: assertion.expect.clone(),
    };
    VerifyWork {
        point_id: task.point.to_string(),
        assertions: task.assertions.iter().map(assertion).collect(),
        statement_timeout: Some(duration_to_proto(Duration::from_millis(task.statement_timeout_ms))),
    }
}
