//! Keeps every agent's assignment up to what is declared: computes, numbers, stores, sends what changed.
//!
//! What always holds: an assignment is stored before it is sent; its number never goes back, also not below the one that an agent
//! remembers from a store that was since restored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_common::counter::Revision;
use muster_common::name::Name;
use muster_wire::proto::agent::v1::{Assignment, SessionResponse, session_response::Message};
use tokio::sync::Mutex;

use crate::agents::assignments::{MOST_REVOKED, assigned_agents, compute, digest};
use crate::agents::courier::Courier;
use crate::inventory::current::Current;
use crate::inventory::{Declared, kept};
use crate::store::assignments::Record;
use crate::store::error::StoreError;
use crate::store::{Connection, Store, assignments, certificates, shards};

/// Makes assignments. Clones are the same assigner.
#[derive(Clone, Debug)]
pub struct Assigner {
    store: Store,
    courier: Courier,
    current: Current,
    // What is sent later is newer.
    sending: Arc<Mutex<()>>,
}

/// All that assignments are computed from.
struct Sources {
    declared: Declared,
    shards: BTreeMap<Name, shards::Kept>,
    revoked: Vec<String>,
}

impl Sources {
    async fn read(connection: &mut Connection) -> Result<Self, StoreError> {
        Ok(Self {
            declared: kept::load(connection).await?,
            shards: shards::all(connection).await?.into_iter().collect(),
            revoked: certificates::revoked_serials(connection, u32::try_from(MOST_REVOKED).unwrap_or(u32::MAX)).await?,
        })
    }

    fn of(&self, agent: &Name) -> Assignment {
        compute(agent, &self.declared, &self.shards, &self.revoked)
    }
}

impl Assigner {
    /// An assigner that has sent nothing yet.
    #[must_use]
    pub fn new(store: Store, courier: Courier) -> Self {
        Self { store, courier, current: Current::default(), sending: Arc::default() }
    }

    /// What is declared, as of the last [`Assigner::refresh`].
    #[must_use]
    pub fn declared(&self) -> Arc<Declared> {
        self.current.get()
    }

    /// Makes all assignments anew; those that differ are numbered, stored and sent.
    ///
    /// # Errors
    /// Where the store cannot be read or written; then nothing was changed or sent.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let sending = self.sending.lock().await;
        let mut write = self.store.write().await?;
        let term = self.store.term();
        let connection = write.connection();
        let sources = Sources::read(connection).await?;
        let mut agents: BTreeSet<Name> = assigned_agents(&sources.declared);
        agents.extend(assignments::agents(connection).await?);
        let mut changed = Vec::new();
        for agent in agents {
            let stored = assignments::get(connection, &agent).await?;
            let fresh = sources.of(&agent);
            if stored.as_ref().is_some_and(|stored| stored.digest == digest(&fresh)) {
                continue;
            }
            let revision = Revision(stored.map_or(0, |stored| stored.revision.0).saturating_add(1));
            let record = number(fresh, revision, term.0);
            assignments::put(connection, &agent, &record).await?;
            changed.push((agent, record.assignment));
        }
        write.commit().await?;
        self.current.replace(sources.declared);
        for (agent, assignment) in changed {
            tracing::info!(%agent, revision = assignment.revision, instances = assignment.instances.len(), "assignment changed");
            self.courier.send(&agent, SessionResponse { message: Some(Message::Assignment(assignment)) });
        }
        drop(sending);
        Ok(())
    }

    /// What an agent that has revision `has` in force must be sent. `None`: it has the present one. `doubt`: this store may be an older
    /// copy, so that equal numbers prove nothing.
    ///
    /// # Errors
    /// Where the store cannot be read or written.
    pub async fn reconcile(&self, agent: &Name, has: Revision, doubt: bool) -> Result<Option<Assignment>, StoreError> {
        let sending = self.sending.lock().await;
        let mut write = self.store.write().await?;
        let term = self.store.term();
        let connection = write.connection();
        let fresh = Sources::read(connection).await?.of(agent);
        let stored = assignments::get(connection, agent).await?;
        let current = stored.as_ref().filter(|stored| stored.digest == digest(&fresh));
        let behind = stored.as_ref().map_or(0, |stored| stored.revision.0);
        let record = match current {
            Some(record) if record.revision == has && !doubt => return Ok(None),
            Some(record) if record.revision > has => return Ok(Some(record.assignment.clone())),
            None if has.0 == 0 && fresh.instances.is_empty() && stored.is_none() => return Ok(None),
            Some(_) | None => number(fresh, Revision(behind.max(has.0).saturating_add(1)), term.0),
        };
        assignments::put(connection, agent, &record).await?;
        write.commit().await?;
        drop(sending);
        Ok(Some(record.assignment))
    }
}

fn number(fresh: Assignment, revision: Revision, term: u64) -> Record {
    Record { revision, digest: digest(&fresh), assignment: Assignment { revision: revision.0, term, ..fresh } }
}
