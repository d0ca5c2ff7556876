//! All keepers of an agent, and what one of them holds behind its lock.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::InstanceName;
use muster_engine::observation::Condition;
use muster_failover::directive::{Kept, Question};
use muster_failover::here::Here;

use crate::assignment::force::Instance;
use crate::belonging::Belonging;
use crate::durable::DurableError;
use crate::keeper::place::Place;
use crate::keeper::record::{self, Record};
use crate::keeper::show;
use crate::memory::Memory;
use crate::task::perform::blocking;

/// What all keepers share.
pub struct Keepers {
    /// Where the control files lie.
    pub folder: PathBuf,
    /// Machine, boot, time.
    pub place: Arc<Place>,
    /// Signs receipts.
    pub belonging: Arc<Belonging>,
    /// Knows revoked certificates.
    pub memory: Arc<Memory>,
    all: Mutex<BTreeMap<InstanceName, Arc<Keeper>>>,
}

/// The keeper of one instance.
pub struct Keeper {
    /// The instance.
    pub name: InstanceName,
    /// Its control file.
    pub path: PathBuf,
    /// Held by whoever looks or acts.
    pub state: tokio::sync::Mutex<State>,
    /// What was found last.
    told: Mutex<Told>,
}

/// What a keeper knows.
#[derive(Default)]
pub struct State {
    /// The control file.
    pub found: Found,
    /// The open question.
    pub question: Option<Question>,
    /// What is wrong, with what to type. Empty: nothing.
    pub trouble: String,
}

/// What there is of a control file.
#[derive(Default)]
pub enum Found {
    /// Not read yet.
    #[default]
    Unread,
    /// None, and the data carry no mark: it is only observed.
    Unmanaged,
    /// The data carry the mark, or the file is there and cannot be read.
    Lost(String),
    /// This.
    Kept(Box<Record>),
}

#[derive(Clone, Default)]
struct Told {
    kept: Option<Kept>,
    governed: Vec<Condition>,
}

impl Keepers {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(folder: PathBuf, place: Arc<Place>, belonging: Arc<Belonging>, memory: Arc<Memory>) -> Self {
        Self { folder, place, belonging, memory, all: Mutex::default() }
    }

    /// The keeper of an instance; made where there is none yet.
    #[must_use]
    pub fn of(&self, name: &InstanceName) -> Arc<Keeper> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let path = record::path(&self.folder, name);
            Arc::new(Keeper { name: name.clone(), path, state: tokio::sync::Mutex::default(), told: Mutex::default() })
        };
        all.entry(name.clone()).or_insert_with(make).clone()
    }

    /// Here and now.
    ///
    /// # Errors
    /// Where machine or boot cannot be told.
    pub async fn here(&self) -> Result<Here, Fault> {
        let place = self.place.clone();
        blocking(move || place.here()).await?
    }

    /// What to tell an operator of an instance: nothing of one that is only observed.
    #[must_use]
    pub fn conditions(&self, name: &InstanceName) -> Vec<Condition> {
        let told = self.of(name).told();
        told.kept.iter().map(show::condition).chain(told.governed).collect()
    }

    /// Whether the instance is kept, or was: then nothing but its keeper may start, stop or replace it.
    #[must_use]
    pub fn keeps(&self, instance: &Instance) -> bool {
        self.of(&instance.name).told().kept.is_some()
    }
}

impl Keeper {
    /// What was found last. `None`: it is only observed, or was not looked at yet.
    #[must_use]
    pub fn last(&self) -> Option<Kept> {
        self.told().kept
    }

    fn told(&self) -> Told {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers what was found.
    pub fn remember(&self, kept: Option<Kept>) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).kept = kept;
    }

    /// Remembers what was found of governed settings.
    pub fn remember_governed(&self, governed: Vec<Condition>) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).governed = governed;
    }

    /// Makes a record durable and holds it.
    ///
    /// # Errors
    /// Where the disk refuses: the one before stands.
    pub async fn keep(&self, state: &mut State, record: Record) -> Result<(), Fault> {
        let path = self.path.clone();
        let record = blocking(move || record::write(&path, &record).map(|()| record)).await?.map_err(|error| self.refused(&error))?;
        state.found = Found::Kept(Box::new(record));
        Ok(())
    }

    /// A control file that could not be used.
    #[must_use]
    pub fn refused(&self, error: &DurableError) -> Fault {
        Fault::failed(ErrorKind::DataLoss, format!("the control file of {}: {error}", self.name))
            .hint("make room for the agent's state directory, or look at its disk; nothing is started or stopped meanwhile")
    }
}
