//! Which user a server runs as. PostgreSQL refuses to run as root, and an agent runs as the owner of its data; only root can
//! start a process as another user, so that the tests on real servers need root and say so.

use anyhow::{Context as _, Result, bail};

/// Who a process runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunAs {
    /// As this process.
    Caller,
    /// As Debian's user `postgres`.
    Postgres,
}

/// User and group id of `postgres`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    pub uid: u32,
    pub gid: u32,
}

/// The user `postgres`, which this process may become.
///
/// # Errors
/// Where there is no such user or this process may not start anything as another user.
pub fn postgres() -> Result<Account> {
    let users = std::fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
    let Some(account) = users.lines().find_map(|line| parse(line, "postgres")) else {
        bail!("PostgreSQL runs as the user `postgres`, and there is none here: install postgresql-15 (as root: make setup)");
    };
    let own = rustix::process::geteuid().as_raw();
    if own != 0 && own != account.uid {
        bail!("the tests on real servers start PostgreSQL as the user `postgres`, which only root can do: run this as root");
    }
    Ok(account)
}

fn parse(line: &str, name: &str) -> Option<Account> {
    let mut fields = line.split(':');
    if fields.next() != Some(name) {
        return None;
    }
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(Account { uid, gid })
}

#[cfg(test)]
mod tests {
    use super::{Account, parse};

    #[test]
    fn a_line_of_the_user_list_is_read() {
        let line = "postgres:x:101:104:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash";
        assert_eq!(parse(line, "postgres"), Some(Account { uid: 101, gid: 104 }));
        assert_eq!(parse(line, "post"), None);
        assert_eq!(parse("postgres:x", "postgres"), None);
    }
}
