//! The copy that a verification starts: where it lies, what keeps it to itself, how it is asked and ended.
//!
//! What always holds: it listens on a socket in a folder of its own and nowhere else; where the system lets it, it has a
//! network namespace with nothing in it; it archives nothing, follows nobody and runs no background workers. All of that
//! stands on its command line, which goes before every file that the point brings along.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use muster_common::fault::{ErrorKind, Fault};
use muster_common::position::PostgresPosition;
use muster_engine::work::Work;

use crate::config::{Address, Control, PostgresConfig};
use crate::connect::{ConnectError, Session, connect_by};
use crate::control::pg_ctl::PgCtl;
use crate::point::PostgresPoint;
use crate::restore::arrival::{self, Arrival};
use crate::restore::{configuration, folders, off_runtime};
use crate::verify::leftover;

/// The port in the name of the socket; no other server shares its folder.
pub const PORT: u16 = 5432;
/// A verification shares the machine with what runs: the copy gets this much and no more.
const SHARED_BUFFERS: &str = "128MB";
/// The first version with event triggers for logins, and the setting that turns all of them off.
const HAS_EVENT_TRIGGERS_SETTING: u32 = 17;

/// The folders of one verification. All of them follow from its scratch folder and its command.
#[derive(Clone, Debug)]
pub struct Place {
    scratch: PathBuf,
    sockets: PathBuf,
}

impl Place {
    /// The place of this work.
    pub fn of(work: &Work) -> Self {
        Self { scratch: work.scratch().to_owned(), sockets: leftover::socket_folder(work.command) }
    }

    /// The copy's data directory.
    pub fn data(&self) -> PathBuf {
        self.scratch.join("data")
    }

    /// Ends what an earlier run left and removes it; done already is done.
    pub async fn clear(&self) -> Result<(), Fault> {
        let (scratch, sockets) = (self.scratch.clone(), self.sockets.clone());
        off_runtime(move || {
            leftover::end(&scratch, &sockets)?;
            folders::empty(&scratch.join("data"))?;
            let entries = std::fs::read_dir(&scratch).map_err(|error| folders::io_fault("list", &scratch, &error))?;
            for entry in entries {
                let entry = entry.map_err(|error| folders::io_fault("list", &scratch, &error))?;
                folders::remove(&entry.path())?;
            }
            Ok(())
        })
        .await
    }

    /// The instance's configuration, for the copy: no file, no address and no option of the instance's own.
    pub fn config(&self, own: &PostgresConfig) -> PostgresConfig {
        PostgresConfig {
            address: Address::Socket { folder: self.sockets.clone(), port: PORT },
            // It exists in every cluster that can be connected to.
            database: "template1".into(),
            password_file: None,
            config_file: None,
            keeping: None,
            control: Control::PgCtl { options: String::new(), log_file: Some(self.scratch.join("server.log")) },
            ..own.clone()
        }
    }

    fn hba(&self) -> PathBuf {
        self.scratch.join("hba.conf")
    }

    fn ident(&self) -> PathBuf {
        self.scratch.join("ident.conf")
    }

    fn prepare(&self) -> Result<(), Fault> {
        // Whoever can reach the socket may log in: only this user can.
        leftover::make_private(&self.sockets)?;
        folders::write(&self.hba(), b"local all all trust\n")?;
        folders::write(&self.ident(), b"")
    }
}

/// The copy.
pub struct Copy {
    place: Place,
    config: PostgresConfig,
    known: PostgresPoint,
    server: PgCtl,
    bin: PathBuf,
    log_from: u64,
    started: Instant,
    alone: bool,
}

impl Copy {
    /// The copy that was restored to `place`; nothing is started yet.
    pub async fn new(place: &Place, config: PostgresConfig, bin: PathBuf, known: PostgresPoint, preloaded: &str) -> Result<Self, Fault> {
        let within = without_network().await;
        let options = options(place, &known, preloaded);
        let mut server = PgCtl::new(&config, bin.clone(), &place.data(), &options);
        let alone = within.is_some();
        if let Some(within) = within {
            server = server.within(within);
        }
        let prepared = place.clone();
        off_runtime(move || prepared.prepare()).await?;
        Ok(Self { place: place.clone(), config, known, server, bin, log_from: 0, started: Instant::now(), alone })
    }

    /// Starts it.
    pub async fn start(&mut self) -> Result<(), Fault> {
        self.server.start().await?;
        self.started = Instant::now();
        Ok(())
    }

    /// How long ago it was started.
    pub fn since_start(&self) -> Duration {
        self.started.elapsed()
    }

    /// Waits until it is at the point's own target and takes connections. Gives the cluster's first superuser besides.
    pub async fn wait(&self, work: &Work) -> Result<(String, PostgresPosition), Fault> {
        let mut why = String::new();
        for user in [self.config.user.as_str(), "postgres"] {
            let config = PostgresConfig { user: user.to_owned(), ..self.config.clone() };
            let data = self.place.data();
            let arrival = arrival::wait(work, &config, &config.address, &data, &self.server, self.log_from, &self.known).await?;
            match arrival {
                Arrival::At(position) => return Ok((self.first_superuser(user).await?, position)),
                Arrival::LoginRefused(refused) => why = refused,
            }
        }
        Err(Fault::failed(ErrorKind::FailedPrecondition, format!("the restored copy came up and lets nobody in: {why}"))
            .hint(format!("role {} was not there when the point was taken; make a role postgres, or take a new point", self.config.user)))
    }

