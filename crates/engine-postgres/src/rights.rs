//! Which rights the agent's role needs, and the SQL that gives those which are missing. Pure.

/// One right, as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// To stream the log.
    Replication,
    /// `pg_backup_start(text, boolean)`.
    BackupStart,
    /// `pg_backup_stop(boolean)`.
    BackupStop,
    /// To read settings and statistics: member of `pg_monitor`.
    Monitor,
}

/// All of them.
pub const RIGHTS: [Right; 4] = [Right::Replication, Right::BackupStart, Right::BackupStop, Right::Monitor];

impl Right {
    /// What it is, in words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Replication => "the REPLICATION attribute",
            Self::BackupStart => "EXECUTE on pg_backup_start",
            Self::BackupStop => "EXECUTE on pg_backup_stop",
            Self::Monitor => "membership of pg_monitor",
        }
    }

    /// The statement that gives it to `user`, to be run by a superuser in the database that the agent connects to.
    #[must_use]
    pub fn grant(self, user: &str) -> String {
        let user = identifier(user);
        match self {
            Self::Replication => format!("ALTER ROLE {user} REPLICATION;"),
            Self::BackupStart => format!("GRANT EXECUTE ON FUNCTION pg_catalog.pg_backup_start(text, boolean) TO {user};"),
            Self::BackupStop => format!("GRANT EXECUTE ON FUNCTION pg_catalog.pg_backup_stop(boolean) TO {user};"),
            Self::Monitor => format!("GRANT pg_monitor TO {user};"),
        }
    }
}

/// The SQL that gives `missing` to `user`.
#[must_use]
pub fn grants(missing: &[Right], user: &str) -> String {
    missing.iter().map(|right| right.grant(user)).collect::<Vec<_>>().join(" ")
}

/// A role's or database's name, quoted.
#[must_use]
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as an SQL literal that no setting can make mean something else.
#[must_use]
pub fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sql_names_the_role_whatever_it_is_called() {
        assert_eq!(
            grants(&[Right::Replication, Right::BackupStop], "a \"b\""),
            "ALTER ROLE \"a \"\"b\"\"\" REPLICATION; GRANT EXECUTE ON FUNCTION pg_catalog.pg_backup_stop(boolean) TO \"a \"\"b\"\"\";"
        );
        assert_eq!(literal("it's \\"), "E'it\\'s \\\\'");
    }
}
