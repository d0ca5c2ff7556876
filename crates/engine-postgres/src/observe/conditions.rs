//! The conditions of an instance: their names, what is said when they hold and when not, and what to type then.

use muster_engine::observation::Condition;

use crate::config::PostgresConfig;
use crate::data_directory;
use crate::rights::{self, Right};

/// The oldest major version that is served.
pub const OLDEST_MAJOR: i32 = 15;

/// A condition that holds.
#[must_use]
pub fn good(name: &str, blocking: bool, message: impl Into<String>) -> Condition {
    Condition { name: name.to_owned(), ok: true, blocking, message: message.into(), hint: String::new() }
}

/// A condition that does not hold.
#[must_use]
pub fn bad(name: &str, blocking: bool, message: impl Into<String>, hint: impl Into<String>) -> Condition {
    Condition { name: name.to_owned(), ok: false, blocking, message: message.into(), hint: hint.into() }
}

/// `Version`: PostgreSQL 15 or newer.
#[must_use]
pub fn version(number: i32, text: &str) -> Condition {
    if number / 10_000 >= OLDEST_MAJOR {
        good("Version", true, format!("PostgreSQL {text}"))
    } else {
        bad(
            "Version",
            true,
            format!("PostgreSQL {text} is older than {OLDEST_MAJOR}"),
            format!("upgrade the cluster to PostgreSQL {OLDEST_MAJOR} or newer (pg_upgrade)"),
        )
    }
}

/// `BackupRights`: what the role may not do.
#[must_use]
pub fn backup_rights(missing: &[Right], user: &str) -> Condition {
    if missing.is_empty() {
        return good("BackupRights", true, format!("role {user} has all rights that backups need"));
    }
    let names: Vec<_> = missing.iter().map(|right| right.name()).collect();
    bad(
        "BackupRights",
        true,
        format!("role {user} lacks {}", names.join(", ")),
        format!("as a superuser: {}", rights::grants(missing, user)),
    )
}

/// `DataDirectory` as far as the disk alone tells it: the server could not be asked.
#[must_use]
pub fn data_directory_alone(config: &PostgresConfig) -> Condition {
    let path = config.data_directory.display();
    match data_directory::control_file(&config.data_directory) {
        Ok(control) => good(
            "DataDirectory",
            true,
            format!("{path} holds cluster {}; the server could not be asked whether it is its own", control.system_id),
        ),
        Err(error) => bad(
            "DataDirectory",
            true,
            format!("{path}: {error}"),
            "correct the instance's dataDirectory, or run the agent as the owner of that folder; an empty place is filled by a restore",
        ),
    }
}
