//! One PostgreSQL server for all tests of this binary, a database for each test. A watching shell ends it when the process is gone.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use muster_controller::store::place::Place;

const BIN: &str = "/usr/lib/postgresql/15/bin";

/// A server and its folder.
#[derive(Debug)]
pub struct Server {
    folder: PathBuf,
    port: u16,
}

fn as_postgres(program: &str) -> Command {
    let mut command = Command::new("/usr/bin/setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--", program]);
    command.current_dir("/tmp").stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

impl Server {
    /// A server of its own, for who stops it.
    #[expect(clippy::zombie_processes, reason = "the watching shell outlives this process")]
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("mst").tempdir_in("/tmp").unwrap().keep();
        run(Command::new("chown").arg("postgres:postgres").arg(&folder));
        let data = folder.join("data").display().to_string();
        run(as_postgres(&format!("{BIN}/initdb")).args([
            "-A",
            "trust",
            "-N",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "-D",
            &data,
        ]));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self { folder, port };
        server.up();
        let watch = "while [ -d \"/proc/$1\" ]; do sleep 0.3; done; \"$2\" -D \"$3/data\" -m immediate stop; rm -rf \"$3\"";
        let mut watcher = as_postgres("/bin/sh");
        watcher.args(["-c", watch, "watch", &std::process::id().to_string(), &format!("{BIN}/pg_ctl")]).arg(&server.folder);
        watcher.stderr(Stdio::null()).spawn().unwrap();
        server
    }

    fn control(&self, verb: &str, more: &[&str]) {
        let data = self.folder.join("data").display().to_string();
        let log = self.folder.join("log").display().to_string();
        run(as_postgres(&format!("{BIN}/pg_ctl")).args(["-w", "-s", "-D", &data, "-l", &log]).args(more).arg(verb));
    }

    pub fn up(&self) {
        let options = format!(
            "-F -p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c max_connections=300",
            self.port,
            self.folder.display()
        );
        self.control("start", &["-o", &options]);
    }

    /// It shows the certificate of this folder from its next start on.
    pub fn certified(&self, identity: &Path) {
        let data = self.folder.join("data");
        for (from, to) in [("cert.pem", "server.crt"), ("key.pem", "server.key")] {
            let to = data.join(to);
            std::fs::write(&to, std::fs::read(identity.join(from)).unwrap()).unwrap();
            run(Command::new("chown").arg("postgres:postgres").arg(&to));
            run(Command::new("chmod").arg("600").arg(&to));
        }
        let settings = data.join("postgresql.auto.conf");
        let text = std::fs::read_to_string(&settings).unwrap();
        std::fs::write(&settings, format!("{text}ssl = on\n")).unwrap();
    }

    pub fn down(&self) {
        self.control("stop", &["-m", "immediate"]);
    }

    /// A new database on it.
    pub async fn database(&self) -> Place {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("store{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let pool = self.connect("postgres").await;
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&pool).await.unwrap();
        pool.close().await;
        Place::parse(&self.url(&name), None).unwrap()
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    async fn connect(&self, database: &str) -> sqlx::PgPool {
        sqlx::PgPool::connect(&self.url(database)).await.unwrap()
    }
}

/// The server that tests share.
pub fn shared() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(Server::start)
}

/// Runs a statement beside the controller, as if the lock had failed.
pub async fn beside(place: &Place, sql: &'static str) {
    match place {
        Place::File(path) => sqlite(path, sql).await,
        Place::Server(_) => {
            let pool = sqlx::PgPool::connect(&place.to_string()).await.unwrap();
            sqlx::raw_sql(sql).execute(&pool).await.unwrap();
            pool.close().await;
        }
    }
}

async fn sqlite(path: &Path, sql: &'static str) {
    let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    sqlx::raw_sql(sql).execute(&pool).await.unwrap();
    pool.close().await;
}
