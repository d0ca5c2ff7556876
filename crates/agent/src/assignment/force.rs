//! The assignment in force: stored with its checksum, with an engine for each instance, watched by duties and tasks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use muster_common::counter::{Revision, Term};
use muster_common::fault::Fault;
use muster_common::name::InstanceName;
use muster_engine::verbs::Engine;
use muster_wire::proto::agent::v1 as link;
use prost::Message;
use tokio::sync::watch;

use crate::assignment::parse::{AssignedInstance, Assignment, RepositoryPlace, parse};
use crate::durable::{self, DurableError, Format};
use crate::memory::Memory;

const FORMAT: Format = Format { magic: "MUSTER-ASSIGNMENT", version: 1 };

/// Makes the engine of an instance.
pub type Build = Box<dyn Fn(&InstanceName, &AssignedInstance) -> Result<Arc<dyn Engine>, Fault> + Send + Sync>;

/// One instance that the agent keeps now.
pub struct Instance {
    /// Its name.
    pub name: InstanceName,
    /// What was assigned.
    pub assigned: AssignedInstance,
    /// Its verbs.
    pub engine: Arc<dyn Engine>,
}

/// What is in force. Replaced whole.
#[derive(Default)]
pub struct InForce {
    /// The assignment.
    pub assignment: Assignment,
    /// Its instances whose engine could be made.
    pub instances: BTreeMap<InstanceName, Arc<Instance>>,
    /// What could not be done with it, in words.
    pub problems: Vec<String>,
}

impl InForce {
    /// The place of an instance's repository, where it has one that is understood.
    #[must_use]
    pub fn repository_of(&self, instance: &Instance) -> Option<&RepositoryPlace> {
        self.assignment.repositories.get(instance.assigned.repository.as_ref()?)
    }
}

/// The stored assignment; an empty one where none is stored.
///
/// # Errors
/// Where the file cannot be read, is damaged, or a newer agent wrote it.
pub fn stored(path: &Path) -> Result<link::Assignment, DurableError> {
    let body = durable::read(path, FORMAT)?.unwrap_or_default();
    link::Assignment::decode(body.as_slice()).map_err(|error| DurableError::Damaged { path: path.to_owned(), why: error.to_string() })
}

/// Stores assignments and puts them in force.
pub struct Assignments {
    path: PathBuf,
    memory: Arc<Memory>,
    build: Build,
    /// One at a time: the store and what is in force go together.
    applying: Mutex<()>,
    current: watch::Sender<Arc<InForce>>,
}

impl Assignments {
    /// Puts the stored assignment in force. A damaged one is told and left: the controller sends it again.
    ///
    /// # Errors
    /// Where the file cannot be read, or a newer agent wrote it.
    pub fn open(path: &Path, memory: Arc<Memory>, build: Build) -> Result<Self, DurableError> {
        let message = match stored(path) {
            Ok(message) => message,
            Err(error @ DurableError::Damaged { .. }) => {
                tracing::error!(%error, "the stored assignment is lost until a controller sends it again");
                link::Assignment::default()
            }
            Err(error) => return Err(error),
        };
        let current = watch::Sender::new(Arc::new(InForce::default()));
        let assignments = Self { path: path.to_owned(), memory, build, applying: Mutex::new(()), current };
        assignments.force(parse(&message))?;
        Ok(assignments)
    }

    /// What is in force now.
    #[must_use]
    pub fn current(&self) -> Arc<InForce> {
        self.current.borrow().clone()
    }

    /// Tells each change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<InForce>> {
        self.current.subscribe()
    }

    /// Stores an assignment and puts it in force; an older one changes nothing. Blocks for the disk. Answers what is in force then.
    ///
    /// # Errors
    /// Where it cannot be stored: the one before stays in force.
    pub fn apply(&self, message: &link::Assignment) -> Result<Arc<InForce>, DurableError> {
        let _one = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let present = self.current();
        let age = |assignment: &Assignment| (assignment.term, assignment.revision);
        if (Term(message.term), Revision(message.revision)) < age(&present.assignment) {
            tracing::warn!(revision = message.revision, term = message.term, "an assignment that is older than the present one is left");
            return Ok(present);
        }
        let assignment = parse(message);
        if assignment != present.assignment {
            durable::write(&self.path, FORMAT, &message.encode_to_vec())?;
            self.force(assignment)?;
        }
        Ok(self.current())
    }

    fn force(&self, assignment: Assignment) -> Result<(), DurableError> {
        self.memory.change(|remembered| {
            remembered.learn_revoked(&assignment.revoked);
            for (name, instance) in &assignment.instances {
                remembered.learn_epoch(name, instance.epoch, instance.reign);
            }
        })?;
        let present = self.current();
        let mut problems = assignment.problems.clone();
        let mut instances = BTreeMap::new();
        for (name, assigned) in &assignment.instances {
            let same = present.instances.get(name).filter(|instance| instance.assigned.kind == assigned.kind);
            let engine = match same {
                Some(instance) => Ok(instance.engine.clone()),
                None => (self.build)(name, assigned),
            };
            match engine {
                Ok(engine) => {
                    let instance = Instance { name: name.clone(), assigned: assigned.clone(), engine };
                    instances.insert(name.clone(), Arc::new(instance));
                }
                Err(fault) => problems.push(format!("instance {name}: {fault}")),
            }
            if let Some(repository) = &assigned.repository
                && !assignment.repositories.contains_key(repository)
            {
                problems.push(format!("instance {name}: its repository {repository} is not among those assigned"));
            }
        }
        self.current.send_replace(Arc::new(InForce { assignment, instances, problems }));
        Ok(())
    }
}
