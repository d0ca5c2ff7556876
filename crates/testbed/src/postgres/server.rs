//! One PostgreSQL server of a world. Its settings stand in its own `postgresql.conf`, so that a restored copy of the folder
//! starts with them. An agent may stop it and start it again: what runs in the folder is found by its `postmaster.pid`.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::programs::Programs;
use super::template::{self, AGENT_PASSWORD, AGENT_ROLE};
use crate::account::RunAs;
use crate::eventually::{eventually, until};
use crate::port::Port;
use crate::process::Process;
use crate::world::World;

/// How long a start, crash recovery included, or a stop may take.
const LONG_ENOUGH: Duration = Duration::from_secs(120);

/// How a server is made. `Default` is right for most scenarios.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `fsync=on`: for scenarios whose subject is durability.
    pub durable: bool,
    /// A system identifier of its own, at the price of an `initdb`.
    pub own_identity: bool,
    /// Which PostgreSQL; Debian's 15 where nothing is said.
    pub programs: Programs,
    /// Lines for `postgresql.conf`, as name and value.
    pub settings: Vec<(String, String)>,
}

/// How a server is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Sessions are ended, a checkpoint is made.
    Fast,
    /// As in a crash, but the processes end by themselves.
    Immediate,
    /// `kill -9` of the postmaster.
    Kill,
}

/// A server and its folder.
#[derive(Debug)]
pub struct Postgres {
    world: World,
    name: String,
    data: PathBuf,
    sockets: PathBuf,
    port: Port,
    programs: Programs,
    process: Mutex<Option<Process>>,
}

impl Postgres {
    /// Makes a cluster named `name` and starts it.
    ///
    /// # Errors
    /// Where this machine has no PostgreSQL 15 or no user `postgres`, or the server does not start.
    pub async fn start(world: &World, name: &str, options: &Options) -> Result<Self> {
        let server = Self::make(world, name, options).await?;
        server.start_again().await?;
        Ok(server)
    }

