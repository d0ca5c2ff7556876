//! What a restored data directory gets besides its files: labels, settings, the helper's list, and `pg_control` held back.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use muster_common::fault::{ErrorKind, Fault};
use muster_common::position::Lsn;
use muster_engine::request::{RestoreRequest, RestoreTarget};

use crate::backup::outside;
use crate::config::{Address, PostgresConfig};
use crate::keep::{conf, mark, permit};
use crate::point::PostgresPoint;
use crate::restore::configuration::{self, PLACES, Setting};
use crate::restore::folders::{self, io_fault};
use crate::restore::plan::Layout;
use crate::wal;
use crate::wal_get;

/// `pg_control` waits here until everything else is durable.
pub const HELD_BACK: &str = "pg_control";
/// A socket's path has 107 bytes; its name takes up to 20.
const MAX_SOCKET_FOLDER: usize = 80;
/// Histories of later timelines that are shown to the server, so that it takes a number that nobody used.
const MAX_HISTORIES: u32 = 1_000;

/// Where the restored server will be reached.
#[must_use]
pub fn address(config: &PostgresConfig, request: &RestoreRequest, data: &Path) -> Address {
    match &request.target {
        RestoreTarget::Empty | RestoreTarget::InPlace | RestoreTarget::Database { .. } => config.address.clone(),
        RestoreTarget::Beside { port, .. } => match &config.address {
            Address::Socket { .. } if data.as_os_str().len() <= MAX_SOCKET_FOLDER => {
                Address::Socket { folder: data.to_owned(), port: *port }
            }
            Address::Socket { .. } | Address::Tcp { .. } => Address::Tcp { host: "127.0.0.1".into(), port: *port },
        },
    }
}

/// The configuration outside of the data directory that the restored server uses, if it does.
#[must_use]
pub fn outside_config<'a>(config: &'a PostgresConfig, request: &RestoreRequest) -> Option<&'a Path> {
    match request.target {
        RestoreTarget::Empty | RestoreTarget::InPlace | RestoreTarget::Database { .. } => config.config_file.as_deref(),
        RestoreTarget::Beside { .. } => None,
    }
}

/// The server's options for starting with what was settled here.
#[must_use]
pub fn options(config: &PostgresConfig, request: &RestoreRequest) -> Vec<String> {
    outside_config(config, request).map(|path| format!("-c config_file='{}'", path.display())).into_iter().collect()
}

/// Settings that last, in `postgresql.auto.conf`.
#[must_use]
pub fn lasting(config: &PostgresConfig, request: &RestoreRequest, settings: &BTreeMap<String, String>, data: &Path) -> Vec<Setting> {
    let was = |name: &str| settings.get(name).map_or("", String::as_str);
    let mut lasting: Vec<Setting> = Vec::new();
    if !was("synchronous_standby_names").is_empty() {
        lasting.push(("synchronous_standby_names", String::new()));
    }
    let address = address(config, request, data);
    if matches!(request.target, RestoreTarget::Beside { .. }) {
        let folder = if data.as_os_str().len() <= MAX_SOCKET_FOLDER { data.display().to_string() } else { String::new() };
        lasting.extend([
            ("port", address.port().to_string()),
            ("listen_addresses", "127.0.0.1".into()),
            ("unix_socket_directories", folder),
            ("archive_mode", "off".into()),
            ("max_logical_replication_workers", "0".into()),
            ("ssl", "off".into()),
            ("log_directory", "log".into()),
            ("shared_preload_libraries", configuration::without_schedulers(was("shared_preload_libraries"))),
        ]);
        return lasting;
    }
    if config.config_file.is_some() {
        // The machine's own configuration says where its server listens.
        return lasting;
    }
    if was("port") != address.port().to_string() {
        lasting.push(("port", address.port().to_string()));
    }
    match address {
        Address::Socket { folder, .. } if !was("unix_socket_directories").split(',').any(|one| Path::new(one.trim()) == folder) => {
            lasting.push(("unix_socket_directories", folder.display().to_string()));
        }
        Address::Tcp { host, .. } if !listens(was("listen_addresses"), &host) => lasting.push(("listen_addresses", host)),
        Address::Socket { .. } | Address::Tcp { .. } => {}
    }
    lasting
}

fn listens(addresses: &str, host: &str) -> bool {
    let loopback = ["127.0.0.1", "localhost", "::1"];
    addresses
        .split(',')
        .map(str::trim)
        .any(|one| one == "*" || one == "0.0.0.0" || one == "::" || one == host || (loopback.contains(&one) && loopback.contains(&host)))
}

/// The settings that recovery needs and that go when it is over.
#[must_use]
pub fn temporary(config: &PostgresConfig, known: &PostgresPoint) -> Vec<Setting> {
    configuration::recovery(&config.wal_get, Lsn(known.target_lsn), known.timeline)
}

