//! A first copy: an empty data directory is filled from the writer by `pg_basebackup`, and becomes a standby of it.
//!
//! A copy that was cut off is begun again from nothing: the note beside the data says that what lies there is half a copy.

use std::path::Path;

use muster_common::fault::Fault;
use muster_common::position::PostgresPosition;
use muster_engine::keep::{Keeping, Patience, Rejoined, Upstream};
use muster_engine::work::Work;
use muster_failover::position::Position;

use crate::config::{Address, PostgresConfig};
use crate::keep::incomplete::{self, Note, Phase};
use crate::keep::rejoin::{as_standby, programs};
use crate::keep::{fence, give, hit, io};
use crate::restore::configuration::{self, Setting};
use crate::restore::{folders, off_runtime};

/// What means another place in a configuration that lies in the data.
const PLACES: [&str; 4] = ["data_directory", "hba_file", "ident_file", "external_pid_file"];
const LOOPBACK: [&str; 3] = ["127.0.0.1", "localhost", "::1"];

/// Whether there is nothing, or half a copy.
///
/// # Errors
/// Where the folder or the note cannot be read.
pub fn is_wanted(data: &Path) -> Result<bool, Fault> {
    if let Some(note) = incomplete::read(data)? {
        return Ok(note.phase == Phase::Copying);
    }
    let entries = std::fs::read_dir(data).map_err(|error| io("list", data, &error))?;
    // The lock of the fence is no data.
    Ok(entries.flatten().all(|entry| entry.file_name() == "postmaster.pid"))
}

/// Copies.
///
/// # Errors
/// Where the writer does not give a copy, or it cannot be written.
pub async fn seed(
    keeping: Keeping,
    config: PostgresConfig,
    work: &Work,
    upstream: &Upstream,
    theirs: PostgresPosition,
    rewind: &programs::Rewind,
) -> Result<Rejoined, Fault> {
    let timeline = theirs.timeline;
    let measured = Rejoined { fork: None, bytes: 0, was: Position::Postgres(theirs), rewound: false, kept: None };
    let note = Note { phase: Phase::Copying, measured: measured.clone(), timeline, aside: rewind.aside.clone() };
    let data = rewind.data.clone();
    let place = data.clone();
    off_runtime(move || {
        incomplete::keep(&place, &note)?;
        folders::empty(&place)
    })
    .await?;
    hit("postgres.rejoin.emptied")?;
    work.tell(|progress| progress.phase = "copying from the writer".into());
    rewind.copy(work, &config, upstream).await?;
    hit("postgres.rejoin.copied")?;
    off_runtime(move || {
        fence::stop_and_lock(&keeping, &data, Patience::default())?;
        if config.config_file.is_none() {
            settle_here(&config, &data)?;
        }
        as_standby(&keeping, &config, &data)?;
        incomplete::end(&data)
    })
    .await?;
    Ok(measured)
}

/// The writer's configuration, for this place.
fn settle_here(config: &PostgresConfig, data: &Path) -> Result<(), Fault> {
    let (main, auto) = (data.join("postgresql.conf"), data.join("postgresql.auto.conf"));
    let text = std::fs::read_to_string(&main).map_err(|error| io("read", &main, &error))?;
    let before = std::fs::read_to_string(&auto).map_err(|error| io("read", &auto, &error))?;
    let changed = configuration::auto_conf(&before, &own_place(&config.address, &format!("{text}{before}")), &[]);
    give::replace(&main, &configuration::comment_out(&text, &PLACES))?;
    give::replace(&auto, &changed)
}

/// Where this instance listens.
fn own_place(address: &Address, text: &str) -> Vec<Setting> {
    let mut settings: Vec<Setting> = vec![("port", address.port().to_string())];
    match address {
        Address::Socket { folder, .. } => settings.push(("unix_socket_directories", folder.display().to_string())),
        Address::Tcp { host, .. } => {
            let told = |line: &&str| configuration::setting_name(line).is_some_and(|name| name == "listen_addresses");
            let line = text.lines().rfind(told).unwrap_or_default();
            let reached = line.contains('*') || line.contains("0.0.0.0") || line.contains(host.as_str());
            if !reached && LOOPBACK.contains(&host.as_str()) {
                settings.push(("listen_addresses", "localhost".into()));
            } else if !reached {
                settings.push(("listen_addresses", format!("localhost,{host}")));
            }
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_listens_at_its_own_place() {
        let of = |address: &str, text: &str| own_place(&address.parse().unwrap(), text);
        assert_eq!(of("10.2.0.5:5433", "listen_addresses = '*'"), [("port", "5433".to_owned())]);
        let listens = of("10.2.0.5:5433", "listen_addresses = '10.1.0.5'");
        assert_eq!(listens.last(), Some(&("listen_addresses", "localhost,10.2.0.5".to_owned())));
        assert_eq!(of("/run/pg:5432", "").last(), Some(&("unix_socket_directories", "/run/pg".to_owned())));
    }
}
