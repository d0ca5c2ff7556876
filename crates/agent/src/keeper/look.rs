//! One look of a keeper: the control file read, brought into this boot, what is seen tended, its position recorded.

use muster_common::fault::{ErrorKind, Fault};
use muster_engine::keep::Patience;
use muster_failover::control::{Control, Role};
use muster_failover::directive::Question;
use muster_failover::here::Here;
use muster_failover::instance::tend;
use muster_failover::look::{Look, Server};

use crate::assignment::force::Instance;
use crate::keeper::carry::{Hand, Went};
use crate::keeper::kept::{Found, Keeper, Keepers, State};
use crate::keeper::record::{self, Record};
use crate::keeper::show;
use crate::task::perform::blocking;

/// How many rounds of acts one look or one order may take. More is a defect.
pub const MOST_ROUNDS: usize = 12;
/// How long after a look that found less than was seen before the next one is.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(300);

impl Keepers {
    /// Looks, does what the look asks for, and remembers what it found.
    pub async fn tend(&self, instance: &Instance) {
        let keeper = self.of(&instance.name);
        let Some(keep) = instance.engine.keep() else { return keeper.remember(None) };
        let mut state = keeper.state.lock().await;
        let mut hand = Hand { keepers: self, keeper: &keeper, instance, keep, state: &mut state };
        let (here, look) = match hand.tend().await {
            Ok((here, look)) => {
                hand.state.trouble = hand.trouble(&here);
                (here, look)
            }
            Err(fault) => {
                let trouble = trouble(&fault);
                if hand.state.trouble != trouble {
                    tracing::warn!(instance = %keeper.name, "the keeper cannot do what it should; it is tried again each second: {fault}");
                }
                hand.state.trouble = trouble;
                let Ok(here) = self.here().await else { return };
                (here, keep.look().await.ok())
            }
        };
        hand.tell(&here, look.as_ref());
    }
}

/// A fault as one text that can be taken apart again.
#[must_use]
pub fn trouble(fault: &Fault) -> String {
    let hint = if fault.hint.is_empty() { "look at the agent's log" } else { &fault.hint };
    format!("{}; HINT: {hint}", fault.message)
}

