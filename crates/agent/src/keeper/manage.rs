//! Taking over what runs: control file, then permit, include line, reload, mark. Nothing is restarted.
//!
//! It is also how a lost control file is confirmed. What always holds: it begins only by a controller's word, and where anything stands
//! against it nothing has changed.

use std::collections::BTreeSet;

use muster_common::fault::Fault;
use muster_failover::command::{Command, admit};
use muster_failover::control::{Control, Role};
use muster_failover::directive::{Answer, Directive, ManagedAs};
use muster_failover::here::Here;
use muster_failover::look::{Look, Server};
use muster_failover::permit::{Wanted, may_give_permit};
use muster_failover::refusal::{Check, Refusal};

use crate::keeper::carry::{Hand, pass};
use crate::keeper::kept::Found;
use crate::keeper::record::{self, Record};
use crate::task::perform::blocking;

impl Hand<'_> {
    /// Takes it over, or goes on with that.
    ///
    /// # Errors
    /// What stands against it.
    pub async fn manage(&mut self, directive: &Directive, command: &Command, role: ManagedAs) -> Result<Answer, Fault> {
        let here = self.keepers.here().await?;
        let look = self.keep.look().await?;
        let next = self.taken_over(directive, command, role, &here)?;
        self.fits(role, &look)?;
        self.keep.may_take_over().await?;
        if let Found::Lost(_) = self.state.found {
            let path = self.keeper.path.clone();
            blocking(move || record::set_aside(&path)).await?.map_err(|error| self.keeper.refused(&error))?;
        }
        pass("agent.keeper.manage")?;
        self.keeper.keep(self.state, next).await?;
        let control = self.control()?;
        let wanted = match role {
            ManagedAs::Writer => Wanted::Lost,
            ManagedAs::Follower => Wanted::Follower,
        };
        let permit = may_give_permit(&control, &here, &look, &wanted).map_err(|refusal| self.refused("manage", &refusal))?;
        let governed = self.governed(&permit).await?;
        pass("agent.keeper.take_over")?;
        self.keep.take_over(&permit, &governed).await?;
        pass("agent.keeper.taken_over")?;
        tracing::info!(instance = %self.keeper.name, role = ?control.role, "taken over: it is kept from now on");
        Ok(Answer::Managed(self.keep.look().await?.position))
    }

    /// The control file that it begins with.
    fn taken_over(&self, directive: &Directive, command: &Command, role: ManagedAs, here: &Here) -> Result<Record, Fault> {
        let reign = directive.line.last();
        let wanted = match role {
            ManagedAs::Writer => Role::Writer { reign },
            ManagedAs::Follower => Role::Follower { kept: false },
        };
        let is_writer = directive.writer == self.keeper.name.instance;
        if is_writer != (role == ManagedAs::Writer) {
            let refusal = Refusal::new(Check::Reign, format!("{} is the writer of {reign}", directive.writer), "naming the writer");
            return Err(self.refused("manage", &refusal));
        }
        let others: BTreeSet<_> = directive.others.iter().filter(|other| **other != self.keeper.name.instance).cloned().collect();
        let fresh = Control {
            machine: here.machine,
            boot: here.boot,
            component: self.keeper.name.component.clone(),
            instance: self.keeper.name.instance.clone(),
            line: directive.line.clone(),
            writer: directive.writer.clone(),
            role: wanted.clone(),
            last: None,
            pledges: Vec::new(),
            rule: Some(directive.rule),
            sequence: directive.sequence,
            sole: is_writer && others.is_empty(),
            others,
        };
        let control = match self.record().map(|record| &record.control) {
            None => fresh,
            Some(present) => {
                admit(present, here, command).map_err(|refusal| self.refused("manage", &refusal))?;
                let same = present.role == wanted && present.line == directive.line && present.boot == here.boot;
                if present.role != Role::Unmanaged && !same {
                    let refusal = Refusal::new(
                        Check::Role,
                        format!("it is kept already, as {:?} of {}", present.role, present.line.last()),
                        "nothing",
                    );
                    return Err(self.refused("manage", &refusal));
                }
                // Pledges outlive everything.
                Control { pledges: present.pledges.clone(), last: present.last.clone(), sole: fresh.sole && present.sole, ..fresh }
            }
        };
        Ok(Record { control, upstream: directive.upstream.clone().filter(|upstream| upstream.instance != self.keeper.name.instance) })
    }

    /// Whether the server is what it is to be taken over as.
    fn fits(&self, role: ManagedAs, look: &Look) -> Result<(), Fault> {
        let lost = matches!(self.state.found, Found::Lost(_));
        let refused = |evidence: &str, lifted_by: &str| Err(self.refused("manage", &Refusal::new(Check::Server, evidence, lifted_by)));
        match (role, look.server) {
            _ if lost && !look.permit && look.server != Server::Stopped => {
                refused("its control file is lost and it runs without a permit of this boot", "the next look, which stops it")
            }
            (ManagedAs::Writer, Server::ReadWrite) => Ok(()),
            (ManagedAs::Follower, Server::ReadOnly) if look.standby => Ok(()),
            (ManagedAs::Writer, Server::Stopped | Server::ReadOnly | Server::Unclear) => {
                refused("it takes no writes now", "starting it, or naming the instance that takes writes")
            }
            (ManagedAs::Follower, Server::ReadWrite) => refused("it takes writes", "making it a standby of the writer first"),
            (ManagedAs::Follower, Server::Stopped | Server::ReadOnly | Server::Unclear) => {
                refused("it is no running standby", "starting it as a standby, or seeding it: muster rejoin")
            }
        }
    }
}
