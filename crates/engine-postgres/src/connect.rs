//! Ordinary connections to the server, and what a refused one means.

use std::time::Duration;

use muster_common::fault::{ErrorKind, Fault};
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use crate::config::{Address, PostgresConfig};
use crate::password;

/// How long a connection may take to come up.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// A connection; its driver ends with it.
#[derive(Debug)]
pub struct Session {
    /// The client half.
    pub client: tokio_postgres::Client,
    driver: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// What a session is for; sets how long one statement may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A look: statements end after 4 s.
    Observe,
    /// A backup: the checkpoint at its start may take long.
    Backup,
}

/// Why a connection did not come up.
#[derive(Clone, Debug)]
pub enum ConnectError {
    /// Nothing listens there.
    NotThere(String),
    /// A server answers that it starts, stops or recovers, and lets nobody in yet.
    NotYet(String),
    /// A server has no connection left, for anybody or for this role.
    Full(String),
    /// Something listens and does not answer.
    Silent(String),
    /// A server answered and refuses this login.
    Refused(String),
    /// The agent's own side: the password file.
    Own(Fault),
}

impl ConnectError {
    /// The same as a fault about `config`'s server.
    #[must_use]
    pub fn fault(&self, config: &PostgresConfig) -> Fault {
        let at = format!("connect to PostgreSQL of {} at {} as {}", config.name, config.address, config.user);
        match self {
            Self::NotThere(why) => Fault::refused(ErrorKind::FailedPrecondition, format!("{at}: {why}"))
                .hint("start the server, or correct the instance's address; the server's log tells why it does not run"),
            Self::NotYet(why) => Fault::refused(ErrorKind::FailedPrecondition, format!("{at}: {why}"))
                .hint("wait until it lets clients in; the server's log tells how far it is"),
            Self::Full(why) => Fault::refused(ErrorKind::FailedPrecondition, format!("{at}: {why}")).hint(format!(
                "end sessions that idle (SELECT pid, state, query FROM pg_stat_activity), or raise max_connections, or the role's own limit: \
                 ALTER ROLE {} CONNECTION LIMIT -1",
                crate::rights::identifier(&config.user),
            )),
            Self::Silent(why) => Fault::refused(ErrorKind::FailedPrecondition, format!("{at}: {why}"))
                .hint("look at the machine's load and disks, at what stands between, and at the server's log"),
            Self::Refused(why) => Fault::refused(ErrorKind::FailedPrecondition, format!("{at}: {why}")).hint(format!(
                "make the role and let it in: CREATE ROLE {user} LOGIN REPLICATION; and a line for it in pg_hba.conf, for \"{database}\" and for \"replication\"; \
                 put its password into the instance's passwordFile or into .pgpass of the agent's user",
                user = crate::rights::identifier(&config.user),
                database = config.database,
            )),
            Self::Own(fault) => fault.clone(),
        }
    }
}

/// Connects to the instance's server.
///
/// # Errors
/// Where nothing answers in 4 s, or the login is refused.
pub async fn connect(config: &PostgresConfig, purpose: Purpose) -> Result<Session, ConnectError> {
    connect_to(config, &config.address, purpose).await
}

/// Connects to another address with the instance's role: a copy beside it.
///
/// # Errors
/// As [`connect`].
pub async fn connect_to(config: &PostgresConfig, address: &Address, purpose: Purpose) -> Result<Session, ConnectError> {
    let mut settings = tokio_postgres::Config::new();
    settings.user(&config.user).dbname(&config.database).connect_timeout(CONNECT_TIMEOUT).port(address.port());
    settings.application_name(match purpose {
        Purpose::Observe => "muster observe",
        Purpose::Backup => "muster backup",
    });
    settings.options(match purpose {
        Purpose::Observe => "-c statement_timeout=4000 -c lock_timeout=2000 -c client_min_messages=error -c search_path=pg_catalog",
        Purpose::Backup => "-c statement_timeout=0 -c idle_session_timeout=0 -c client_min_messages=error -c search_path=pg_catalog",
    });
    match address {
        Address::Tcp { host, .. } => settings.host(host),
        Address::Socket { folder, .. } => settings.host_path(folder),
    };
    settings.keepalives_idle(Duration::from_secs(10)).keepalives_interval(Duration::from_secs(5)).keepalives_retries(3);
    if let Some(password) = password::find(config).map_err(ConnectError::Own)? {
        settings.password(password.bytes());
    }
    connect_by(&settings).await
}

/// Connects by settings of the caller's own: to a server that the caller started itself.
///
/// # Errors
/// As [`connect`].
pub async fn connect_by(settings: &tokio_postgres::Config) -> Result<Session, ConnectError> {
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, settings.connect(NoTls));
    let (client, connection) = match connecting.await {
        Ok(connected) => connected.map_err(|error| judge(&error))?,
        Err(_) => return Err(ConnectError::Silent(format!("no answer in {} s", CONNECT_TIMEOUT.as_secs()))),
    };
    let driver = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to PostgreSQL ended");
        }
    });
    Ok(Session { client, driver })
}

fn judge(error: &tokio_postgres::Error) -> ConnectError {
    match error.as_db_error() {
        Some(answer) if *answer.code() == SqlState::CANNOT_CONNECT_NOW => ConnectError::NotYet(answer.message().to_owned()),
        Some(answer) if *answer.code() == SqlState::TOO_MANY_CONNECTIONS => ConnectError::Full(answer.message().to_owned()),
        Some(answer) => ConnectError::Refused(answer.message().to_owned()),
        None => {
            let text = tell(error);
            let login = text.contains("password missing") || text.contains("authentication");
            if login { ConnectError::Refused(text) } else { ConnectError::NotThere(text) }
        }
    }
}

/// An error of the client library with what lies behind it.
#[must_use]
pub fn tell(error: &tokio_postgres::Error) -> String {
    if let Some(answer) = error.as_db_error() {
        return format!("{} ({})", answer.message(), answer.code().code());
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
