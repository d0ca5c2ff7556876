//! Keeps every agent's assignment up to what is declared: computes, numbers, stores, sends what changed.
//!
//! What always holds: an assignment is stored before it is sent; its number never goes back, also not below the one that an agent
//! remembers from a store that was since restored. An agent that connects costs what concerns it, not a look at all that is declared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use muster_common::counter::Revision;
use muster_common::name::Name;
use muster_wire::proto::agent::v1::{Assignment, SessionResponse, session_response::Message};
use tokio::sync::Mutex;

use crate::agents::assignments::{MOST_REVOKED, assigned_agents, compute, digest};
use crate::agents::courier::Courier;
use crate::inventory::{Declared, kept};
use crate::store::assignments::Record;
use crate::store::error::StoreError;
use crate::store::{Connection, Store, agents, assignments, certificates, shards};

/// Makes assignments. Clones are the same assigner.
#[derive(Clone, Debug)]
pub struct Assigner {
    store: Store,
    courier: Courier,
    // As of the last refresh. It is replaced after the store was: it never shows what was not committed.
    sources: Arc<ArcSwap<Sources>>,
    // Whoever numbers and stores assignments holds it until they are sent, so that what is sent later is newer.
    writing: Arc<Mutex<()>>,
}

/// All that assignments are computed from.
#[derive(Debug, Default)]
struct Sources {
    declared: Arc<Declared>,
    shards: BTreeMap<Name, shards::Kept>,
    keys: BTreeMap<Name, String>,
    revoked: Vec<String>,
}

impl Sources {
    async fn read(connection: &mut Connection) -> Result<Self, StoreError> {
        Ok(Self {
            declared: Arc::new(kept::load(connection).await?),
            shards: shards::all(connection).await?.into_iter().collect(),
            keys: agents::all(connection).await?.into_iter().map(|agent| (agent.name, agent.key_fingerprint)).collect(),
            revoked: certificates::revoked_serials(connection, u32::try_from(MOST_REVOKED).unwrap_or(u32::MAX)).await?,
        })
    }

    fn of(&self, agent: &Name) -> Assignment {
        compute(agent, &self.declared, &self.shards, &self.keys, &self.revoked)
    }

    /// The assignments that differ from what is stored, with the revision that each gets.
    fn changed(&self, stored: &BTreeMap<Name, (Revision, String)>) -> Vec<(Name, Revision, Assignment)> {
        let mut agents: BTreeSet<Name> = assigned_agents(&self.declared);
        agents.extend(stored.keys().cloned());
        let changed = agents.into_iter().filter_map(|agent| {
            let fresh = self.of(&agent);
            let before = stored.get(&agent);
            if before.is_some_and(|(_, stored)| *stored == digest(&fresh)) {
                return None;
            }
            let revision = Revision(before.map_or(0, |(revision, _)| revision.0).saturating_add(1));
            Some((agent, revision, fresh))
        });
        changed.collect()
    }
}

/// What an agent that connects must be sent.
enum Answer {
    /// Nothing, or what is stored.
    Known(Option<Assignment>),
    /// This, once it is stored.
    Anew(Revision, Assignment),
}

impl Assigner {
    /// An assigner that has sent nothing yet.
    #[must_use]
    pub fn new(store: Store, courier: Courier) -> Self {
        Self { store, courier, sources: Arc::default(), writing: Arc::default() }
    }

    /// What is declared, as of the last [`Assigner::refresh`].
    #[must_use]
    pub fn declared(&self) -> Arc<Declared> {
        self.sources.load().declared.clone()
    }

    /// Makes all assignments anew; those that differ are numbered, stored and sent. Reading and comparing keeps no other writer waiting:
    /// whoever changes what they are made of has them made again.
    ///
    /// # Errors
    /// Where the store cannot be read or written; then nothing was changed or sent.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let writing = self.writing.lock().await;
        let mut read = self.store.read().await?;
        let sources = Arc::new(Sources::read(&mut read).await?);
        let stored = assignments::digests(&mut read).await?;
        drop(read);
        let of_all = sources.clone();
        let changed = tokio::task::spawn_blocking(move || of_all.changed(&stored)).await;
        let changed = changed.map_err(|error| StoreError::Database(sqlx::Error::Io(std::io::Error::other(error))))?;
        let mut sent = Vec::with_capacity(changed.len());
        if !changed.is_empty() {
            let mut write = self.store.write().await?;
            let term = self.store.term();
            for (agent, revision, fresh) in changed {
                let record = number(fresh, revision, term.0);
                assignments::put(write.connection(), &agent, &record).await?;
                sent.push((agent, record.assignment));
            }
            write.commit().await?;
        }
        self.sources.store(sources);
        for (agent, assignment) in sent {
            tracing::info!(%agent, revision = assignment.revision, instances = assignment.instances.len(), "assignment changed");
            self.courier.send(&agent, SessionResponse { message: Some(Message::Assignment(assignment)) });
        }
        drop(writing);
        Ok(())
    }

    /// What an agent that has revision `has` in force must be sent. `None`: it has the present one. `doubt`: this store may be an older
    /// copy, so that equal numbers prove nothing. The agent is connected to its mailbox already: what changes meanwhile reaches it behind
    /// this answer.
    ///
    /// # Errors
    /// Where the store cannot be read or written.
    pub async fn reconcile(&self, agent: &Name, has: Revision, doubt: bool) -> Result<Option<Assignment>, StoreError> {
        let mut read = self.store.read().await?;
        let stored = assignments::get(&mut read, agent).await?;
        drop(read);
        if let Answer::Known(answer) = self.answer(agent, stored, has, doubt) {
            return Ok(answer);
        }
        let writing = self.writing.lock().await;
        let mut write = self.store.write().await?;
        let stored = assignments::get(write.connection(), agent).await?;
        let (revision, fresh) = match self.answer(agent, stored, has, doubt) {
            Answer::Known(answer) => return Ok(answer),
            Answer::Anew(revision, fresh) => (revision, fresh),
        };
        let record = number(fresh, revision, self.store.term().0);
        assignments::put(write.connection(), agent, &record).await?;
        write.commit().await?;
        drop(writing);
        Ok(Some(record.assignment))
    }

    fn answer(&self, agent: &Name, stored: Option<Record>, has: Revision, doubt: bool) -> Answer {
        let fresh = self.sources.load().of(agent);
        let behind = stored.as_ref().map_or(0, |stored| stored.revision.0);
        let is_first = stored.is_none();
        match stored.filter(|stored| stored.digest == digest(&fresh)) {
            Some(record) if record.revision == has && !doubt => Answer::Known(None),
            Some(record) if record.revision > has => Answer::Known(Some(record.assignment)),
            None if has.0 == 0 && fresh.instances.is_empty() && is_first => Answer::Known(None),
            Some(_) | None => Answer::Anew(Revision(behind.max(has.0).saturating_add(1)), fresh),
        }
    }
}

fn number(fresh: Assignment, revision: Revision, term: u64) -> Record {
    Record { revision, digest: digest(&fresh), assignment: Assignment { revision: revision.0, term, ..fresh } }
}