    /// Makes a cluster and does not start it.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub async fn make(world: &World, name: &str, options: &Options) -> Result<Self> {
        world.folder(name, RunAs::Postgres)?;
        let data = world.path(name).join("data");
        template::fill(world, &options.programs, &data, options.own_identity).await?;
        let sockets = world.folder("s", RunAs::Postgres)?;
        let server = Self {
            world: world.clone(),
            name: name.to_owned(),
            data,
            sockets,
            port: Port::take()?,
            programs: options.programs.clone(),
            process: Mutex::new(None),
        };
        server.configure(options)?;
        Ok(server)
    }

    /// Makes a standby of `writer` in this world by a base backup, and starts it: it streams.
    ///
    /// # Errors
    /// Where the copy fails or it does not start.
    pub async fn standby_of(world: &World, name: &str, writer: &Self) -> Result<Self> {
        let folder = world.folder(name, RunAs::Postgres)?;
        let data = folder.join("data");
        let (password, address) = (world.file(&format!("{name}/pass"), &pass_line(), RunAs::Postgres, 0o600)?, writer.world.address());
        let source = format!("host={address} port={} user={AGENT_ROLE} passfile={}", writer.port.number(), password.display());
        let arguments = ["-D", &data.display().to_string(), "-d", &source, "-R", "-X", "stream", "-c", "fast", "--no-sync"];
        let program = writer.programs.program("pg_basebackup")?;
        world.run(RunAs::Postgres, &program, &arguments, LONG_ENOUGH).await?.success().context("copy the writer")?;
        let server = Self {
            world: world.clone(),
            name: name.to_owned(),
            data,
            sockets: world.folder("s", RunAs::Postgres)?,
            port: Port::take()?,
            programs: writer.programs.clone(),
            process: Mutex::new(None),
        };
        let own = Options { durable: true, own_identity: false, programs: writer.programs.clone(), settings: Vec::new() };
        server.configure(&own)?;
        server.start_again().await?;
        Ok(server)
    }

    /// A handle for a server that somebody else keeps in `data`, on a port that was taken for it: a copy restored beside, whose
    /// socket lies in its own folder.
    #[must_use]
    pub fn elsewhere(world: &World, name: &str, data: PathBuf, port: Port) -> Self {
        let (name, sockets) = (name.to_owned(), data.clone());
        Self { world: world.clone(), name, data, sockets, port, programs: Programs::default(), process: Mutex::new(None) }
    }

    fn configure(&self, options: &Options) -> Result<()> {
        let mut settings = vec![
            ("port", self.port.number().to_string()),
            ("listen_addresses", format!("'{}'", self.world.address())),
            ("unix_socket_directories", format!("'{}'", self.sockets.display())),
            ("fsync", if options.durable { "on" } else { "off" }.to_owned()),
            ("shared_buffers", "32MB".to_owned()),
            ("max_wal_size", "256MB".to_owned()),
            ("wal_level", "replica".to_owned()),
            ("max_wal_senders", "10".to_owned()),
            ("log_line_prefix", "'%m [%p] '".to_owned()),
            ("cluster_name", format!("'{}'", self.name)),
        ];
        settings.extend(options.settings.iter().map(|(name, value)| (name.as_str(), value.clone())));
        let path = self.data.join("postgresql.conf");
        let mut text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        for (name, value) in settings {
            text.push_str(&format!("{name} = {value}\n"));
        }
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// `127.0.0.1:<port>`, where a password is needed.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{}", self.world.address(), self.port.number())
    }

    /// The folder of its socket, where none is needed.
    #[must_use]
    pub fn sockets(&self) -> &Path {
        &self.sockets
    }

    /// Starts it and waits until it takes connections.
    ///
    /// # Errors
    /// Where it ends at once or does not answer: with the last lines of its log.
    pub async fn start_again(&self) -> Result<()> {
        let log = format!("postgres-{}", self.name);
        let data = self.data.display().to_string();
        let process = self.world.start(&log, RunAs::Postgres, self.programs.program("postgres")?, &["-D", &data])?;
        let what = format!("{} to take connections", self.name);
        let ready = eventually(&what, LONG_ENOUGH, async || {
            if let Some(status) = process.status()? {
                return Ok(Some(Err(anyhow!("{} ended with {status}", self.name))));
            }
            Ok(self.client("postgres").await.ok().map(|_| Ok(())))
        });
        match ready.await.and_then(|ready| ready) {
            Ok(()) => {
                *self.process.lock().map_err(|_| anyhow!("a thread panicked with {}", self.name))? = Some(process);
                Ok(())
            }
            Err(error) => Err(error.context(format!("its log: {}", process.written()?))),
        }
    }

    /// Stops whatever server runs in the folder, and waits until it is gone. One that is stopped already is no error.
    ///
    /// # Errors
    /// Where it does not end.
    pub async fn stop(&self, how: Stop) -> Result<()> {
        let Some(pid) = self.running() else { return Ok(()) };
        let signal = match how {
            Stop::Fast => Signal::INT,
            Stop::Immediate => Signal::QUIT,
            Stop::Kill => Signal::KILL,
        };
        kill_process(pid, signal).with_context(|| format!("stop {}", self.name))?;
        until(&format!("{} to stop", self.name), LONG_ENOUGH, async || {
            // Asking after our own child also buries it.
            if let Some(process) = self.process.lock().map_err(|_| anyhow!("a thread panicked with {}", self.name))?.as_ref() {
                process.status()?;
            }
            Ok(!alive(pid))
        })
        .await
    }

    /// The postmaster that runs in the folder.
    #[must_use]
    pub fn running(&self) -> Option<Pid> {
        let file = std::fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        // A negative one is the lock of a keeper: no server runs, and none can start.
        let pid = Pid::from_raw(file.lines().next()?.trim().parse().ok().filter(|pid| *pid > 0)?)?;
        (alive(pid) && at_home(pid, &self.data)).then_some(pid)
    }

    /// A connection as the superuser through the socket.
    ///
    /// # Errors
    /// Where the server does not take it.
    pub async fn client(&self, database: &str) -> Result<Client> {
        let mut config = tokio_postgres::Config::new();
        config.host_path(&self.sockets).port(self.port.number()).user("postgres").dbname(database).connect_timeout(Duration::from_secs(10));
        let (client, connection) = config.connect(NoTls).await.with_context(|| format!("connect to {}", self.name))?;
        // It ends when the client is dropped; an error of the connection is told by the client's own calls.
        tokio::spawn(connection);
        Ok(client)
    }

    /// Runs statements, without a result.
    ///
    /// # Errors
    /// The server's own.
    pub async fn execute(&self, database: &str, statements: &str) -> Result<()> {
        let client = self.client(database).await?;
        client.batch_execute(statements).await.with_context(|| format!("{}: {statements}", self.name))
    }

    /// The rows of a query as text, like `psql -At`.
    ///
    /// # Errors
    /// The server's own.
    pub async fn rows(&self, database: &str, query: &str) -> Result<Vec<Vec<String>>> {
        let client = self.client(database).await?;
        let messages = client.simple_query(query).await.with_context(|| format!("{}: {query}", self.name))?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|column| row.get(column).unwrap_or_default().to_owned()).collect()),
            _ => None,
        });
        Ok(rows.collect())
    }

    /// The first column of the only row.
    ///
    /// # Errors
    /// The server's own, or where there is another number of rows than one.
    pub async fn value(&self, database: &str, query: &str) -> Result<String> {
        let rows = self.rows(database, query).await?;
        match rows.as_slice() {
            [row] => row.first().cloned().ok_or_else(|| anyhow!("{query}: no column")),
            rows => bail!("{query}: {} rows instead of one", rows.len()),
        }
    }
}

/// Runs: a zombie does not.
fn alive(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    let zombie = stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'));
    test_kill_process(pid).is_ok() && !zombie
}

/// The kernel gives ids again: a process elsewhere is not this folder's postmaster.
fn at_home(pid: Pid, data: &Path) -> bool {
    let folder = std::fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero()));
    folder.is_ok_and(|folder| folder == data)
}

/// The agent's role at any server, as libpq's password files have it.
fn pass_line() -> String {
    format!("*:*:*:{AGENT_ROLE}:{AGENT_PASSWORD}\n")
}
