//! The durable inbox: a command is taken on once, whatever is resent; its outcome stays until it is acknowledged.
//!
//! ```text
//! inbox/<id>.task      the command, and how it ended once it has     (replaced whole, fsynced)
//! inbox/<id>.note      what the verb keeps for its own resumption    (replaced whole, fsynced)
//! inbox/<id>.damaged   a task file that could not be read; its command counts as ended with unknown effect
//! inbox/tombstones/    see `tombstones`
//! ```
//!
//! Every call blocks for the disk. What always holds: what a call reported done survives kill -9 and a power cut, and what
//! failed changed nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::CommandId;
use muster_common::time::Timestamp;
use muster_service::files;
use serde::{Deserialize, Serialize};

use crate::durable::{self, DurableError, Format};
use crate::task::command::{Command, Ended};
use crate::task::tombstones::{Tombstone, Tombstones};

const TASK: Format = Format { magic: "MUSTER-INBOX", version: 1 };
const NOTE: Format = Format { magic: "MUSTER-NOTE", version: 1 };

/// The longest note, in bytes.
pub const MAX_NOTE: usize = 64 << 10;

/// What is stored of a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The command.
    pub command: Command,
    /// When it was taken on, by the agent's clock.
    pub taken_on: Timestamp,
    /// How it ended; absent while it has not.
    pub ended: Option<Ended>,
}

/// What is known of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// Nothing, and there is no tombstone.
    Unheard,
    /// It is taken on and has not ended.
    TakenOn,
    /// It has ended, and that is not acknowledged.
    Ended(Ended),
    /// It has ended, and that was acknowledged.
    Buried(Ended),
}

/// Why the inbox could not do something.
#[derive(Debug, thiserror::Error)]
pub enum InboxError {
    /// A file.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// The command stands in it already.
    #[error("command {0} stands in the inbox already")]
    Twice(CommandId),
    /// The command is not in it, or has ended.
    #[error("command {0} is not under way in the inbox")]
    NotUnderWay(CommandId),
    /// The note is too long.
    #[error("a note of {length} bytes of command {command} is longer than {MAX_NOTE}")]
    LongNote {
        /// The command.
        command: CommandId,
        /// The note's length.
        length: usize,
    },
}

/// The inbox. Share it by `Arc`.
#[derive(Debug)]
pub struct Inbox {
    folder: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    tasks: BTreeMap<CommandId, Record>,
    damaged: BTreeMap<CommandId, Ended>,
    tombstones: Tombstones,
}

impl Inbox {
    /// Reads what a previous process left. Half-written files are removed; damaged ones are set aside and count as ended.
    ///
    /// # Errors
    /// Where the folder cannot be read, or a newer agent wrote in it.
    pub fn open(folder: &Path, now: Timestamp) -> Result<Self, InboxError> {
        files::create_private_folder(folder).map_err(DurableError::File)?;
        files::remove_temporaries(folder).map_err(DurableError::File)?;
        let mut inner =
            Inner { tasks: BTreeMap::new(), damaged: BTreeMap::new(), tombstones: Tombstones::open(&folder.join("tombstones"))? };
        for entry in fs::read_dir(folder).map_err(|source| failed(folder, source))? {
            let path = entry.map_err(|source| failed(folder, source))?.path();
            if let Some((id, ending)) = id_of(&path) {
                inner.read(id, &ending, &path, now)?;
            }
        }
        let inbox = Self { folder: folder.to_owned(), inner: Mutex::new(inner) };
        inbox.finish_burials()?;
        Ok(inbox)
    }

    /// What is known of a command.
    ///
    /// # Errors
    /// Where a tombstone cannot be read.
    pub fn know(&self, id: CommandId) -> Result<Known, InboxError> {
        let inner = self.lock();
        if let Some(record) = inner.tasks.get(&id) {
            return Ok(record.ended.clone().map_or(Known::TakenOn, Known::Ended));
        }
        if let Some(ended) = inner.damaged.get(&id) {
            return Ok(Known::Ended(ended.clone()));
        }
        Ok(inner.tombstones.find(id)?.map_or(Known::Unheard, |tombstone| Known::Buried(tombstone.ended)))
    }