    async fn first_superuser(&self, user: &str) -> Result<String, Fault> {
        let session = self.connect(user, &self.config.database, "-c search_path=pg_catalog -c statement_timeout=60000").await?;
        // Whoever made the cluster has this number (`pg_authid.dat`, BOOTSTRAP_SUPERUSERID) and cannot be dropped.
        let row = session.client.query_one("SELECT rolname::text FROM pg_catalog.pg_roles WHERE oid = 10", &[]).await;
        row.and_then(|row| row.try_get(0)).map_err(|error| asked_in_vain("for its superuser", &error))
    }

    /// A session with it.
    pub async fn connect(&self, user: &str, database: &str, options: &str) -> Result<Session, Fault> {
        let mut settings = tokio_postgres::Config::new();
        settings.user(user).dbname(database).host_path(self.sockets()).port(PORT).options(options);
        settings.connect_timeout(Duration::from_secs(10)).application_name("muster verify");
        connect_by(&settings).await.map_err(|error| {
            let why = match error {
                ConnectError::NotThere(why)
                | ConnectError::NotYet(why)
                | ConnectError::Full(why)
                | ConnectError::Silent(why)
                | ConnectError::Refused(why) => why,
                ConnectError::Own(fault) => return fault,
            };
            Fault::failed(ErrorKind::FailedPrecondition, format!("connect to database {database} of the restored copy: {why}"))
        })
    }

    /// The folder of its socket.
    pub fn sockets(&self) -> &Path {
        &self.place.sockets
    }

    /// The folder of its programs.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// Its major version.
    pub const fn major(&self) -> u32 {
        self.known.major()
    }

    /// What a person should know of how it ran.
    pub fn notes(&self) -> Option<String> {
        (!self.alone).then(|| {
            "this system gives no network namespace to the agent's user (unshare --user --net), so only its settings kept the copy from the network"
                .to_owned()
        })
    }

    /// Ends it.
    pub async fn stop(&self) -> Result<(), Fault> {
        self.server.stop().await
    }
}

/// A question to the copy that failed, as a fault.
pub fn asked_in_vain(what: &str, error: &tokio_postgres::Error) -> Fault {
    Fault::failed(ErrorKind::FailedPrecondition, format!("ask the restored copy {what}: {}", crate::connect::tell(error)))
}

/// What keeps the copy to itself, as the server's command line takes it.
fn options(place: &Place, known: &PostgresPoint, preloaded: &str) -> Vec<String> {
    let text = |path: &Path| path.display().to_string();
    let mut settings = vec![
        ("listen_addresses", String::new()),
        ("unix_socket_directories", text(&place.sockets)),
        ("unix_socket_permissions", "0700".into()),
        ("port", PORT.to_string()),
        ("hba_file", text(&place.hba())),
        ("ident_file", text(&place.ident())),
        ("ssl", "off".into()),
        ("archive_mode", "off".into()),
        ("primary_conninfo", String::new()),
        ("synchronous_standby_names", String::new()),
        ("max_wal_senders", "0".into()),
        ("max_logical_replication_workers", "0".into()),
        // Whatever a library or an extension would start by itself finds no place to run.
        ("max_worker_processes", "0".into()),
        ("shared_preload_libraries", configuration::without_schedulers(preloaded)),
        ("session_preload_libraries", String::new()),
        ("local_preload_libraries", String::new()),
        ("autovacuum", "off".into()),
        ("default_transaction_read_only", "off".into()),
        ("logging_collector", "off".into()),
        ("log_destination", "stderr".into()),
        ("external_pid_file", String::new()),
        ("restart_after_crash", "off".into()),
        ("shared_buffers", SHARED_BUFFERS.into()),
        ("huge_pages", "off".into()),
        // What it shares between processes lies in its own folder: nothing is left of it elsewhere.
        ("dynamic_shared_memory_type", "mmap".into()),
    ];
    if known.major() >= HAS_EVENT_TRIGGERS_SETTING {
        settings.push(("event_triggers", "off".into()));
    }
    settings.into_iter().map(|(name, value)| format!("-c {name}={}", in_shell(&value))).collect()
}

/// `pg_ctl -o` hands its options to a shell.
fn in_shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The program that starts another one where there is no network at all, if this system lets this user.
async fn without_network() -> Option<Vec<String>> {
    let within: Vec<String> = ["/usr/bin/unshare", "--user", "--map-current-user", "--net", "--"].map(String::from).to_vec();
    let (first, more) = within.split_first()?;
    let tried = tokio::process::Command::new(first)
        .args(more)
        .arg("/bin/true")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await;
    tried.is_ok_and(|status| status.success()).then_some(within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_listens_nowhere_archives_nothing_and_starts_no_workers() {
        let place = Place { scratch: "/s/it's".into(), sockets: "/tmp/m".into() };
        let known = PostgresPoint { server_version: 170_002, ..PostgresPoint::default() };
        let options = options(&place, &known, "pg_cron, pg_stat_statements").join(" ");
        for wanted in [
            "-c listen_addresses=''",
            "-c archive_mode='off'",
            "-c primary_conninfo=''",
            "-c max_worker_processes='0'",
            "-c shared_preload_libraries='pg_stat_statements'",
            "-c hba_file='/s/it'\\''s/hba.conf'",
            "-c event_triggers='off'",
        ] {
            assert!(options.contains(wanted), "{wanted} is not in {options}");
        }
        let older = PostgresPoint { server_version: 150_010, ..PostgresPoint::default() };
        assert!(!super::options(&place, &older, "").join(" ").contains("event_triggers"));
    }
}