/// All that is written into a built data directory. Everything is durable when this returns, but the folders.
///
/// # Errors
/// Where the file system refuses, or the point has no configuration that a server could start with.
pub fn write(
    config: &PostgresConfig,
    request: &RestoreRequest,
    known: &PostgresPoint,
    settings: &BTreeMap<String, String>,
    layout: &Layout,
    outside: &BTreeMap<PathBuf, Vec<u8>>,
    log_files: Vec<String>,
) -> Result<(), Fault> {
    let building = layout.building();
    let own = building.join(wal_get::FOLDER);
    let names = with_histories(log_files, known, layout, &own.join(wal_get::LOG_FOLDER))?;
    let list: String = names.iter().map(|name| format!("{name}\n")).collect();
    folders::write(&own.join(wal_get::FROZEN), format!("{list}end\n").as_bytes())?;
    folders::write(&own.join(HELD_BACK), &known.control_file)?;
    folders::write(&building.join("backup_label"), known.backup_label.as_bytes())?;
    folders::write(&building.join("recovery.signal"), b"")?;
    let auto = building.join("postgresql.auto.conf");
    let before = read_text(&auto)?.unwrap_or_default();
    let text = configuration::auto_conf(&before, &lasting(config, request, settings, &layout.data), &temporary(config, known));
    folders::write(&auto, text.as_bytes())?;
    let permit = still_kept(config, layout)?;
    if outside_config(config, request).is_some() {
        return Ok(());
    }
    materialise(known, building, outside, matches!(request.target, RestoreTarget::Beside { .. }))?;
    // The point's configuration carries the include line of what it was taken of: a copy would read that one's permit, and start its data.
    let path = building.join("postgresql.conf");
    let text = read_text(&path)?.unwrap_or_default();
    let changed = permit.map_or_else(|| conf::without_include(&text), |permit| conf::with_include(&text, &permit));
    if changed == text { Ok(()) } else { folders::write(&path, changed.as_bytes()) }
}

/// The permit without which what is restored in the place of a kept server does not start either. Its mark is carried over.
fn still_kept(config: &PostgresConfig, layout: &Layout) -> Result<Option<PathBuf>, Fault> {
    let (Some(keeping), Some(swap)) = (&config.keeping, &layout.data_swap) else { return Ok(None) };
    let mark = swap.current.join(mark::FILE);
    if !mark::names(keeping, &swap.current)? {
        return Ok(None);
    }
    let bytes = fs::read(&mark).map_err(|error| io_fault("read", &mark, &error))?;
    folders::write(&layout.building().join(mark::FILE), &bytes)?;
    Ok(Some(permit::path(keeping)))
}

/// Brings configuration from outside into the data directory, and makes comments of what means another place.
fn materialise(known: &PostgresPoint, building: &Path, outside: &BTreeMap<PathBuf, Vec<u8>>, beside: bool) -> Result<(), Fault> {
    let main = Path::new(&known.config_file);
    let etc = main.parent().unwrap_or(main);
    let named = [(main, "postgresql.conf"), (Path::new(&known.hba_file), "pg_hba.conf"), (Path::new(&known.ident_file), "pg_ident.conf")];
    for (path, bytes) in outside {
        let name = named.iter().find(|(from, _)| from == path).map(|(_, name)| PathBuf::from(name));
        // What the main file includes by a relative path is found beside it again.
        let inner = path.strip_prefix(etc).ok().filter(|_| outside.contains_key(main)).map(Path::to_owned);
        if let Some(name) = name.or(inner) {
            let to = building.join(name);
            let folder = to.parent().unwrap_or(building);
            folders::make(folder, 0o700)?;
            folders::write(&to, bytes)?;
            for included in outside::relative_folders(&String::from_utf8_lossy(bytes)) {
                folders::make(&folder.join(included), 0o700)?;
            }
        }
    }
    let path = building.join("postgresql.conf");
    let Some(text) = read_text(&path)? else {
        return Err(Fault::refused(
            ErrorKind::FailedPrecondition,
            format!("the recovery point has no postgresql.conf ({} was not readable when it was taken)", known.config_file),
        )
        .hint("set the instance's configFile to a configuration on this machine"));
    };
    let absent = |name: &str| match name {
        "hba_file" => beside || !Path::new(&known.hba_file).exists() || outside.contains_key(main),
        "ident_file" => beside || !Path::new(&known.ident_file).exists() || outside.contains_key(main),
        "external_pid_file" => beside || outside.contains_key(main),
        _ => true,
    };
    let names: Vec<&str> = PLACES.into_iter().filter(|name| absent(name)).collect();
    let changed = configuration::comment_out(&text, &names);
    if changed == text { Ok(()) } else { folders::write(&path, changed.as_bytes()) }
}

/// A restore in place shows the server the histories of the timelines that were begun there after the point's: the new
/// timeline then gets a number of its own.
fn with_histories(mut names: Vec<String>, known: &PostgresPoint, layout: &Layout, folder: &Path) -> Result<Vec<String>, Fault> {
    let Some(swap) = &layout.data_swap else { return Ok(names) };
    for timeline in (known.timeline + 1..).take(MAX_HISTORIES as usize) {
        let name = wal::history_name(timeline);
        match fs::read(swap.current.join("pg_wal").join(&name)) {
            Ok(bytes) => {
                folders::write(&folder.join(&name), &bytes)?;
                names.push(name);
            }
            Err(_) => break,
        }
    }
    Ok(names)
}

fn read_text(path: &Path) -> Result<Option<String>, Fault> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_fault("read", path, &error)),
    }
}

/// Puts `pg_control` in its place: from now on the directory can start. Done already is done.
///
/// # Errors
/// Where the file cannot be moved.
pub fn release_control_file(data: &Path) -> Result<(), Fault> {
    let held = data.join(wal_get::FOLDER).join(HELD_BACK);
    let place = data.join("global/pg_control");
    if held.exists() {
        fs::rename(&held, &place).map_err(|error| io_fault("move pg_control to", &place, &error))?;
        folders::sync(&data.join("global"))?;
        folders::sync(&data.join(wal_get::FOLDER))?;
    }
    Ok(())
}

/// Removes what the restore needed, once the server is promoted.
///
/// # Errors
/// Where the file system refuses.
pub fn clean(data: &Path, temporary: &[Setting]) -> Result<(), Fault> {
    let auto = data.join("postgresql.auto.conf");
    let text = read_text(&auto)?.unwrap_or_default();
    let after = configuration::finished(&text, temporary);
    if after != text {
        folders::write(&auto, after.as_bytes())?;
    }
    folders::sync(data)?;
    folders::remove(&data.join(wal_get::FOLDER))?;
    folders::sync(data)
}
