//! Acts, carried out one by one. The process may die between any two of them: each begins at a failpoint.

use std::path::Path;

use muster_common::fault::{ErrorKind, Fault};
use muster_engine::keep::{self, Governed, Keep, Patience};
use muster_failover::control::Role;
use muster_failover::directive::Upstream;
use muster_failover::instance::{Act, Told};
use muster_failover::permit::Permit;

use crate::assignment::force::Instance;
use crate::assignment::parse::Kind;
use crate::keeper::kept::{Found, Keeper, Keepers, State};
use crate::keeper::record::Record;
use crate::task::perform::blocking;

/// Whoever holds an instance's lock: all that acting takes.
pub struct Hand<'a> {
    /// What all keepers share.
    pub keepers: &'a Keepers,
    /// The keeper.
    pub keeper: &'a Keeper,
    /// The instance as assigned now.
    pub instance: &'a Instance,
    /// Its engine's acts.
    pub keep: &'a dyn Keep,
    /// What is behind the lock.
    pub state: &'a mut State,
}

/// How a list of acts ended.
#[derive(Debug)]
pub enum Went {
    /// Another look is needed.
    Again,
    /// That was all; with what is to be told.
    Done(Option<Told>),
}

/// Where a test stops the process: before the act.
fn before(act: &Act) -> &'static str {
    match act {
        Act::Keep(control) => match control.role {
            Role::Stopped { .. } => "agent.keeper.keep_stopped",
            Role::Promoting { .. } => "agent.keeper.keep_promoting",
            Role::Writer { .. } => "agent.keeper.keep_writer",
            Role::Follower { .. } => "agent.keeper.keep_follower",
            Role::Unmanaged | Role::Held { .. } | Role::Absent => "agent.keeper.keep",
        },
        Act::RemovePermit => "agent.keeper.remove_permit",
        Act::Stop => "agent.keeper.stop",
        Act::Record(_) => "agent.keeper.record",
        Act::GivePermit(_) => "agent.keeper.give_permit",
        Act::Start => "agent.keeper.start",
        Act::Promote => "agent.keeper.promote",
        Act::Follow => "agent.keeper.follow",
        Act::Tell(_) => "agent.keeper.tell",
        Act::Again => "agent.keeper.again",
    }
}

impl Hand<'_> {
    /// Carries them out.
    ///
    /// # Errors
    /// The first that fails; those after it are not begun.
    pub async fn carry_out(&mut self, acts: Vec<Act>) -> Result<Went, Fault> {
        let mut told = None;
        for act in acts {
            pass(before(&act))?;
            tracing::debug!(instance = %self.keeper.name, act = before(&act), "does");
            match act {
                Act::Keep(control) => {
                    let upstream = match control.role {
                        Role::Writer { .. } => None,
                        Role::Unmanaged
                        | Role::Stopped { .. }
                        | Role::Promoting { .. }
                        | Role::Follower { .. }
                        | Role::Held { .. }
                        | Role::Absent => self.upstream().cloned(),
                    };
                    if self.record().is_none_or(|record| record.control.role != control.role) {
                        tracing::info!(instance = %self.keeper.name, role = ?control.role, "the control file says from now on");
                    }
                    self.keeper.keep(self.state, Record { control: *control, upstream }).await?;
                }
                Act::RemovePermit => self.keep.remove_permit().await?,
                Act::Stop => self.keep.fence(Patience::default()).await?,
                Act::Record(mark) => {
                    // The repository records no reigns yet; the core wants it told and held up by nothing.
                    tracing::info!(instance = %self.keeper.name, reign = %mark, "a new reign begins; it is not recorded in the repository");
                }
                Act::GivePermit(permit) => {
                    let governed = self.governed(&permit).await?;
                    self.keep.give_permit(&permit, &governed).await?;
                }
                Act::Start => self.keep.start().await?,
                Act::Promote => self.keep.promote().await?,
                Act::Follow => {
                    let upstream = self.engine_upstream().await?;
                    self.keep.follow(&upstream).await?;
                }
                Act::Tell(what) => told = Some(what),
                Act::Again => return Ok(Went::Again),
            }
        }
        Ok(Went::Done(told))
    }

    /// Whom it follows, as kept.
    fn upstream(&self) -> Option<&Upstream> {
        match &self.state.found {
            Found::Kept(record) => record.upstream.as_ref(),
            Found::Unread | Found::Unmanaged | Found::Lost(_) => None,
        }
    }

    /// What goes into a permit besides the right to run.
    ///
    /// # Errors
    /// Where a follower's upstream is not known.
    pub async fn governed(&self, permit: &Permit) -> Result<Governed, Fault> {
        let upstream = match permit.writes() {
            Some(_) => None,
            None => Some(self.engine_upstream().await?),
        };
        Ok(Governed { upstream, synchronous_standby_names: None })
    }

    /// Whom it follows, with what only this machine knows.
    ///
    /// # Errors
    /// Where it is not known, or the password file cannot be made.
    pub async fn engine_upstream(&self) -> Result<keep::Upstream, Fault> {
        let told = self.upstream().ok_or_else(|| {
            Fault::refused(ErrorKind::FailedPrecondition, format!("{}: whom it follows is not known here", self.keeper.name))
                .hint(format!("muster rejoin {} --instance {}", self.keeper.name.component, self.keeper.name.instance))
        })?;
        let Kind::Postgres(spec) = &self.instance.assigned.kind else {
            return Err(
                Fault::refused(ErrorKind::NotAvailable, format!("{} follows nobody", self.keeper.name)).hint("keep PostgreSQL only")
            );
        };
        let user = [&told.user, &spec.user].into_iter().find(|user| !user.is_empty()).cloned().unwrap_or_else(|| "postgres".to_owned());
        let pass_file = if spec.password_file.is_empty() {
            None
        } else {
            let (from, to, user) = (spec.password_file.clone(), self.keeper.path.with_extension("pass"), user.clone());
            Some(blocking(move || pass_file(Path::new(&from), &to, &user).map(|()| to)).await??)
        };
        Ok(keep::Upstream {
            host: told.host.clone(),
            port: told.port,
            user,
            pass_file,
            slot: (!told.slot.is_empty()).then(|| told.slot.clone()),
            application_name: self.keeper.name.instance.to_string(),
            more: std::collections::BTreeMap::new(),
        })
    }
}

/// A file in libpq's format (libpq, "The Password File") out of one that holds the password alone. Written only where it differs.
fn pass_file(from: &Path, to: &Path, user: &str) -> Result<(), Fault> {
    let failed = |error: &dyn std::fmt::Display| {
        Fault::refused(ErrorKind::FailedPrecondition, format!("make {} from {}: {error}", to.display(), from.display()))
            .hint("let the agent read the instance's passwordFile")
    };
    let password = muster_service::files::read_text(from, 4_096).map_err(|error| failed(&error))?;
    let escaped = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:");
    let line = format!("*:*:*:{}:{}\n", escaped(user), escaped(password.trim_end_matches('\n')));
    if std::fs::read_to_string(to).is_ok_and(|present| present == line) {
        return Ok(());
    }
    muster_service::files::write_atomically(to, line.as_bytes(), 0o600).map_err(|error| failed(&error))
}

/// Passes a failpoint.
///
/// # Errors
/// Where a test asked it to fail.
pub fn pass(name: &'static str) -> Result<(), Fault> {
    muster_failpoint::hit(name).map_err(|injected| Fault::failed(ErrorKind::Internal, injected.to_string()).hint("unset MUSTER_FAILPOINTS"))
}
