//! What can go wrong in a repository, and how it is told.

use std::path::PathBuf;
use std::sync::Arc;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::{ComponentId, PointId, RepositoryId};

/// Why a request to the object store failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// It does not answer, throttles or answers 5xx: trying again can help.
    Unavailable,
    /// There is no such object (or no such bucket or folder).
    NotFound,
    /// There is one with other content.
    AlreadyExists,
    /// It refuses us.
    Denied,
    /// It has no space left.
    Full,
    /// What came back is not what was asked for.
    Wrong,
    /// It cannot do what is needed.
    Unsupported,
}

/// A failed request to the object store.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{doing} {path} in {at}: {reason}")]
pub struct StoreError {
    /// Its kind.
    pub kind: StoreErrorKind,
    /// The verb: "write", "read", "list".
    pub doing: &'static str,
    /// The object, relative to the repository's root.
    pub path: String,
    /// The store.
    pub at: String,
    /// What the store or the operating system said.
    pub reason: String,
}

/// Bytes that are not what they have to be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub struct Damage {
    /// The object, relative to the repository's root.
    pub object: String,
    /// Where in it, in bytes from its start, where that is known.
    pub offset: Option<u64>,
    /// What is wrong.
    pub what: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.offset {
            Some(offset) => write!(f, "{} at byte {offset}: {}", self.object, self.what),
            None => write!(f, "{}: {}", self.object, self.what),
        }
    }
}

/// Why keys were not given.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeyError {
    /// The passphrase opens nothing.
    #[error("the recovery passphrase is wrong")]
    WrongPassphrase,
    /// No key object of this component names this agent.
    #[error("component {component} has no key that this agent can open{}", refused_text(.refused))]
    NotGranted {
        /// The component.
        component: ComponentId,
        /// Key objects that were refused on the way, and why.
        refused: Vec<Damage>,
    },
    /// The repository shows an older generation than was seen before.
    #[error("component {component}: generation {found} of its key was found where {expected} was seen before")]
    WentBack {
        /// The component.
        component: ComponentId,
        /// What is there.
        found: u32,
        /// What was there.
        expected: u32,
    },
    /// The key object written last does not open: the grant is void.
    #[error("open {object} as proof: {what}")]
    ProofFailed {
        /// The key object.
        object: String,
        /// What was wrong.
        what: String,
    },
}

fn refused_text(refused: &[Damage]) -> String {
    refused.iter().map(|damage| format!("; refused {damage}")).collect()
}

/// What failed. Cheap to clone: several threads may tell one failure.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The object store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Keys were not given.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Bytes are damaged.
    #[error("damaged: {0}")]
    Damaged(#[from] Damage),
    /// Files could not be restored whole; everything else was.
    #[error("{} of the files could not be restored whole; first {}", .0.files, .0.damage.first().map(ToString::to_string).unwrap_or_default())]
    DamagedFiles(Arc<DamagedFiles>),
    /// There is no `config`.
    #[error("{at} holds no repository")]
    NoRepository {
        /// The place.
        at: String,
    },
    /// There is one already.
    #[error("{at} holds a repository already")]
    RepositoryExists {
        /// The place.
        at: String,
    },
    /// Another repository than the pinned one.
    #[error("{at} holds repository {found}, expected {expected}")]
    OtherRepository {
        /// The place.
        at: String,
        /// What is there.
        found: RepositoryId,
        /// What was pinned.
        expected: RepositoryId,
    },
    /// Something was written by a newer Muster.
    #[error("{object} needs a reader of format version {needed}; this build reads version {ours}")]
    Newer {
        /// The object.
        object: String,
        /// What it needs.
        needed: u32,
        /// What this build reads.
        ours: u32,
    },
    /// There is no such point.
    #[error("component {component} has no recovery point {point}")]
    NoPoint {
        /// The component.
        component: ComponentId,
        /// The point.
        point: PointId,
    },
    /// A point was published too late to be sure that nothing of it is removed: it does not count.
    #[error("point {point} of component {component} does not count: {why}")]
    TooLate {
        /// The component.
        component: ComponentId,
        /// The point.
        point: PointId,
        /// What was late.
        why: String,
    },
    /// Prune has marked the point, and so long ago that a hold comes too late.
    #[error("point {point} of component {component} is being removed")]
    BeingRemoved {
        /// The component.
        component: ComponentId,
        /// The point.
        point: PointId,
    },
    /// Prune cannot know what is needed, and removes nothing.
    #[error("nothing more of component {component} is removed: {why}")]
    PruneStopped {
        /// The component.
        component: ComponentId,
        /// What it cannot know.
        why: String,
        /// What lifts it.
        hint: &'static str,
    },
    /// What was asked cannot be meant.
    #[error("{0}")]
    Invalid(String),
    /// The source of a file could not be read.
    #[error("read {path}: {source}")]
    Source {
        /// The file, as the point would name it.
        path: String,
        /// What the operating system said.
        source: Arc<std::io::Error>,
    },
    /// A file could not be written at the destination of a restore.
    #[error("{doing} {}: {source}", .path.display())]
    Destination {
        /// The verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<std::io::Error>,
    },
    /// Somebody asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// A defect of ours.
    #[error("defect: {0}")]
    Defect(String),
}

