//! PostgreSQL's own client programs on this machine: found, held against the server's version, run with the instance's login.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use muster_common::fault::{ErrorKind, Fault};

use crate::config::{Address, PostgresConfig};
use crate::password;

/// The newest major version whose folder is looked for.
const NEWEST: u32 = 40;

/// The programs of one version.
#[derive(Clone, Debug)]
pub struct Programs {
    bin: PathBuf,
}

impl Programs {
    /// The programs that know a server of `major`: of the instance's own folder, else Debian's of the same version or the next newer one.
    ///
    /// # Errors
    /// Where there are none, or they are older than the server: with the package to install.
    pub async fn find(config: &PostgresConfig, major: u32, names: &[&str]) -> Result<Self, Fault> {
        let package = format!("install postgresql-client-{major} on the agent's machine (Debian), or set the instance's binDirectory");
        let folders = match &config.bin_directory {
            Some(own) => vec![own.clone()],
            None => (major..=NEWEST).map(|version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin"))).collect(),
        };
        let whole = |bin: &PathBuf| names.iter().all(|name| bin.join(name).is_file());
        let Some(bin) = folders.into_iter().find(whole) else {
            let message = format!("{} for PostgreSQL {major} are not on this machine", names.join(" and "));
            return Err(Fault::refused(ErrorKind::FailedPrecondition, message).hint(package));
        };
        for name in names {
            let has = version(bin.clone(), (*name).to_owned()).await?;
            if has < major {
                let message = format!("{} is of version {has} and does not know a server of version {major}", bin.join(name).display());
                return Err(Fault::refused(ErrorKind::FailedPrecondition, message).hint(package));
            }
        }
        Ok(Self { bin })
    }

    /// A program that talks to the instance's server. The password stands in its environment, never among its arguments.
    ///
    /// # Errors
    /// Where the password cannot be read.
    pub fn command(&self, program: &str, config: &PostgresConfig, database: &str) -> Result<Command, Fault> {
        let mut command = Command::new(self.bin.join(program));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").env("PGAPPNAME", "muster dump").current_dir("/");
        command.env("PGOPTIONS", "-c statement_timeout=0 -c idle_session_timeout=0 -c idle_in_transaction_session_timeout=0");
        match &config.address {
            Address::Tcp { host, port } => command.env("PGHOST", host).env("PGPORT", port.to_string()),
            Address::Socket { folder, port } => command.env("PGHOST", folder).env("PGPORT", port.to_string()),
        };
        // In the environment a name is a name; on the command line one with '=' in it would be taken for a connection string.
        command.env("PGUSER", &config.user).env("PGDATABASE", database).arg("--no-password");
        if let Some(password) = password::find(config)? {
            command.env("PGPASSWORD", <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(password.bytes()));
        }
        Ok(command)
    }
}

/// `pg_dump (PostgreSQL) 15.20 (Debian …)`.
async fn version(bin: PathBuf, name: String) -> Result<u32, Fault> {
    let program = bin.join(name);
    let shown = program.display().to_string();
    let failed = |why: String| {
        Fault::refused(ErrorKind::FailedPrecondition, format!("{shown} --version: {why}"))
            .hint("reinstall it, or correct the instance's binDirectory")
    };
    let asked = tokio::task::spawn_blocking(move || Command::new(program).arg("--version").stdin(Stdio::null()).output()).await;
    let output = asked.map_err(|ended| failed(ended.to_string()))?.map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    major_of(&text).ok_or_else(|| failed(format!("{text:?} names no version")))
}

fn major_of(text: &str) -> Option<u32> {
    let number = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_version_is_read_from_what_it_says() {
        assert_eq!(major_of("pg_dump (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"), Some(15));
        assert_eq!(major_of("pg_dump (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major_of("pg_dump"), None);
    }
}
