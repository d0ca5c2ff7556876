//! The password that the agent logs in with: from a file, the environment, or libpq's password file, on this machine.
//!
//! It never reaches a log or an error: the type shows nothing of it.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use muster_common::fault::{ErrorKind, Fault};

use crate::config::{Address, PostgresConfig};

/// A password file that is larger than this is none.
const MAX_FILE: u64 = 64 * 1024;

/// A password.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Vec<u8>);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl Password {
    /// Its bytes, for the one who logs in.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Looks the password up. `None`: there is none, which peer and trust authentication need not.
///
/// # Errors
/// Where a file that is named cannot be read, or others can read it.
pub fn find(config: &PostgresConfig) -> Result<Option<Password>, Fault> {
    if let Some(path) = &config.password_file {
        let text = read_private(path)?;
        let line = text.lines().next().unwrap_or_default();
        return Ok(Some(Password(line.as_bytes().to_vec())));
    }
    if let Some(word) = std::env::var_os("PGPASSWORD").filter(|word| !word.is_empty()) {
        return Ok(Some(Password(std::os::unix::ffi::OsStringExt::into_vec(word))));
    }
    let Some(path) = pgpass_path().filter(|path| path.is_file()) else { return Ok(None) };
    let text = read_private(&path)?;
    Ok(look_up(&text, &config.address, &config.database, &config.user))
}

/// Looks a password up in a file in libpq's format.
///
/// # Errors
/// Where it cannot be read, or others can read it.
pub fn find_in(path: &Path, address: &Address, database: &str, user: &str) -> Result<Option<Password>, Fault> {
    Ok(look_up(&read_private(path)?, address, database, user))
}

fn pgpass_path() -> Option<PathBuf> {
    let named = std::env::var_os("PGPASSFILE").map(PathBuf::from);
    named.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".pgpass")))
}

fn read_private(path: &Path) -> Result<String, Fault> {
    let refused = |why: String| {
        Fault::refused(ErrorKind::FailedPrecondition, format!("read password file {}: {why}", path.display()))
            .hint("make it a small file that the agent's user alone can read (mode 0600), or name another one")
    };
    let meta = std::fs::metadata(path).map_err(|error| refused(error.to_string()))?;
    if !meta.is_file() || meta.len() > MAX_FILE {
        return Err(refused(format!("it is no file of at most {MAX_FILE} bytes")));
    }
    if meta.permissions().mode() & 0o077 != 0 {
        return Err(refused("others than its owner can read it".into()));
    }
    std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))
}

/// The first line of `hostname:port:database:username:password` that fits (PostgreSQL manual, "The Password File").
fn look_up(text: &str, address: &Address, database: &str, user: &str) -> Option<Password> {
    let port = address.port().to_string();
    let hosts = match address {
        Address::Tcp { host, .. } => vec![host.clone()],
        Address::Socket { folder, .. } => vec![folder.to_string_lossy().into_owned(), "localhost".into()],
    };
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = split(line);
        let [host, of_port, of_database, of_user, password] = fields.as_slice() else { return None };
        let fits = |pattern: &str, value: &str| pattern == "*" || pattern == value;
        let all = hosts.iter().any(|one| fits(host, one)) && fits(of_port, &port) && fits(of_database, database) && fits(of_user, user);
        all.then(|| Password(password.clone().into_bytes()))
    })
}

/// Splits at the first four colons; a backslash takes the next character as it is.
fn split(line: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ':' if fields.len() < 4 => fields.push(std::mem::take(&mut field)),
            '\\' => field.extend(chars.next()),
            other => field.push(other),
        }
    }
    fields.push(field);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_password_file_that_fits_counts() {
        let text = "# comment\nother:5432:*:*:no\n10.1.0.5:5432:postgres:muster:a\\:b\\\\c:d\n*:*:*:*:last\n";
        let address = "10.1.0.5:5432".parse().unwrap();
        assert_eq!(look_up(text, &address, "postgres", "muster"), Some(Password(b"a:b\\c:d".to_vec())));
        assert_eq!(look_up(text, &address, "postgres", "else"), Some(Password(b"last".to_vec())));
        assert_eq!(look_up("x:1:a:b:c\nshort\n", &address, "postgres", "muster"), None);
        let socket = "/run/postgresql:5432".parse().unwrap();
        assert_eq!(look_up("localhost:*:*:muster:s", &socket, "postgres", "muster"), Some(Password(b"s".to_vec())));
    }

    #[test]
    fn a_password_is_never_shown_and_a_file_that_others_can_read_is_refused() {
        assert_eq!(format!("{:?}", Password(b"secret".to_vec())), "Password(…)");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "secret\n").unwrap();
        let mut config = crate::config::example("/srv/pg");
        config.password_file = Some(path.clone());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let fault = find(&config).unwrap_err();
        assert!(fault.message.contains("others than its owner") && !fault.to_string().contains("secret"), "{fault}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(find(&config).unwrap(), Some(Password(b"secret".to_vec())));
    }
}
