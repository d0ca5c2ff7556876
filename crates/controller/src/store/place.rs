//! Where a store is: a file, or a database of a PostgreSQL server, named by a URL that holds no password.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use muster_service::files;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// The longest password file, in bytes.
const MOST_PASSWORD: u64 = 4 << 10;
/// What a URL may say after its `?`.
const PARAMETERS: [&str; 8] = ["sslmode", "sslrootcert", "sslcert", "sslkey", "host", "port", "dbname", "user"];

/// Where a store is.
#[derive(Clone, Debug)]
pub enum Place {
    /// A SQLite file.
    File(PathBuf),
    /// A database of a PostgreSQL server.
    Server(Server),
}

/// A database of a PostgreSQL server, and how it is reached.
#[derive(Clone)]
pub struct Server {
    options: Box<PgConnectOptions>,
    shown: String,
}

/// Why a text names no store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidPlace(String);

impl Place {
    /// A path, or `postgres://USER@HOST:PORT/DATABASE?sslmode=…`. The password of a server is the first line of `password`, or, without it, what
    /// `PGPASSWORD` or `~/.pgpass` say. A server that is not on this machine is asked for a certificate of its name unless the URL says otherwise.
    ///
    /// # Errors
    /// Where it is neither, holds a password, says something that does not count, or the password's file cannot be read.
    pub fn parse(text: &str, password: Option<&Path>) -> Result<Self, InvalidPlace> {
        let Some(rest) = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://")) else {
            let path = PathBuf::from(text.strip_prefix("sqlite:").unwrap_or(text));
            if path.is_absolute() && !text.contains("://") {
                return Ok(Self::File(path));
            }
            return Err(InvalidPlace(format!(
                "{:?} is no store: expected an absolute path or postgres://USER@HOST:PORT/DATABASE",
                without_password(text)
            )));
        };
        check_form(rest)?;
        let options = PgConnectOptions::from_str(text).map_err(|error| InvalidPlace(format!("{text}: {error}")))?;
        if options.get_database().is_none_or(str::is_empty) {
            return Err(InvalidPlace(format!("{text} names no database: expected postgres://USER@HOST:PORT/DATABASE")));
        }
        let shown = shown(&options);
        let said = text.contains("sslmode=") || std::env::var_os("PGSSLMODE").is_some();
        let options = if said || is_here(&options) { options } else { options.ssl_mode(PgSslMode::VerifyFull) };
        let options = match password {
            None => options,
            Some(path) => {
                let text = files::read_text(path, MOST_PASSWORD).map_err(|error| InvalidPlace(format!("the store's password: {error}")))?;
                options.password(text.lines().next().unwrap_or(""))
            }
        };
        Ok(Self::Server(Server { options: Box::new(options), shown }))
    }
}

/// A password in a URL would stand in configurations, process lists and logs.
fn check_form(rest: &str) -> Result<(), InvalidPlace> {
    let (front, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = front.split('/').next().unwrap_or("");
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    let names: Vec<&str> = query.split('&').filter(|part| !part.is_empty()).map(|part| part.split('=').next().unwrap_or("")).collect();
    if user.contains(':') || names.contains(&"password") {
        return Err(InvalidPlace(
            "the URL holds a password; HINT: put it into a file that only the controller can read, and name it as \
             storePasswordFile"
                .into(),
        ));
    }
    match names.iter().find(|name| !PARAMETERS.contains(name)) {
        Some(unknown) => Err(InvalidPlace(format!("the URL says {unknown:?}, which does not count; expected {}", PARAMETERS.join(", ")))),
        None => Ok(()),
    }
}

fn without_password(text: &str) -> String {
    text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, end)| format!("…@{end}"))
}

fn is_here(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    options.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn shown(options: &PgConnectOptions) -> String {
    let host = options.get_socket().map_or_else(|| options.get_host().to_owned(), |socket| socket.display().to_string());
    let database = options.get_database().unwrap_or("");
    format!("postgres://{}@{host}:{}/{database}", options.get_username(), options.get_port())
}

impl Server {
    /// How it is reached.
    pub(super) fn options(&self) -> PgConnectOptions {
        (*self.options).clone()
    }

    /// The database's name.
    pub(super) fn database(&self) -> &str {
        self.options.get_database().unwrap_or("")
    }

    /// Whether what goes over the network is neither encrypted nor proved.
    #[must_use]
    pub fn is_unprotected(&self) -> bool {
        match self.options.get_ssl_mode() {
            PgSslMode::VerifyFull | PgSslMode::VerifyCa => false,
            PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer | PgSslMode::Require => !is_here(&self.options),
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.shown)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(formatter, "{}", path.display()),
            Self::Server(server) => formatter.write_str(&server.shown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_path_or_a_server_and_never_shows_a_password() {
        assert_eq!(Place::parse("/var/lib/muster/x.db", None).unwrap().to_string(), "/var/lib/muster/x.db");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "hidden\n").unwrap();
        let place = Place::parse("postgres://muster@db1.example:5433/muster", Some(&file)).unwrap();
        assert_eq!(place.to_string(), "postgres://muster@db1.example:5433/muster");
        assert!(!format!("{place:?}").contains("hidden"));
        match place {
            Place::Server(server) => assert!(matches!(server.options.get_ssl_mode(), PgSslMode::VerifyFull) && !server.is_unprotected()),
            Place::File(path) => panic!("{path:?}"),
        }
    }

    #[test]
    fn what_is_no_place_is_refused_with_what_was_expected() {
        for (text, part) in [
            ("muster.db", "absolute path"),
            ("mysql://x/y", "absolute path"),
            ("postgres://muster:hidden@db1/muster", "storePasswordFile"),
            ("postgres://muster@db1/muster?password=hidden", "storePasswordFile"),
            ("postgres://muster@db1/muster?sslmod=disable", "sslmode"),
            ("postgres://muster@db1", "no database"),
        ] {
            let refused = Place::parse(text, None).unwrap_err().to_string();
            assert!(refused.contains(part) && !refused.contains("hidden"), "{text}: {refused}");
        }
        assert!(Place::parse("postgres://muster@db1/muster", Some(Path::new("/nowhere"))).unwrap_err().to_string().contains("/nowhere"));
    }
}
