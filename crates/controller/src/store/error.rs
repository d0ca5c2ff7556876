//! What can go wrong with the store.

use std::path::PathBuf;

use muster_common::counter::{EventNumber, Term};
use muster_common::fault::{Effect, ErrorKind, Fault};

/// Why the store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("open the store {place}: it is open: {holder}")]
    Locked {
        /// The store's file or URL.
        place: String,
        /// Who has it open, in words.
        holder: String,
    },
    /// A server that cannot hold a store.
    #[error("open the store {place}: {why}")]
    UnfitServer {
        /// Its URL.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// The store's server cannot be reached now.
    #[error("the store {place} cannot be reached")]
    Away {
        /// Its URL.
        place: String,
        /// Why, as it was last seen.
        why: String,
    },
    /// This process may not write any more.
    #[error("{why}")]
    Ended {
        /// Why.
        why: String,
    },
    /// It was made by a newer build.
    #[error("open the store: its schema is version {found} and this build knows {known}")]
    NewerSchema {
        /// The version in the file.
        found: i64,
        /// The newest that this build knows.
        known: i64,
    },
    /// It was made by an older build and was not opened by a controller of this one yet.
    #[error("open the store {place}: its schema is version {found} and this build's is {known}")]
    OlderSchema {
        /// Its file or URL.
        place: String,
        /// The version there.
        found: i64,
        /// This build's.
        known: i64,
    },
    /// Where a store was expected there is none.
    #[error("there is no store in {place}")]
    NoStore {
        /// The file or URL.
        place: String,
    },
    /// What should be empty is not.
    #[error("{place} is not empty: nothing was written to it")]
    NotEmpty {
        /// The file or URL.
        place: String,
    },
    /// A migration's text is not the one that the store was made with.
    #[error("open the store: migration {version} is not the one that this store was made with")]
    ChangedMigration {
        /// Its version.
        version: i64,
    },
    /// The term moved: this process rules no longer.
    #[error("write to the store: its term is {stored} and this process rules in {ours}; another controller took over")]
    Superseded {
        /// Ours.
        ours: Term,
        /// The store's.
        stored: Term,
    },
    /// The end of 63 bits.
    #[error("terms are used up")]
    TermsUsedUp,
    /// A file or folder cannot be used.
    #[error("use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file or database is no store that can be opened.
    #[error("open the store {place}")]
    Open {
        /// The store's file or URL.
        place: String,
        /// Why.
        source: sqlx::Error,
    },
    /// A row holds what this build cannot read.
    #[error("read {what} {id}: {why}")]
    Corrupt {
        /// The table's noun.
        what: &'static str,
        /// Which row.
        id: String,
        /// What is wrong with it.
        why: String,
    },
    /// Events that were dropped, or are not there yet, are asked for.
    #[error("events after {asked} are not kept: the oldest kept is {oldest}, the newest {newest}")]
    EventsGone {
        /// After which.
        asked: EventNumber,
        /// The oldest that is kept.
        oldest: EventNumber,
        /// The newest.
        newest: EventNumber,
    },
    /// What was written together with others failed with all of them.
    #[error(transparent)]
    Together(std::sync::Arc<StoreError>),
    /// Others kept the store busy for too long.
    #[error("the store is busy: no turn within 10 s")]
    Busy,
    /// The database's own.
    #[error("the store")]
    Database(#[source] sqlx::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            // A pool whose connections are all taken; one that cannot connect says so itself.
            sqlx::Error::PoolTimedOut => Self::Busy,
            error => Self::Database(error),
        }
    }
}

impl StoreError {
    /// As an operator is told it. Nothing that failed here was written: every write is one transaction.
    #[must_use]
    pub fn fault(&self) -> Fault {
        let fault = |kind, hint: &str| Fault::refused(kind, self.to_string()).hint(hint);
        let why = if let Self::Away { why, .. } = self { Some(why.clone()) } else { None };
        let cause = why.or_else(|| std::error::Error::source(self).map(ToString::to_string));
        let told = match self {
            Self::Locked { .. } => fault(ErrorKind::Conflict, "stop the other controller, or give this one a state_directory of its own"),
            Self::NewerSchema { .. } => {
                fault(ErrorKind::Incompatible, "run the newer muster-controller, or restore the store from before its upgrade")
            }
            Self::ChangedMigration { .. } => fault(ErrorKind::Incompatible, "run the muster-controller that this store was made with"),
            Self::Superseded { .. } => fault(ErrorKind::Unavailable, "ask the controller that rules now; this one has to be restarted"),
            Self::TermsUsedUp | Self::Corrupt { .. } => {
                fault(ErrorKind::Internal, "restore the store from its backup and report this as a defect").effect(Effect::None)
            }
            Self::EventsGone { oldest, .. } => {
                let before = oldest.0.saturating_sub(1);
                fault(ErrorKind::OutOfRange, &format!("list what is now, then watch after event {before}"))
            }
            Self::OlderSchema { .. } => fault(ErrorKind::FailedPrecondition, "start this build's controller on it once, and stop it"),
            Self::NoStore { .. } => fault(ErrorKind::NotFound, "name the store that the controller runs on: `store` in its configuration"),
            Self::NotEmpty { .. } => fault(ErrorKind::FailedPrecondition, "name a file that does not exist, or a new database"),
            Self::UnfitServer { .. } => fault(ErrorKind::FailedPrecondition, "name another server or database as `store`"),
            Self::Away { .. } => fault(
                ErrorKind::Unavailable,
                "look at the store's PostgreSQL server and the way to it; the controller goes on by itself when it is back",
            ),
            Self::Ended { .. } => {
                fault(ErrorKind::Unavailable, "ask again when the controller has been restarted; it ends by itself").effect(Effect::Unknown)
            }
            Self::Together(error) => return error.fault(),
            Self::Busy => fault(
                ErrorKind::Unavailable,
                "try again in a few seconds; where it stays so, look at how fast the disk of the controller's state directory takes what is \
                 written, and at how much the controller is asked for",
            ),
            Self::File { .. } => fault(ErrorKind::Unavailable, DISK),
            Self::Open { source, .. } | Self::Database(source) => fault(ErrorKind::Unavailable, hint(source)),
        };
        match cause {
            Some(cause) => told.evidence(cause),
            None => told,
        }
    }
}

const DISK: &str = "look at the disk of the controller's state directory: space, rights, errors";

fn hint(error: &sqlx::Error) -> &'static str {
    match error {
        sqlx::Error::PoolTimedOut => {
            "look at the store's PostgreSQL server: it is busy, or takes no connection; it is tried again by itself"
        }
        sqlx::Error::Database(database) if database.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() => {
            "look at the store's PostgreSQL server and its log: space, rights, connections"
        }
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => {
            "look at the store's PostgreSQL server and the way to it; the controller goes on by itself when it is back"
        }
        _ => DISK,
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        error.fault()
    }
}
