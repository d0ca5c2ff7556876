//! The permit's file: without it the server does not start. Its text is pure; its folder is checked before it is believed.
//!
//! The folder is emptied by a boot, so that what is on disk alone starts nothing. The file holds no secret.

use std::fs;
use std::io::{ErrorKind as Io, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use muster_common::fault::{ErrorKind, Fault};
use muster_engine::keep::{Governed, Keeping, Upstream};
use muster_failover::reign::Mark;
use serde::{Deserialize, Serialize};

use crate::keep::io;

/// `linux/magic.h`.
const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;
/// Where the file says what it was written from.
const ABOUT: &str = "# muster: ";
/// Nobody is called so: a follower that somebody promotes waits for it and acknowledges nothing.
pub const NOBODY: &str = "_muster_follower";
/// The setting by which a running server tells which permit it has read.
pub const TOKEN: &str = "muster.permit";
/// The first version in which the configuration can forbid `ALTER SYSTEM`.
pub const FORBIDS_ALTER_SYSTEM: u32 = 17;

/// What a permit was written from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The reign that it may write in; `None`: a follower's.
    pub writes: Option<Mark>,
    /// What it governs.
    pub governed: Governed,
    /// The data directory, as the server itself names it.
    pub data_directory: PathBuf,
    /// Of this writing: a server that read it says so.
    pub token: String,
}

/// A setting with its value.
pub type Setting = (&'static str, String);

/// Where the permit of an instance lies.
#[must_use]
pub fn path(keeping: &Keeping) -> PathBuf {
    keeping.run_folder.join(format!("{}.{}.conf", keeping.component, keeping.instance))
}

/// What a permit sets. A writer's leaves `synchronous_standby_names` to the configuration where nothing is declared.
#[must_use]
pub fn settings(about: &About, major: u32) -> Vec<Setting> {
    let upstream = about.governed.upstream.as_ref().filter(|_| about.writes.is_none());
    let mut settings = vec![
        ("data_directory", about.data_directory.display().to_string()),
        ("primary_conninfo", upstream.map(conninfo).unwrap_or_default()),
        ("primary_slot_name", upstream.and_then(|upstream| upstream.slot.clone()).unwrap_or_default()),
    ];
    match (&about.writes, &about.governed.synchronous_standby_names) {
        (None, _) => {
            settings.push(("synchronous_standby_names", NOBODY.to_owned()));
            settings.push(("default_transaction_read_only", "on".into()));
        }
        (Some(_), Some(names)) => settings.push(("synchronous_standby_names", names.clone())),
        (Some(_), None) => {}
    }
    if major >= FORBIDS_ALTER_SYSTEM {
        settings.push(("allow_alter_system", "off".into()));
    }
    settings.push((TOKEN, about.token.clone()));
    settings
}

/// The whole file.
///
/// # Errors
/// Where what it governs cannot be written down.
pub fn text(about: &About, major: u32) -> Result<String, Fault> {
    if about.governed.upstream.as_ref().is_some_and(|upstream| upstream.more.contains_key("password")) {
        return Err(Fault::refused(ErrorKind::InvalidArgument, "a password stands among the upstream's parameters")
            .hint("put it into a password file on this machine and name that file"));
    }
    let internal = |error: serde_json::Error| Fault::refused(ErrorKind::Internal, format!("write a permit: {error}"));
    let mut text = String::from("# The permit of this server, by Muster; do not edit. Without this file the server does not start.\n");
    text.push_str(&format!("{ABOUT}{}\n", serde_json::to_string(about).map_err(internal)?));
    for (name, value) in settings(about, major) {
        if value.contains(['\n', '\0']) {
            return Err(Fault::refused(ErrorKind::InvalidArgument, format!("{name} has a line break in it"))
                .hint("correct the component's resource and apply it again"));
        }
        // In configuration files a quote is doubled and a backslash begins an escape (`guc-file.l`).
        text.push_str(&format!("{name} = '{}'\n", value.replace('\\', "\\\\").replace('\'', "''")));
    }
    Ok(text)
}

/// `primary_conninfo` as libpq reads it.
#[must_use]
pub fn conninfo(upstream: &Upstream) -> String {
    let port = upstream.port.to_string();
    let file = upstream.pass_file.as_ref().map(|path| path.display().to_string());
    let plain = [
        ("host", Some(upstream.host.as_str())),
        ("port", Some(port.as_str())),
        ("user", Some(upstream.user.as_str())),
        ("application_name", Some(upstream.application_name.as_str())),
        ("passfile", file.as_deref()),
    ];
    let more = upstream.more.iter().map(|(name, value)| (name.as_str(), Some(value.as_str())));
    let pairs = plain.into_iter().chain(more).filter_map(|(name, value)| value.map(|value| (name, value)));
    let quoted = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
    pairs.map(|(name, value)| format!("{name}='{}'", quoted(value))).collect::<Vec<_>>().join(" ")
}

/// Reads a permit that is there; `None`: there is none.
///
/// # Errors
/// Where it cannot be read, or is none of Muster's.
pub fn read(keeping: &Keeping) -> Result<Option<About>, Fault> {
    let path = path(keeping);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == Io::NotFound => return Ok(None),
        Err(error) => return Err(io("read the permit", &path, &error)),
    };
    let about = text.lines().find_map(|line| line.strip_prefix(ABOUT)).and_then(|line| serde_json::from_str(line).ok());
    about.map(Some).ok_or_else(|| {
        Fault::refused(ErrorKind::FailedPrecondition, format!("{} is no permit of this version", path.display()))
            .hint("nothing of this machine should write there; the agent replaces it when it gives the next permit")
    })
}

