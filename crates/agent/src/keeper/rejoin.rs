//! Rejoin: what left the writer's line is proved stopped, made able to follow, and follows.
//!
//! What always holds: until the data fit, the control file says that they do not run; a crash at any point is gone on with by the same order.

use muster_common::fault::Fault;
use muster_engine::work::Work;
use muster_failover::command::Command;
use muster_failover::control::{Control, Role, Why};
use muster_failover::directive::{Answer, Directive};
use muster_failover::instance::Act;
use muster_failover::refusal::{Check, Refusal};

use crate::keeper::carry::{Hand, pass};
use crate::keeper::record::Record;

impl Hand<'_> {
    /// Makes it follow.
    ///
    /// # Errors
    /// What stands against it; the hint says to restore it where it cannot be rewound.
    pub async fn rejoin(&mut self, work: &Work, directive: &Directive, command: &Command) -> Result<Answer, Fault> {
        let control = self.control()?;
        if directive.writer == control.instance {
            let refusal = Refusal::new(Check::Role, format!("{} is the writer of this reign", control.instance), "another instance");
            return Err(self.refused("rejoin", &refusal));
        }
        if matches!(control.role, Role::Writer { .. } | Role::Promoting { .. }) && control.line.last() == directive.line.last() {
            let refusal = Refusal::new(Check::Role, "it writes in this reign", "a failover first");
            return Err(self.refused("rejoin", &refusal));
        }
        // It runs no more from here on, until its data fit.
        let held = match &control.role {
            Role::Held { .. } => control.role.clone(),
            Role::Writer { .. } | Role::Promoting { .. } | Role::Stopped { .. } => Role::Held { why: Why::HigherReign },
            Role::Follower { .. } | Role::Unmanaged | Role::Absent => Role::Held { why: Why::Strayed },
        };
        let next = Control {
            rule: Some(directive.rule),
            sequence: directive.sequence,
            role: held,
            sole: false,
            ..control.knowing(&directive.line, &directive.writer)
        };
        self.carry_out(vec![Act::Keep(Box::new(next))]).await?;
        if !self.keep.look().await?.is_stopped() {
            self.carry_out(vec![Act::RemovePermit, Act::Stop]).await?;
        }
        let upstream = self.engine_upstream().await?;
        pass("agent.keeper.rejoin")?;
        let rejoined = self.keep.rejoin(work, &upstream).await?;
        pass("agent.keeper.rejoined")?;
        // Its last position was on the line that it left.
        if let Some(record) = self.record() {
            let next = Record { control: Control { last: None, ..record.control.clone() }, upstream: record.upstream.clone() };
            self.keeper.keep(self.state, next).await?;
        }
        // What is done is not given up because it took long.
        self.order(&work.cancel, &Command { limit: None, ..command.clone() }).await?;
        self.settle().await?;
        Ok(Answer::Rejoined { fork: rejoined.fork, bytes: rejoined.bytes, was: rejoined.was, rewound: rejoined.rewound })
    }
}