    /// Takes a command on: durable when it returns.
    ///
    /// # Errors
    /// Where it was taken on before, or cannot be written: then it was not taken on.
    pub fn take_on(&self, command: &Command, now: Timestamp) -> Result<(), InboxError> {
        let mut inner = self.lock();
        let id = command.id;
        if inner.tasks.contains_key(&id) || inner.damaged.contains_key(&id) || inner.tombstones.contains(id) {
            return Err(InboxError::Twice(id));
        }
        let record = Record { command: command.clone(), taken_on: now, ended: None };
        if let Err(error) = self.write(id, &record) {
            // The file may stand although its durability failed: what is refused must not run after a restart.
            self.remove_files(id)?;
            return Err(error.into());
        }
        inner.tasks.insert(id, record);
        Ok(())
    }

    /// Keeps how a task ended: durable when it returns.
    ///
    /// # Errors
    /// Where the command is not under way, or the disk refuses: then it has not ended yet.
    pub fn end(&self, id: CommandId, ended: Ended) -> Result<(), InboxError> {
        let mut inner = self.lock();
        let record = inner.tasks.get_mut(&id).filter(|record| record.ended.is_none()).ok_or(InboxError::NotUnderWay(id))?;
        let next = Record { ended: Some(ended), ..record.clone() };
        self.write(id, &next)?;
        *record = next;
        Ok(())
    }

    /// The controller has the outcome: the command becomes a tombstone. `false` where it had not ended, or is buried already.
    ///
    /// # Errors
    /// Where that cannot be written: the outcome stays, and will be told again.
    pub fn acknowledge(&self, id: CommandId, now: Timestamp) -> Result<bool, InboxError> {
        let mut inner = self.lock();
        let tombstone = match (inner.tasks.get(&id), inner.damaged.get(&id)) {
            (Some(Record { command, ended: Some(ended), .. }), _) => {
                Tombstone { command: id, sequence: command.sequence, issued_at: command.issued_at, ended: ended.clone() }
            }
            (None, Some(ended)) => Tombstone { command: id, sequence: 0, issued_at: now, ended: ended.clone() },
            (Some(Record { ended: None, .. }), _) | (None, None) => return Ok(false),
        };
        inner.tombstones.bury(tombstone, now)?;
        // The tombstone is what counts from here on; files that cannot be removed now are removed at the next start.
        inner.tasks.remove(&id);
        inner.damaged.remove(&id);
        drop(inner);
        self.remove_files(id)?;
        Ok(true)
    }

    /// Keeps a verb's note: durable when it returns.
    ///
    /// # Errors
    /// Where the command is not under way, the note is too long or the disk refuses: then the old note stands.
    pub fn keep_note(&self, id: CommandId, note: &[u8]) -> Result<(), InboxError> {
        if note.len() > MAX_NOTE {
            return Err(InboxError::LongNote { command: id, length: note.len() });
        }
        if self.lock().tasks.get(&id).is_none_or(|record| record.ended.is_some()) {
            return Err(InboxError::NotUnderWay(id));
        }
        Ok(durable::write(&self.path(id, "note"), NOTE, note)?)
    }

    /// The note as it was last kept.
    ///
    /// # Errors
    /// Where it cannot be read or is damaged.
    pub fn read_note(&self, id: CommandId) -> Result<Option<Vec<u8>>, InboxError> {
        Ok(durable::read(&self.path(id, "note"), NOTE)?)
    }

    /// Commands that have not ended, in the order of their sequence.
    #[must_use]
    pub fn under_way(&self) -> Vec<Command> {
        let mut commands: Vec<Command> =
            self.lock().tasks.values().filter(|record| record.ended.is_none()).map(|record| record.command.clone()).collect();
        commands.sort_by_key(|command| (command.sequence, command.id));
        commands
    }

    /// Outcomes that are not acknowledged, the oldest first.
    #[must_use]
    pub fn unacknowledged(&self) -> Vec<(CommandId, Ended)> {
        let inner = self.lock();
        let ended = inner.tasks.iter().filter_map(|(id, record)| Some((*id, record.ended.clone()?)));
        let mut all: Vec<(CommandId, Ended)> = ended.chain(inner.damaged.iter().map(|(id, ended)| (*id, ended.clone()))).collect();
        all.sort_by_key(|(id, ended)| (ended.at, *id));
        all
    }

    /// Every command that is not buried: its operation where it is known, and whether it has ended.
    #[must_use]
    pub fn unfinished(&self) -> Vec<(CommandId, Option<muster_common::id::OperationId>, bool)> {
        let inner = self.lock();
        let tasks = inner.tasks.iter().map(|(id, record)| (*id, Some(record.command.operation), record.ended.is_some()));
        tasks.chain(inner.damaged.keys().map(|id| (*id, None, true))).collect()
    }

