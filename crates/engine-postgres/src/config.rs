//! What an instance's specification says, parsed once: where the server is, how to reach it, how it is started.
//!
//! Knows no sockets and no files. The agent makes it from its assignment, `muster` from its arguments.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use muster_engine::keep::Keeping;
use serde::{Deserialize, Serialize};

use crate::control::unit::ServerUnit;

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    /// TCP.
    Tcp {
        /// A name or an address; IPv6 without its brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Socket {
        /// The folder that holds `.s.PGSQL.<port>`.
        folder: PathBuf,
        /// The port that stands in the socket's name.
        port: u16,
    },
}

/// A text that is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address of a PostgreSQL server; expected host:port, or a socket folder and port as /run/postgresql:5432")]
pub struct InvalidAddress(String);

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let parse = || {
            let (host, port) = text.rsplit_once(':')?;
            let port = port.parse().ok().filter(|port| *port != 0)?;
            if host.starts_with('/') {
                return Some(Self::Socket { folder: PathBuf::from(host), port });
            }
            let host = host.strip_prefix('[').map_or(Some(host), |inner| inner.strip_suffix(']'))?;
            let good = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/');
            good.then(|| Self::Tcp { host: host.to_owned(), port })
        };
        parse().ok_or_else(|| InvalidAddress(text.chars().take(100).collect()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Socket { folder, port } => write!(f, "{}:{port}", folder.display()),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = InvalidAddress;

    fn try_from(text: String) -> Result<Self, InvalidAddress> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl Address {
    /// Its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        match self {
            Self::Tcp { port, .. } | Self::Socket { port, .. } => *port,
        }
    }
}

/// How the server is started and stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Control {
    /// By `pg_ctl`.
    PgCtl {
        /// More options for the server, as `pg_ctl -o` takes them. May be empty.
        #[serde(default)]
        options: String,
        /// Where the server's output goes; `muster-postgres.log` beside the data directory where absent.
        #[serde(default)]
        log_file: Option<PathBuf>,
    },
}

/// One PostgreSQL instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresConfig {
    /// What it is called in texts: `orders-db/istanbul`.
    pub name: String,
    /// Where the server listens.
    pub address: Address,
    /// The data directory, absolute.
    pub data_directory: PathBuf,
    /// The role to connect as.
    pub user: String,
    /// The database to connect to.
    pub database: String,
    /// A file that holds the password alone; `PGPASSWORD` or `.pgpass` where absent.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// The folder of `postgres` and `pg_ctl`; Debian's for the data's major version where absent.
    #[serde(default)]
    pub bin_directory: Option<PathBuf>,
    /// `postgresql.conf` where it lies outside of the data directory.
    #[serde(default)]
    pub config_file: Option<PathBuf>,
    /// How it is started and stopped.
    pub control: Control,
    /// The program and its first arguments that serve as the `restore_command`'s helper: `/usr/bin/muster-agent wal-get`.
    pub wal_get: Vec<String>,
    /// The unit of systemd's that servers are started in. Absent: a session of their own.
    #[serde(default)]
    pub server_unit: Option<ServerUnit>,
    /// Where its permit lies, for one that may be kept. Absent: it is only observed, backed up and restored.
    #[serde(default)]
    pub keeping: Option<Keeping>,
}

/// A configuration that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidConfig {
    /// The field.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl PostgresConfig {
    /// Checks what can be checked without looking at the machine.
    ///
    /// # Errors
    /// The first field that cannot be meant.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        let absolute = |field, path: &Path| {
            let plain = path.is_absolute() && !path.components().any(|part| matches!(part, std::path::Component::ParentDir));
            let written = path.to_str().is_some_and(|text| !text.contains(['\n', '\0', '\'', '"', '$', '`', '\\', '%']));
            if plain && written && path.parent().is_some() {
                Ok(())
            } else {
                let problem = format!("{} has to be an absolute path without '..', quotes, '$', '%' or a backslash", path.display());
                Err(InvalidConfig { field, problem })
            }
        };
        absolute("dataDirectory", &self.data_directory)?;
        for (field, path) in
            [("passwordFile", &self.password_file), ("binDirectory", &self.bin_directory), ("configFile", &self.config_file)]
        {
            path.as_deref().map_or(Ok(()), |path| absolute(field, path))?;
        }
        let Control::PgCtl { options, log_file } = &self.control;
        log_file.as_deref().map_or(Ok(()), |path| absolute("pgCtl.logFile", path))?;
        for (field, text) in [("user", &self.user), ("database", &self.database), ("pgCtl.options", options)] {
            if text.contains(['\0', '\n']) || (text.is_empty() && field != "pgCtl.options") {
                return Err(InvalidConfig { field, problem: format!("{text:?} is empty or has a line break in it") });
            }
        }
        Ok(())
    }

    /// Where the output of a server with its data in `data` goes.
    #[must_use]
    pub fn log_file(&self, data: &Path) -> PathBuf {
        let Control::PgCtl { log_file, .. } = &self.control;
        let own = log_file.as_ref().filter(|_| data == self.data_directory);
        own.cloned().unwrap_or_else(|| data.parent().unwrap_or(data).join(log_name(data)))
    }
}

/// `muster-postgres.log` beside the instance's own data; a copy beside it gets its folder's name into it.
fn log_name(data: &Path) -> String {
    data.file_name().map_or_else(|| "muster-postgres.log".into(), |name| format!("muster-postgres-{}.log", name.to_string_lossy()))
}

#[cfg(test)]
pub(crate) fn example(data: &str) -> PostgresConfig {
    PostgresConfig {
        name: "orders-db/istanbul".into(),
        address: Address::Tcp { host: "127.0.0.1".into(), port: 5432 },
        data_directory: data.into(),
        user: "muster".into(),
        database: "postgres".into(),
        password_file: None,
        bin_directory: None,
        config_file: None,
        control: Control::PgCtl { options: String::new(), log_file: None },
        wal_get: vec!["/usr/bin/muster-agent".into(), "wal-get".into()],
        server_unit: None,
        keeping: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_or_socket_folders() {
        for text in ["10.1.0.5:5432", "db.example:6000", "[::1]:5432", "/run/postgresql:5432"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for bad in ["", "host", "host:", ":5432", "host:0", "host:70000", "[::1:5432", "a b:1", "run/x:5432"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_that_could_leave_their_quotes_are_refused() {
        assert_eq!(example("/srv/pg").check(), Ok(()));
        for bad in ["srv/pg", "/", "/srv/../pg", "/srv/p'g", "/srv/$pg", "/srv/p%g", "/srv/p\ng"] {
            assert_eq!(example(bad).check().unwrap_err().field, "dataDirectory", "{bad}");
        }
        let mut config = example("/srv/pg");
        config.user = String::new();
        assert_eq!(config.check().unwrap_err().field, "user");
    }
}