/// What a restore could not bring back.
#[derive(Clone, Debug, Default)]
pub struct DamagedFiles {
    /// How many files are hurt.
    pub files: usize,
    /// Their destinations, up to 1,000.
    pub destinations: Vec<PathBuf>,
    /// What is damaged, by pack and offset, up to 1,000.
    pub damage: Vec<Damage>,
}

impl From<muster_failpoint::Injected> for Error {
    fn from(injected: muster_failpoint::Injected) -> Self {
        Self::Defect(injected.to_string())
    }
}

impl Error {
    /// True where waiting and trying again can help.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Store(StoreError { kind: StoreErrorKind::Unavailable, .. }))
    }

    /// The same as a fault: kind, message, hint.
    #[must_use]
    pub fn fault(&self) -> Fault {
        let (kind, hint) = self.kind_and_hint();
        let fault =
            if self.is_refusal() { Fault::refused(kind, self.to_string()) } else { Fault::failed(kind, self.to_string()) }.hint(hint);
        match self {
            Self::DamagedFiles(files) => {
                let fault = files.damage.iter().take(10).fold(fault, |fault, damage| fault.evidence(damage.to_string()));
                let hurt = files.destinations.iter().take(10);
                hurt.fold(fault, |fault, path| fault.evidence(format!("not whole: {}", path.display())))
            }
            Self::Store(_)
            | Self::Key(_)
            | Self::Damaged(_)
            | Self::NoRepository { .. }
            | Self::RepositoryExists { .. }
            | Self::OtherRepository { .. }
            | Self::Newer { .. }
            | Self::NoPoint { .. }
            | Self::TooLate { .. }
            | Self::BeingRemoved { .. }
            | Self::PruneStopped { .. }
            | Self::Invalid(_)
            | Self::Source { .. }
            | Self::Destination { .. }
            | Self::Cancelled
            | Self::Defect(_) => fault,
        }
    }

    /// Said before anything was begun.
    fn is_refusal(&self) -> bool {
        match self {
            Self::Key(_)
            | Self::NoRepository { .. }
            | Self::RepositoryExists { .. }
            | Self::OtherRepository { .. }
            | Self::Newer { .. }
            | Self::NoPoint { .. }
            | Self::BeingRemoved { .. }
            | Self::Invalid(_) => true,
            Self::Store(_)
            | Self::TooLate { .. }
            | Self::PruneStopped { .. }
            | Self::Damaged(_)
            | Self::DamagedFiles(_)
            | Self::Source { .. }
            | Self::Destination { .. }
            | Self::Cancelled
            | Self::Defect(_) => false,
        }
    }

    fn kind_and_hint(&self) -> (ErrorKind, &'static str) {
        match self {
            Self::Store(error) => error.kind.kind_and_hint(),
            Self::Key(error) => error.kind_and_hint(),
            Self::Damaged(_) => {
                (ErrorKind::DataLoss, "run a check with --read-data to see what else is hurt; older points may not need this object")
            }
            Self::DamagedFiles(_) => {
                (ErrorKind::DataLoss, "everything else was restored; take an older point for the files that are named")
            }
            Self::NoRepository { .. } => {
                (ErrorKind::FailedPrecondition, "initialise one there, or correct the location (is the disk mounted?)")
            }
            Self::RepositoryExists { .. } => (ErrorKind::AlreadyExists, "use the one that is there, or choose another place"),
            Self::OtherRepository { .. } => {
                (ErrorKind::FailedPrecondition, "correct the location; nothing is written into a repository that was not pinned")
            }
            Self::Newer { .. } => (ErrorKind::Incompatible, "upgrade this side"),
            Self::NoPoint { .. } => (ErrorKind::NotFound, "list the points of the component"),
            Self::TooLate { .. } => (
                ErrorKind::FailedPrecondition,
                "take the backup again; where backups last longer than the repository's grace time, a new repository with a longer one is needed",
            ),
            Self::BeingRemoved { .. } => (ErrorKind::FailedPrecondition, "take another point: `muster points NAME` lists them"),
            Self::PruneStopped { hint, .. } => (ErrorKind::FailedPrecondition, hint),
            Self::Invalid(_) => (ErrorKind::InvalidArgument, "correct what the message names"),
            Self::Source { .. } => (ErrorKind::FailedPrecondition, "see that the file can be read by the agent's user, then back up again"),
            Self::Destination { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                (ErrorKind::ResourceExhausted, "free space at the destination, then restore again")
            }
            Self::Destination { .. } => (ErrorKind::FailedPrecondition, "see that the destination can be written by the agent's user"),
            Self::Cancelled => (ErrorKind::Cancelled, "start it again when wanted"),
            Self::Defect(_) => (ErrorKind::Internal, "please report this with the log"),
        }
    }
}

