//! The peers, as Debian packs them: pgBackRest, restic, `pg_basebackup`. Each one's backup goes to a folder of its own, is made
//! anew in each run, and is restored to an empty folder. All of them use as many processes as there are processors.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use muster_testbed::account::RunAs;
use muster_testbed::postgres::programs::DEBIAN;
use muster_testbed::postgres::server::Postgres;
use muster_testbed::world::World;

const LONG: Duration = Duration::from_secs(3600);

/// A way to back up that is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// pgBackRest as it is installed: gzip at level 6, not encrypted.
    BackrestDefault,
    /// pgBackRest with zstd at the level of Muster, encrypted as Muster is.
    BackrestZstd,
    /// restic, always encrypted, at its usual compression. It knows nothing of PostgreSQL: a copy of the folder.
    Restic,
    /// `pg_basebackup` as tar with zstd at the server, at the level of Muster, not encrypted.
    BaseBackup,
}

pub const ALL: [Peer; 4] = [Peer::BackrestDefault, Peer::BackrestZstd, Peer::Restic, Peer::BaseBackup];

/// Where the peers keep their things in the world.
pub struct Bench<'a> {
    pub world: &'a World,
    pub server: &'a Postgres,
    pub level: u32,
}

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Self::BackrestDefault => "pgbackrest (gz 6)",
            Self::BackrestZstd => "pgbackrest (zst, aes)",
            Self::Restic => "restic",
            Self::BaseBackup => "pg_basebackup (zstd)",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::BackrestDefault | Self::BackrestZstd => "/usr/bin/pgbackrest",
            Self::Restic => "/usr/bin/restic",
            Self::BaseBackup => "/usr/lib/postgresql/15/bin/pg_basebackup",
        }
    }

    pub fn is_here(self) -> bool {
        Path::new(self.program()).is_file()
    }
}

