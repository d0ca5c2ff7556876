//! A real server in a folder of its own, on a free port, stopped and removed at the end, also on panic.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use muster_engine_postgres::config::{Address, Control, PostgresConfig};

pub const BIN: &str = "/usr/lib/postgresql/15/bin";

/// A folder below /tmp that user postgres owns; removed at the end.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("mpg").tempdir_in("/tmp").unwrap().keep();
        run(Command::new("chown").arg("postgres:postgres").arg(&folder));
        run(Command::new("chmod").arg("0755").arg(&folder));
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::env::var_os("KEEP").is_none() {
            std::fs::remove_dir_all(&self.0).unwrap_or_else(|error| eprintln!("remove {}: {error}", self.0.display()));
        }
    }
}

/// A server. Stopped when dropped.
#[derive(Debug)]
pub struct Server {
    pub folder: Folder,
    pub data: PathBuf,
    pub port: u16,
    /// postgresql.conf, where it lies outside of the data directory.
    pub config_file: Option<PathBuf>,
    _template: Option<Arc<Folder>>,
}

/// Runs a command and demands success.
pub fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// The same program as user postgres.
pub fn as_postgres(program: impl AsRef<Path>) -> Command {
    // It becomes the program: its process number is the program's, and signals reach it.
    let mut command = Command::new("/usr/bin/setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(program.as_ref());
    command.env_clear().env("PATH", format!("{BIN}:/usr/bin:/bin")).env("HOME", "/nonexistent");
    command.current_dir("/tmp");
    command
}

fn bin(name: &str) -> Command {
    as_postgres(Path::new(BIN).join(name))
}

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A fresh cluster with page checksums, made once for all servers that live at a time, and copied.
fn template() -> Arc<Folder> {
    static TEMPLATE: Mutex<Weak<Folder>> = Mutex::new(Weak::new());
    let mut kept = TEMPLATE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(folder) = kept.upgrade() {
        return folder;
    }
    let folder = Arc::new(Folder::new());
    let mut initdb = bin("initdb");
    initdb.args(["--auth=trust", "--data-checksums", "--no-sync", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D"]);
    run(initdb.arg(folder.path().join("data")));
    *kept = Arc::downgrade(&folder);
    folder
}

impl Server {
    /// A running server that holds nothing.
    pub fn start() -> Self {
        let server = Self::stopped();
        server.up();
        server
    }

    /// A server that was never started.
    pub fn stopped() -> Self {
        let folder = Folder::new();
        let data = folder.path().join("data");
        let template = template();
        run(as_postgres("/bin/cp").arg("-a").arg(template.path().join("data")).arg(&data));
        let server = Self { folder, data, port: free_port(), config_file: None, _template: Some(template) };
        server.configure(&format!(
            "port = {}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nfsync = off\nshared_buffers = 32MB\nmax_wal_senders = 10\nlog_min_messages = info\n",
            server.port,
            server.folder.path().display()
        ));
        server
    }

    /// A running server of another cluster than all the others.
    pub fn start_other() -> Self {
        let folder = Folder::new();
        let data = folder.path().join("data");
        run(bin("initdb").args(["--auth=trust", "--no-sync", "--username=postgres", "-D"]).arg(&data));
        let server = Self { folder, data, port: free_port(), config_file: None, _template: None };
        server.configure_basics();
        server.up();
        server
    }

    /// A running standby of a server.
    pub fn clone_of(primary: &Self, folder: Folder) -> Self {
        let data = folder.path().join("data");
        let port = primary.port.to_string();
        run(bin("pg_basebackup").args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port, "-c", "fast", "-R", "-D"]).arg(&data));
        let standby = Self { folder, data, port: free_port(), config_file: None, _template: None };
        standby.configure_basics();
        standby.up();
        standby
    }

    fn configure_basics(&self) {
        let folder = self.folder.path().display();
        self.configure(&format!(
            "port = {}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{folder}'\nfsync = off\nshared_buffers = 32MB\n",
            self.port
        ));
    }

    /// Appends to postgresql.conf.
    pub fn configure(&self, lines: &str) {
        let mut file = std::fs::OpenOptions::new().append(true).open(self.data.join("postgresql.conf")).unwrap();
        file.write_all(lines.as_bytes()).unwrap();
    }

    pub fn up(&self) {
        let log = self.folder.path().join("server.log");
        let done = bin("pg_ctl")
            .arg("-D")
            .arg(&self.data)
            .arg("-l")
            .arg(&log)
            .args(["-w", "-t", "60"])
            .args(self.config_file.iter().flat_map(|path| ["-o".to_owned(), format!("-c config_file={}", path.display())]))
            .arg("start")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(done.success(), "{}", std::fs::read_to_string(&log).unwrap_or_default());
    }

    pub fn down(&self) {
        run(bin("pg_ctl").arg("-D").arg(&self.data).args(["-m", "fast", "-w", "stop"]));
    }

    pub fn config(&self) -> PostgresConfig {
        PostgresConfig {
            name: "orders-db/istanbul".into(),
            address: Address::Tcp { host: "127.0.0.1".into(), port: self.port },
            data_directory: self.data.clone(),
            user: "postgres".into(),
            database: "postgres".into(),
            password_file: None,
            bin_directory: Some(BIN.into()),
            config_file: self.config_file.clone(),
            control: Control::PgCtl { options: String::new(), log_file: Some(self.folder.path().join("server.log")) },
            wal_get: vec!["/bin/false".into()],
            server_unit: None,
            keeping: None,
        }
    }

    /// Runs SQL by psql and gives what it printed.
    pub fn sql(&self, sql: &str) -> String {
        sql_at(self.port, sql)
    }
}

/// Runs SQL on the server at a port.
pub fn sql_at(port: u16, sql: &str) -> String {
    let output = run(as_postgres("/usr/bin/psql").args([
        "-X",
        "-A",
        "-t",
        "-q",
        "-v",
        "ON_ERROR_STOP=1",
        "-h",
        "127.0.0.1",
        "-U",
        "postgres",
        "-p",
        &port.to_string(),
        "-c",
        sql,
    ]));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

impl Drop for Server {
    fn drop(&mut self) {
        stop_at(&self.data);
    }
}

/// Stops whatever server has its data there.
pub fn stop_at(data: &Path) {
    let stopped =
        bin("pg_ctl").arg("-D").arg(data).args(["-m", "immediate", "-w", "stop"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    stopped.map(drop).unwrap_or_else(|error| eprintln!("stop {}: {error}", data.display()));
}