/// Puts a permit in place of the one before, whole or not at all.
///
/// # Errors
/// Where the folder is not one that a boot empties, or cannot be written.
pub fn write(keeping: &Keeping, text: &str) -> Result<(), Fault> {
    run_folder(keeping)?;
    let path = path(keeping);
    let next = path.with_extension("conf.next");
    let failed = |error: std::io::Error| io("write the permit", &path, &error);
    let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&next).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&next, &path).map_err(failed)
}

/// Removes it. Gone already is gone.
///
/// # Errors
/// Where it cannot be removed.
pub fn remove(keeping: &Keeping) -> Result<(), Fault> {
    let path = path(keeping);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != Io::NotFound => Err(io("remove the permit", &path, &error)),
        _ => Ok(()),
    }
}

/// Makes the run folder where it is not there, and sees that a boot empties it and nobody else enters it.
///
/// # Errors
/// Where it is on a disk, or open to others.
pub fn run_folder(keeping: &Keeping) -> Result<(), Fault> {
    let folder = &keeping.run_folder;
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != Io::AlreadyExists => {
            return Err(io("make the run folder", folder, &error)
                .hint("let tmpfiles.d make it: d /run/muster 0700 postgres postgres -; or set runFolder in the agent's configuration"));
        }
        _ => {}
    }
    let found = fs::symlink_metadata(folder).map_err(|error| io("look at the run folder", folder, &error))?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
        return Err(Fault::refused(ErrorKind::FailedPrecondition, format!("{} is not the agent's own folder", folder.display()))
            .hint("name a folder of the server's user as runFolder"));
    }
    if found.permissions().mode() & 0o077 != 0 {
        return Err(Fault::refused(ErrorKind::FailedPrecondition, format!("others can enter the run folder {}", folder.display()))
            .hint(format!("chmod 0700 {}", folder.display())));
    }
    emptied_by_a_boot(folder)
}

fn emptied_by_a_boot(folder: &Path) -> Result<(), Fault> {
    let system = rustix::fs::statfs(folder).map_err(|error| io("look at the run folder", folder, &error.into()))?;
    // The type's width differs between machines; the numbers have 32 bits.
    let kind = system.f_type as u64 & 0xffff_ffff;
    if kind == TMPFS || kind == RAMFS {
        return Ok(());
    }
    Err(Fault::refused(
        ErrorKind::FailedPrecondition,
        format!(
            "the run folder {} is on a disk (file system {kind:#x}), not on tmpfs or ramfs: a permit there would outlive a boot",
            folder.display()
        ),
    )
    .hint("set runFolder in the agent's configuration to a folder below /run"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream() -> Upstream {
        Upstream {
            host: "10.2.0.5".into(),
            port: 5432,
            user: "repl".into(),
            pass_file: Some("/etc/muster/it's".into()),
            slot: Some("muster_ankara".into()),
            application_name: "ankara".into(),
            more: [("sslmode".to_owned(), "verify-full".to_owned())].into(),
        }
    }

    fn about(writes: bool, names: Option<&str>) -> About {
        let mark = Mark { epoch: muster_common::counter::Epoch(1), id: muster_common::id::ReignId::from_bytes([1; 16]) };
        About {
            writes: writes.then_some(mark),
            governed: Governed { upstream: Some(upstream()), synchronous_standby_names: names.map(str::to_owned) },
            data_directory: "/srv/pg".into(),
            token: "t".into(),
        }
    }

    #[test]
    fn a_followers_permit_lets_a_hand_promotion_acknowledge_nothing() {
        let text = text(&about(false, Some("x")), 15).unwrap();
        assert!(text.contains("synchronous_standby_names = '_muster_follower'\ndefault_transaction_read_only = 'on'"), "{text}");
        assert!(text.contains(r"primary_conninfo = 'host=''10.2.0.5'' port=''5432'' user=''repl''"), "{text}");
        assert!(text.contains(r"passfile=''/etc/muster/it\\''s'' sslmode=''verify-full''"), "{text}");
        assert!(!text.contains("allow_alter_system"));
        let mut secret = about(false, None);
        secret.governed.upstream.as_mut().unwrap().more.insert("password".into(), "word".into());
        let fault = super::text(&secret, 15).unwrap_err();
        assert!(fault.message.contains("password") && !fault.to_string().contains("'word'"), "{fault}");
    }

    #[test]
    fn a_writers_permit_follows_nobody_and_leaves_undeclared_synchrony_alone() {
        let left = text(&about(true, None), 17).unwrap();
        assert!(left.contains("primary_conninfo = ''") && left.contains("primary_slot_name = ''"), "{left}");
        assert!(!left.contains("synchronous_standby_names = ") && left.contains("allow_alter_system = 'off'"), "{left}");
        assert!(text(&about(true, Some("ANY 1 (a)")), 15).unwrap().contains("synchronous_standby_names = 'ANY 1 (a)'"));
        assert!(text(&about(true, Some("a\nfsync = off")), 15).is_err());
    }

    #[test]
    fn a_run_folder_on_a_disk_is_refused() {
        let disk = Path::new("/sys");
        assert!(emptied_by_a_boot(disk).unwrap_err().message.contains("tmpfs"));
        assert_eq!(emptied_by_a_boot(Path::new("/dev/shm")), Ok(()));
    }
}