    /// How many commands stand in it, those included that have ended and are not acknowledged.
    #[must_use]
    pub fn len(&self) -> usize {
        let inner = self.lock();
        inner.tasks.len() + inner.damaged.len()
    }

    /// Whether none does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops tombstones that are older than `keep`, and the oldest days beyond `most` of them. `remember` makes the instant durable up to which they are gone, before they are.
    ///
    /// # Errors
    /// Where that or the removal fails; nothing is forgotten then that is not covered.
    pub fn drop_tombstones<E: From<InboxError>>(
        &self,
        now: Timestamp,
        keep: Duration,
        most: usize,
        remember: impl FnOnce(Timestamp) -> Result<(), E>,
    ) -> Result<(), E> {
        let due = self.lock().tombstones.due(now, keep, most);
        let Some((days, until)) = due else { return Ok(()) };
        remember(until)?;
        self.lock().tombstones.drop_days(&days).map_err(InboxError::Durable)?;
        Ok(())
    }

    /// A crash between a burial and the removal of its files leaves both: the tombstone counts.
    fn finish_burials(&self) -> Result<(), InboxError> {
        let mut inner = self.lock();
        let buried: Vec<CommandId> =
            inner.tasks.keys().chain(inner.damaged.keys()).copied().filter(|id| inner.tombstones.contains(*id)).collect();
        for id in buried {
            inner.tasks.remove(&id);
            inner.damaged.remove(&id);
            self.remove_files(id)?;
        }
        Ok(())
    }

    fn write(&self, id: CommandId, record: &Record) -> Result<(), DurableError> {
        let path = self.path(id, "task");
        muster_failpoint::hit("agent.inbox.write").map_err(|injected| failed(&path, io::Error::other(injected)))?;
        durable::write_json(&path, TASK, record)?;
        muster_failpoint::hit("agent.inbox.written").map_err(|injected| failed(&path, io::Error::other(injected)))
    }

    fn remove_files(&self, id: CommandId) -> Result<(), DurableError> {
        for ending in ["note", "damaged", "task"] {
            let path = self.path(id, ending);
            match fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(failed(&path, source)),
            }
            if muster_failpoint::hit("agent.inbox.removed").is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn path(&self, id: CommandId, ending: &str) -> PathBuf {
        self.folder.join(format!("{id}.{ending}"))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn read(&mut self, id: CommandId, ending: &str, path: &Path, now: Timestamp) -> Result<(), InboxError> {
        match ending {
            "task" => match durable::read_json::<Record>(path, TASK) {
                Ok(Some(record)) if record.command.id == id => {
                    self.tasks.insert(id, record);
                }
                Ok(_) => self.set_aside(id, path, now, "it holds another command")?,
                Err(DurableError::Damaged { why, .. }) => self.set_aside(id, path, now, &why)?,
                Err(error @ (DurableError::File(_) | DurableError::Disk { .. } | DurableError::Newer { .. })) => return Err(error.into()),
            },
            "damaged" => {
                self.damaged.insert(id, lost(id, path, now, "it was found damaged before"));
            }
            _ => {}
        }
        Ok(())
    }

    fn set_aside(&mut self, id: CommandId, path: &Path, now: Timestamp, why: &str) -> Result<(), InboxError> {
        let aside = path.with_extension("damaged");
        fs::rename(path, &aside).map_err(|source| failed(path, source))?;
        tracing::error!(command = %id, path = %aside.display(), why, "a task file is damaged: the command counts as ended with unknown effect");
        self.damaged.insert(id, lost(id, &aside, now, why));
        Ok(())
    }
}

fn lost(id: CommandId, path: &Path, now: Timestamp, why: &str) -> Ended {
    let fault = Fault::failed(ErrorKind::DataLoss, format!("resume command {id}: its file in the agent's inbox is damaged: {why}"))
        .evidence(format!("{} on the agent's machine", path.display()))
        .hint("look at the instance, then ask for the operation anew if it is still wanted; check the disk of the agent's state directory");
    Ended { at: now, result: Err(fault), hooks: Vec::new() }
}

fn id_of(path: &Path) -> Option<(CommandId, String)> {
    let (id, ending) = path.file_name()?.to_str()?.split_once('.')?;
    Some((id.parse().ok()?, ending.to_owned()))
}

fn failed(path: &Path, source: io::Error) -> DurableError {
    DurableError::Disk { path: path.to_owned(), source }
}
