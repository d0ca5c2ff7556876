//! The repositories of the agent's components, opened by pin and unlocked with the agent's own key.
//!
//! What always holds: another repository in the pinned one's place is refused; a component's keys never go back a generation.
//! What is open stays open until its place changes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use muster_common::fault::{Effect, ErrorKind, Fault};
use muster_common::id::ComponentId;
use muster_common::name::Name;
use muster_engine::observation::Condition;
use muster_engine::work::OpenRepository;
use muster_repository::error::{Error, KeyError};
use muster_repository::repository::Repository;
use muster_repository::secret::AgentSecret;

use crate::assignment::force::{InForce, Instance};
use crate::assignment::parse::RepositoryPlace;
use crate::memory::Memory;

/// How long an opening waits for a store that does not answer. Whoever opens tries again and says so.
const PATIENCE: Duration = Duration::from_secs(4);

/// What the agent can open.
pub struct Repositories {
    secret: AgentSecret,
    cache: PathBuf,
    memory: Arc<Memory>,
    open: Mutex<BTreeMap<ComponentId, (RepositoryPlace, OpenRepository)>>,
}

/// Why a component's repository is not open.
#[derive(Clone, Debug)]
pub struct Closed {
    /// The fault, with its hint.
    pub fault: Fault,
    /// Whether a person must grant the component's key.
    pub key_is_missing: bool,
}

impl Repositories {
    /// Nothing is opened yet. `cache` is a folder for what spares requests.
    #[must_use]
    pub fn new(secret: AgentSecret, cache: PathBuf, memory: Arc<Memory>) -> Self {
        Self { secret, cache, memory, open: Mutex::default() }
    }

    /// The public key that data keys are wrapped to.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        self.secret.public()
    }

    /// The open repository of an instance's component; `None` where it has none.
    ///
    /// # Errors
    /// Why it is not open.
    pub async fn of(&self, in_force: &InForce, instance: &Instance) -> Result<Option<OpenRepository>, Closed> {
        let Some(name) = &instance.assigned.repository else { return Ok(None) };
        let place = in_force.repository_of(instance).ok_or_else(|| Closed {
            fault: Fault::refused(ErrorKind::FailedPrecondition, format!("open repository {name}: it is not understood"))
                .hint("look at the problems that `muster agents` shows, correct the Repository and `muster apply` it"),
            key_is_missing: false,
        })?;
        self.open(name, place, instance.assigned.component, &instance.name.component).await.map(Some)
    }

    async fn open(&self, name: &Name, place: &RepositoryPlace, id: ComponentId, component: &Name) -> Result<OpenRepository, Closed> {
        if let Some((of, open)) = self.lock().get(&id)
            && of == place
        {
            return Ok(open.clone());
        }
        let closed = |error: &Error| closed(error, name, component);
        let repository = Repository::open_within(&place.location, place.pin, PATIENCE).await.map_err(|error| closed(&error))?;
        let seen = self.memory.get().key_generations.get(&id).copied().unwrap_or(0);
        let keys = repository.unlock_from(id, &self.secret, seen).await.map_err(|error| closed(&error))?;
        let generation = keys.generation();
        let learnt = self.memory.change(|remembered| {
            let highest = remembered.key_generations.entry(id).or_default();
            *highest = (*highest).max(generation);
        });
        learnt.map_err(|error| Closed {
            fault: Fault::refused(ErrorKind::Unavailable, format!("remember the generation of {component}'s key: {error}"))
                .hint("make room on the agent's machine"),
            key_is_missing: false,
        })?;
        let open = OpenRepository { repository, keys, cache: self.cache.join(id.to_string()) };
        self.lock().insert(id, (place.clone(), open.clone()));
        Ok(open)
    }

    /// What a full look tells of an instance's repository.
    pub async fn conditions(&self, in_force: &InForce, instance: &Instance) -> Vec<Condition> {
        match self.of(in_force, instance).await {
            Ok(None) => Vec::new(),
            Ok(Some(open)) => match open.repository.trouble() {
                Some(trouble) => {
                    vec![
                        condition("Repository", false, false, format!("it does not answer: {}", trouble.what), String::new()),
                        good("DataKey"),
                    ]
                }
                None => vec![good("Repository"), good("DataKey")],
            },
            Err(Closed { fault, key_is_missing: true }) => {
                vec![good("Repository"), condition("DataKey", false, true, fault.message, fault.hint)]
            }
            // What only does not answer now is waited for by the task itself.
            Err(Closed { fault, key_is_missing: false }) => {
                let blocking = fault.kind != ErrorKind::Unavailable;
                vec![condition("Repository", false, blocking, fault.message, fault.hint)]
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ComponentId, (RepositoryPlace, OpenRepository)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed(error: &Error, name: &Name, component: &Name) -> Closed {
    let key_is_missing = matches!(error, Error::Key(KeyError::NotGranted { .. }));
    // Nothing was begun yet, whatever the store did.
    let mut fault = error.fault().effect(Effect::None);
    if key_is_missing {
        fault.message = format!("this agent has no key of {component} in repository {name}");
        fault.hint = format!("muster repo grant {component}");
    } else {
        fault.message = format!("open repository {name}: {}", fault.message);
    }
    Closed { fault, key_is_missing }
}

fn good(name: &str) -> Condition {
    condition(name, true, true, String::new(), String::new())
}

fn condition(name: &str, ok: bool, blocking: bool, message: String, hint: String) -> Condition {
    Condition { name: name.to_owned(), ok, blocking, message, hint }
}
