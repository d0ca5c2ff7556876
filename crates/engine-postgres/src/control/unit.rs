//! A unit of systemd's for a server that is started here: in the agent's own unit it would be counted to the agent, live in the agent's
//! sandbox, and be ended without a checkpoint when the machine shuts down.
//!
//! The unit is a template that an administrator installed (`deploy/systemd/muster-postgres@.service`). It runs the launcher on an order file
//! in the run folder, as the data's owner, and the launcher becomes the server; a polkit rule lets that owner start it, and nothing else. What
//! always holds: the unit runs only what its own user wrote, so who may start it gains no right by it.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use muster_common::fault::{ErrorKind, Fault};
use serde::{Deserialize, Serialize};

use crate::data_directory::read_small;

/// How often it is looked whether a server is ready.
const LOOK: Duration = Duration::from_millis(100);
/// `systemctl start` of a unit that only has to run a program is over soon.
const ASK: Duration = Duration::from_secs(30);
/// As many characters of a data directory's path are shown in the unit's name.
const SHOWN: usize = 100;
/// The line of `postmaster.pid` that tells the state (`miscadmin.h`, LOCK_FILE_LINE_PM_STATUS), from 0.
const STATE_LINE: usize = 7;

/// The template, and where orders to it lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerUnit {
    /// Its name up to and with the `@`: `muster-postgres@`.
    pub template: String,
    /// The folder of the orders, which the unit's `ExecStart` names.
    pub orders: PathBuf,
}

/// What the launcher becomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The server's program.
    pub postgres: PathBuf,
    /// Its data directory.
    pub data: PathBuf,
    /// Its options, as `pg_ctl -o` takes them: words for a shell.
    pub options: String,
    /// Where its output goes.
    pub log: PathBuf,
}

/// What came of a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Started {
    /// It takes connections.
    Ready,
    /// Systemd would not start the unit, and said why.
    Refused(String),
}

impl ServerUnit {
    /// The unit's instance for a data directory: its path as far as a unit's name may hold it, and a checksum of the whole of it.
    #[must_use]
    pub fn instance(data: &Path) -> String {
        let path = data.display().to_string();
        let shown: String = path.trim_matches('/').chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
        let from = shown.len().saturating_sub(SHOWN);
        format!("{}-{:08x}", shown.get(from..).unwrap_or_default(), crc32c::crc32c(path.as_bytes()))
    }

    /// Starts a server in its unit, and waits until it says that it is ready, or a standby. What systemd said where it would not start the
    /// unit: nothing runs then, and the server can be started in another way.
    ///
    /// # Errors
    /// Where systemd does not answer, or the server ends or is not ready in time.
    pub async fn start(&self, order: &Order, within: Duration) -> Result<Started, Fault> {
        let instance = Self::instance(&order.data);
        let unit = format!("{}{instance}.service", self.template);
        let failed = |why: String| {
            Fault::failed(ErrorKind::FailedPrecondition, format!("start the server in {} as {unit}: {why}", order.data.display()))
        };
        self.write(&instance, order)
            .map_err(|error| failed(format!("write its order: {error}")).hint("see whether the run folder is there"))?;
        let hint =
            "systemctl status of the unit and the server's log tell more; without serverUnit in the agent's file it is started by pg_ctl";
        let asked = systemctl(&["--no-ask-password", "start", &unit]).await.map_err(|error| failed(error.to_string()).hint(hint))?;
        if let Err(said) = asked {
            return Ok(Started::Refused(format!("{unit}: {said}")));
        }
        let until = Instant::now() + within;
        while !is_ready(&order.data) {
            let state = systemctl(&["show", "--property=ActiveState", "--value", &unit]).await;
            let state = state.map_err(|error| failed(error.to_string()).hint(hint))?.unwrap_or_else(|said| said);
            if !matches!(state.as_str(), "active" | "activating") && !is_ready(&order.data) {
                return Err(failed(format!("it ended before it was ready (the unit is {state})")).hint(hint));
            }
            if Instant::now() >= until {
                return Err(failed(format!("it is not ready after {} s", within.as_secs())).hint(hint));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(Started::Ready)
    }

    fn write(&self, instance: &str, order: &Order) -> io::Result<()> {
        use std::io::Write;
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.orders)?;
        let (path, next) = (self.orders.join(format!("{instance}.json")), self.orders.join(format!("{instance}.next")));
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all(&serde_json::to_vec(order)?)?;
        std::fs::rename(&next, &path)
    }
}

/// What `systemctl` printed; the inner error is what it said where it refused.
async fn systemctl(arguments: &[&str]) -> io::Result<Result<String, String>> {
    let mut command = tokio::process::Command::new("/usr/bin/systemctl");
    command.args(arguments).env_clear().env("LC_ALL", "C").current_dir("/").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(ASK, command.output()).await.map_err(|_| io::Error::other("systemctl does not answer"))??;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    Ok(if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) })
}

/// The server of `data` says that it takes connections.
fn is_ready(data: &Path) -> bool {
    let Ok(bytes) = read_small(&data.join("postmaster.pid")) else { return false };
    let text = String::from_utf8_lossy(&bytes);
    text.lines().nth(STATE_LINE).is_some_and(|state| matches!(state.trim(), "ready" | "standby"))
}

/// Becomes the server of an order; comes back only where that fails. What the unit runs.
///
/// # Errors
/// Where the order is not this user's own, or cannot be followed.
pub fn launch(order: &Path) -> io::Result<std::convert::Infallible> {
    let file = File::open(order)?;
    let own = rustix::process::geteuid().as_raw();
    let meta = file.metadata()?;
    if meta.uid() != own || meta.mode() & 0o022 != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the order is another user's, or others may write it"));
    }
    let order: Order = serde_json::from_reader(file)?;
    let log = File::options().append(true).create(true).open(&order.log)?;
    // As pg_ctl does it: options are words for a shell.
    let mut server = Command::new("/bin/sh");
    server.arg("-c").arg(format!("exec \"$0\" -D \"$1\" {}", order.options)).arg(&order.postgres).arg(&order.data);
    server.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir("/");
    for name in ["HOME", "TZ"] {
        server.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    Err(server.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).exec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_units_instance_tells_its_folder_and_is_no_others() {
        let one = ServerUnit::instance(Path::new("/var/lib/postgresql/15/main"));
        assert!(one.starts_with("var-lib-postgresql-15-main-"), "{one}");
        assert_ne!(ServerUnit::instance(Path::new("/srv/a-b")), ServerUnit::instance(Path::new("/srv/a/b")));
        let long = ServerUnit::instance(Path::new(&format!("/srv/{}", "ğ/x".repeat(400))));
        assert!(long.len() < 120 && long.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{long}");
    }

    #[test]
    fn a_server_is_ready_when_its_own_file_says_so() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_ready(folder.path()));
        for (state, ready) in [("starting", false), ("ready   ", true), ("standby ", true), ("stopping", false)] {
            std::fs::write(folder.path().join("postmaster.pid"), format!("7\n/d\n1\n5432\n/s\n*\n1 2\n{state}\n")).unwrap();
            assert_eq!(is_ready(folder.path()), ready, "{state}");
        }
    }

    #[test]
    fn an_order_that_others_may_write_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let unit = ServerUnit { template: "muster-postgres@".into(), orders: folder.path().join("servers") };
        let order =
            Order { postgres: "/bin/true".into(), data: folder.path().into(), options: String::new(), log: folder.path().join("log") };
        unit.write("one", &order).unwrap();
        let file = folder.path().join("servers/one.json");
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        assert_eq!(launch(&file).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