impl Bench<'_> {
    /// An empty folder of this name, owned by `postgres`.
    pub async fn empty(&self, name: &str) -> Result<PathBuf> {
        let path = self.world.path(name).display().to_string();
        self.world.run(RunAs::Caller, "/bin/rm", &["-rf", &path], LONG).await?.success()?;
        self.world.folder(name, RunAs::Postgres)
    }

    async fn timed(&self, program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Result<f64> {
        let mut launch = self.world.launch("peer", program, RunAs::Postgres);
        launch.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        launch.environment.extend(environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
        let began = Instant::now();
        launch.run(LONG).await?.success().with_context(|| format!("{program} {}", arguments.join(" ")))?;
        Ok(began.elapsed().as_secs_f64())
    }

    /// Seconds of a full backup and of its restore, and the bytes it took.
    pub async fn measure(&self, peer: Peer) -> Result<(f64, f64, f64)> {
        let store = self.empty("peer-store").await?;
        let target = self.empty("peer-target").await?;
        let (backup, restore) = match peer {
            Peer::BackrestDefault => self.backrest(&store, &target, &[]).await?,
            Peer::BackrestZstd => {
                let level = format!("--compress-level={}", self.level);
                let options = ["--compress-type=zst", &level, "--repo1-cipher-type=aes-256-cbc"];
                self.backrest(&store, &target, &options).await?
            }
            Peer::Restic => self.restic(&store, &target).await?,
            Peer::BaseBackup => self.base_backup(&store, &target).await?,
        };
        let bytes = self.world.run(RunAs::Postgres, "/usr/bin/du", &["-sb", &store.display().to_string()], LONG).await?.success()?;
        let bytes: f64 = bytes.split_whitespace().next().context("du says a number")?.parse()?;
        self.empty("peer-store").await?;
        self.empty("peer-target").await?;
        Ok((backup, restore, bytes))
    }

    async fn backrest(&self, store: &Path, target: &Path, options: &[&str]) -> Result<(f64, f64)> {
        let secret = [("PGBACKREST_REPO1_CIPHER_PASS", "a benchmark's passphrase")];
        let secret: &[(&str, &str)] = if options.iter().any(|option| option.contains("cipher")) { &secret } else { &[] };
        let store = format!("--repo1-path={}", store.display());
        let data = format!("--pg1-path={}", self.server.data().display());
        let (port, sockets) =
            (format!("--pg1-port={}", self.server.port()), format!("--pg1-socket-path={}", self.server.sockets().display()));
        let (locks, logs) = (format!("--lock-path={}", self.world.root().join("lock").display()), "--log-level-file=off");
        self.world.folder("lock", RunAs::Postgres)?;
        let mut common = vec!["--stanza=bench", &store, &locks, logs, "--log-level-console=warn"];
        common.extend(options);
        let with = |more: &[&'_ str], command: &str| -> Vec<String> {
            common.iter().copied().chain(more.iter().copied()).chain([command]).map(str::to_owned).collect()
        };
        let processes = format!("--process-max={}", std::thread::available_parallelism()?);
        let make: Vec<&str> = common.iter().copied().filter(|option| !option.starts_with("--compress")).collect();
        let make: Vec<&str> = make.into_iter().chain([data.as_str(), &port, &sockets, "--no-online", "stanza-create"]).collect();
        self.timed(Peer::BackrestDefault.program(), &make, secret).await?;
        let archive = format!(
            "{} {} --pg1-path={} archive-push %p",
            Peer::BackrestDefault.program(),
            make_archive(&common),
            self.server.data().display()
        );
        self.archive_by(&archive, secret).await?;
        let backup = with(&[&data, &port, &sockets, &processes, "--type=full", "--start-fast", "--pg1-user=postgres"], "backup");
        let backup = self.timed(Peer::BackrestDefault.program(), &borrowed(&backup), secret).await?;
        let target = format!("--pg1-path={}", target.display());
        let plain: Vec<&str> = common.iter().copied().filter(|option| !option.starts_with("--compress")).collect();
        let restore: Vec<&str> = plain.into_iter().chain([target.as_str(), &processes, "restore"]).collect();
        let restore = self.timed(Peer::BackrestDefault.program(), &restore, secret).await?;
        Ok((backup, restore))
    }

    /// pgBackRest wants the WAL of its backups archived by itself.
    async fn archive_by(&self, command: &str, secret: &[(&str, &str)]) -> Result<()> {
        let environment: String = secret.iter().map(|(name, value)| format!("{name}=\"{value}\" ")).collect();
        let command = format!("{environment}{command}").replace('\'', "''");
        self.server.execute("postgres", &format!("alter system set archive_command = '{command}'")).await?;
        self.server.execute("postgres", "select pg_reload_conf()").await
    }

    async fn restic(&self, store: &Path, target: &Path) -> Result<(f64, f64)> {
        let store = store.display().to_string();
        let environment = [("RESTIC_PASSWORD", "a benchmark's passphrase"), ("RESTIC_REPOSITORY", store.as_str())];
        let cache = self.empty("restic-cache").await?.display().to_string();
        let program = Peer::Restic.program();
        self.timed(program, &["--cache-dir", &cache, "init"], &environment).await?;
        let data = self.server.data().display().to_string();
        let backup = self.timed(program, &["--cache-dir", &cache, "backup", "-q", &data], &environment).await?;
        let target = target.display().to_string();
        let restore = self.timed(program, &["--cache-dir", &cache, "restore", "-q", "latest", "--target", &target], &environment).await?;
        Ok((backup, restore))
    }

    async fn base_backup(&self, store: &Path, target: &Path) -> Result<(f64, f64)> {
        let (folder, sockets) = (store.join("base").display().to_string(), self.server.sockets().display().to_string());
        let (port, compress) = (self.server.port().to_string(), format!("--compress=server-zstd:level={},workers=2", self.level));
        let arguments = ["-D", &folder, "-Ft", "-X", "fetch", "-c", "fast", &compress, "-h", &sockets, "-p", &port, "-U", "postgres"];
        let backup = self.timed(&format!("{DEBIAN}/pg_basebackup"), &arguments, &[]).await?;
        let unpack = format!("zstd -dc '{folder}/base.tar.zst' | tar -x -C '{}'", target.display());
        if !Path::new("/usr/bin/zstd").is_file() {
            bail!("zstd is needed to unpack what pg_basebackup wrote: apt-get install zstd");
        }
        let restore = self.timed("/bin/sh", &["-c", &unpack], &[]).await?;
        Ok((backup, restore))
    }
}

fn make_archive(common: &[&str]) -> String {
    common.join(" ")
}

fn borrowed(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}