impl Hand<'_> {
    /// Remembers what was found, for reports and conditions.
    pub fn tell(&self, here: &Here, look: Option<&Look>) {
        self.keeper.remember(show::kept(&self.keeper.name, self.state, here, look));
    }

    /// Reads what there is, once in the life of the process.
    ///
    /// # Errors
    /// Where the disk cannot be read.
    pub async fn find(&mut self) -> Result<(), Fault> {
        match &self.state.found {
            Found::Unread | Found::Unmanaged => {}
            Found::Lost(_) | Found::Kept(_) => return Ok(()),
        }
        let path = self.keeper.path.clone();
        self.state.found = match blocking(move || record::read(&path)).await? {
            Ok(Some(record)) => Found::Kept(Box::new(record)),
            Ok(None) if self.keep.is_marked().await? => {
                Found::Lost("the data carry Muster's mark, and this agent has no control file of them".to_owned())
            }
            Ok(None) => Found::Unmanaged,
            Err(error) => Found::Lost(error.to_string()),
        };
        if let Found::Lost(why) = &self.state.found {
            tracing::error!(instance = %self.keeper.name, why, "who may write here is not known: nothing is signed, promised, confirmed or started");
        }
        Ok(())
    }

    /// The control file, where there is one.
    #[must_use]
    pub fn record(&self) -> Option<&Record> {
        match &self.state.found {
            Found::Kept(record) => Some(record),
            Found::Unread | Found::Unmanaged | Found::Lost(_) => None,
        }
    }

    /// The control file, or why nothing can be done without.
    ///
    /// # Errors
    /// Where there is none.
    pub fn control(&self) -> Result<Control, Fault> {
        match &self.state.found {
            Found::Kept(record) => Ok(record.control.clone()),
            Found::Lost(why) => {
                Err(Fault::refused(ErrorKind::FailedPrecondition, format!("{}: its control file is lost: {why}", self.keeper.name)).hint(
                    format!("muster manage {}: a controller that has heard from all confirms what it is", self.keeper.name.component),
                ))
            }
            Found::Unread | Found::Unmanaged => Err(Fault::refused(
                ErrorKind::FailedPrecondition,
                format!("{} is not kept by Muster: it is only observed", self.keeper.name),
            )
            .hint(format!("muster manage {} --writer INSTANCE", self.keeper.name.component))),
        }
    }

    async fn tend(&mut self) -> Result<(Here, Option<Look>), Fault> {
        self.find().await?;
        let here = self.keepers.here().await?;
        match &self.state.found {
            Found::Unread | Found::Unmanaged => return Ok((here, None)),
            Found::Lost(_) => return Ok((here, Some(self.tend_lost().await?))),
            Found::Kept(record) if record.control.role == Role::Unmanaged => return Ok((here, None)),
            Found::Kept(_) => {}
        }
        let (here, look) = self.settle().await?;
        self.record_position(&look).await?;
        self.ask(&here, &look);
        Ok((here, Some(look)))
    }

    /// Does what looks ask for until they ask for nothing more; tells the last look.
    ///
    /// # Errors
    /// Where an act fails; the next look goes on.
    pub async fn settle(&mut self) -> Result<(Here, Look), Fault> {
        for _ in 0..MOST_ROUNDS {
            let here = self.keepers.here().await?;
            let look = self.look_again_where_behind().await?;
            let acts = tend(&self.control()?, &here, &look);
            if acts.is_empty() {
                return Ok((here, look));
            }
            let last = self.record().and_then(|record| record.control.last.clone());
            tracing::info!(instance = %self.keeper.name, ?look, ?last, "what is seen asks for acts");
            match self.carry_out(acts).await? {
                Went::Again => {}
                Went::Done(_) => return Ok((self.keepers.here().await?, self.keep.look().await?)),
            }
        }
        Err(Fault::failed(ErrorKind::Internal, format!("looks at {} do not end", self.keeper.name))
            .hint("please report this with the agent's log"))
    }

    /// A look, and a second and third one where the data seem to be below what was seen of them: the first look of a process at a busy
    /// writer knows only where its last checkpoint began. A disk that was set back stays behind.
    async fn look_again_where_behind(&self) -> Result<Look, Fault> {
        let mut look = self.keep.look().await?;
        for _ in 0..2 {
            let last = self.record().and_then(|record| record.control.last.as_ref());
            let behind = last.zip(look.position.as_ref()).is_some_and(|(last, own)| !own.covers(last));
            if !behind || look.server != Server::ReadWrite {
                break;
            }
            tokio::time::sleep(AGAIN).await;
            look = self.keep.look().await?;
        }
        Ok(look)
    }

    /// A lost control file: who runs under a permit goes on; who runs without one is no exception to the rule that nobody does.
    async fn tend_lost(&mut self) -> Result<Look, Fault> {
        let look = self.keep.look().await?;
        if !look.permit && look.server != Server::Stopped {
            tracing::error!(instance = %self.keeper.name, "it runs without a permit and without a control file: it is stopped, its data are kept");
            self.keep.fence(Patience::default()).await?;
            return self.keep.look().await;
        }
        Ok(look)
    }

    /// The last position is durable, at most once a second, and never goes back.
    async fn record_position(&mut self, look: &Look) -> Result<(), Fault> {
        let (Some(seen), Some(record)) = (&look.position, self.record()) else { return Ok(()) };
        if record.control.last.as_ref().is_some_and(|last| last == seen || !seen.covers(last)) {
            return Ok(());
        }
        let mut next = record.clone();
        next.control.last = Some(seen.clone());
        self.keeper.keep(self.state, next).await
    }

    /// Opens a question where the writer may ask, and closes it where not.
    fn ask(&mut self, here: &Here, look: &Look) {
        let Some(record) = self.record() else { return };
        let control = &record.control;
        let reign = match &control.role {
            Role::Stopped { reign, .. } | Role::Writer { reign } => Some(*reign),
            Role::Unmanaged | Role::Promoting { .. } | Role::Follower { .. } | Role::Held { .. } | Role::Absent => None,
        };
        let waits = !look.permit && look.server == Server::Stopped && control.asks(here);
        let open = reign.filter(|_| waits);
        self.state.question = match (open, self.state.question) {
            (Some(reign), Some(question)) if question.reign == reign => Some(question),
            (Some(reign), _) => Some(Question { asked: muster_common::id::Nonce::from_bytes(rand::random()), reign }),
            (None, _) => None,
        };
    }

    /// What is wrong although every act went well.
    fn trouble(&self, here: &Here) -> String {
        match &self.state.found {
            Found::Lost(why) => {
                format!("its control file is lost: {why}; HINT: muster manage {} confirms what it is", self.keeper.name.component)
            }
            Found::Kept(record) if record.control.machine != here.machine => format!(
                "its control file is of machine {}, this is {}: it signs and starts nothing; HINT: remove the copied agent, or put the machine id back",
                record.control.machine, here.machine
            ),
            Found::Unread | Found::Unmanaged | Found::Kept(_) => String::new(),
        }
    }
}

impl State {
    /// The control file that is held.
    #[must_use]
    pub fn held(&self) -> Option<&Record> {
        match &self.found {
            Found::Kept(record) => Some(record),
            Found::Unread | Found::Unmanaged | Found::Lost(_) => None,
        }
    }
}

impl Keeper {
    /// Its role, where it is known; waits for whoever acts now.
    pub async fn role(&self) -> Option<Role> {
        self.state.lock().await.held().map(|record| record.control.role.clone())
    }
}
