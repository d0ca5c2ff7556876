//! What a dump has to know of the server first: its version, its databases, whether the role may read passwords.

use muster_common::fault::{ErrorKind, Fault};
use muster_engine::request::DumpScope;

use crate::config::PostgresConfig;
use crate::connect::{self, Purpose, Session, tell};
use crate::dump::message::{Dumped, file_name};

/// What was read.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// 150020.
    pub version: u32,
    /// 15.
    pub major: u32,
    /// Whether the instance's role is a superuser.
    pub superuser: bool,
    /// Databases that take connections, templates left out, in the order of their names.
    pub databases: Vec<Dumped>,
}

impl Catalog {
    /// Reads it.
    ///
    /// # Errors
    /// Where the server cannot be asked.
    pub async fn read(config: &PostgresConfig) -> Result<Self, Fault> {
        let session = connect::connect(config, Purpose::Observe).await.map_err(|error| error.fault(config))?;
        Self::ask(&session).await.map_err(|error| {
            Fault::refused(ErrorKind::FailedPrecondition, format!("ask {} for its databases: {}", config.name, tell(&error)))
                .hint("see the server's log")
        })
    }

    async fn ask(session: &Session) -> Result<Self, tokio_postgres::Error> {
        let sql = "SELECT current_setting('server_version_num')::int, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)";
        let row = session.client.query_one(sql, &[]).await?;
        let version = u32::try_from(row.try_get::<_, i32>(0)?).unwrap_or_default();
        let sql = "SELECT datname::text, pg_encoding_to_char(encoding)::text, datcollate::text, datctype::text
            FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname";
        let mut databases = Vec::new();
        for row in session.client.query(sql, &[]).await? {
            let name: String = row.try_get(0)?;
            databases.push(Dumped {
                file: file_name(&name),
                name,
                encoding: row.try_get(1)?,
                collate: row.try_get::<_, Option<String>>(2)?.unwrap_or_default(),
                ctype: row.try_get::<_, Option<String>>(3)?.unwrap_or_default(),
            });
        }
        Ok(Self { version, major: version / 10_000, superuser: row.try_get(1)?, databases })
    }

    /// The databases that the scope names; all where it names none.
    ///
    /// # Errors
    /// Where it names one that is not there.
    pub fn chosen(&self, instance: &str, scope: &DumpScope) -> Result<Vec<Dumped>, Fault> {
        let there: Vec<&str> = self.databases.iter().map(|database| database.name.as_str()).collect();
        if let Some(absent) = scope.databases.iter().find(|name| !there.contains(&name.as_str())) {
            return Err(Fault::refused(ErrorKind::NotFound, format!("dump {instance}: there is no database {absent:?}"))
                .hint(format!("there are: {}", there.join(", "))));
        }
        let wanted = |database: &&Dumped| scope.databases.is_empty() || scope.databases.contains(&database.name);
        Ok(self.databases.iter().filter(wanted).cloned().collect())
    }
}