impl StoreErrorKind {
    fn kind_and_hint(self) -> (ErrorKind, &'static str) {
        match self {
            Self::Unavailable => {
                (ErrorKind::Unavailable, "see that the store can be reached from this machine; the work goes on when it answers")
            }
            Self::NotFound => (ErrorKind::NotFound, "see that bucket and prefix, or the folder, are right and that nobody removed objects"),
            Self::AlreadyExists => (ErrorKind::AlreadyExists, "nothing is ever overwritten; run a check of the repository"),
            Self::Denied => (ErrorKind::PermissionDenied, "see that the credentials may list, read and write in this place"),
            Self::Full => (ErrorKind::ResourceExhausted, "free space in the repository's file system, or raise its quota"),
            Self::Wrong => (ErrorKind::DataLoss, "run a check of the repository; the store gave back other bytes than were asked for"),
            Self::Unsupported => (ErrorKind::FailedPrecondition, "use a store or a file system that can do what the message names"),
        }
    }
}

impl KeyError {
    fn kind_and_hint(&self) -> (ErrorKind, &'static str) {
        match self {
            Self::WrongPassphrase => {
                (ErrorKind::PermissionDenied, "type the passphrase that was given when the repository was initialised")
            }
            Self::NotGranted { .. } => (ErrorKind::FailedPrecondition, "grant the component's key to this agent"),
            Self::WentBack { .. } => {
                (ErrorKind::FailedPrecondition, "an older copy of the repository stands here; find out who put it there")
            }
            Self::ProofFailed { .. } => (ErrorKind::DataLoss, "grant again; do not accept a backup before the proof succeeds"),
        }
    }

    /// The same as a fault: kind, message, hint.
    #[must_use]
    pub fn fault(&self) -> Fault {
        let (kind, hint) = self.kind_and_hint();
        Fault::refused(kind, self.to_string()).hint(hint)
    }
}
