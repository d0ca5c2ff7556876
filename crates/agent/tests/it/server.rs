//! A real PostgreSQL server of user `postgres`, killed whole, and what starts programs as that user.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Output, Stdio};

pub const BIN: &str = "/usr/lib/postgresql/15/bin";

pub struct Server {
    pub name: &'static str,
    pub data: PathBuf,
    pub port: u16,
    pub sockets: PathBuf,
}

fn postgres() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:")).expect("a user postgres");
    let fields: Vec<_> = line.split(':').collect();
    (fields[2].parse().unwrap(), fields[3].parse().unwrap())
}

/// The program as user postgres.
pub fn as_postgres(program: impl AsRef<Path>) -> Process {
    let mut command = Process::new("/usr/bin/setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(program.as_ref());
    command.env_clear().env("PATH", format!("{BIN}:/usr/bin:/bin")).env("HOME", "/nonexistent").current_dir("/tmp");
    command
}

pub fn run(command: &mut Process) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let told = || format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}", told());
    output
}

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn owned(folder: &Path) {
    let (uid, gid) = postgres();
    chown(folder, Some(uid), Some(gid)).unwrap();
}

impl Server {
    pub fn at(folder: &Path, name: &'static str) -> Self {
        Self { name, data: folder.join(name), port: free_port(), sockets: folder.to_owned() }
    }

    pub fn start(&self) {
        let log = self.data.with_extension("log");
        run(as_postgres(format!("{BIN}/pg_ctl")).arg("-D").arg(&self.data).arg("-l").arg(&log).args(["-w", "start"]).stdout(Stdio::null()));
    }

    pub fn try_sql(&self, sql: &str) -> Result<String, String> {
        let mut psql = as_postgres(format!("{BIN}/psql"));
        psql.env("PGCONNECT_TIMEOUT", "5");
        psql.args(["-XAtq", "-h"]).arg(&self.sockets).args(["-p", &self.port.to_string(), "-d", "postgres", "-c", sql]);
        let output = psql.stdin(Stdio::null()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    pub fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|error| panic!("{} on {}: {error}", sql, self.name))
    }

    pub fn postmaster(&self) -> Option<i32> {
        let text = fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        text.lines().next()?.trim().parse().ok().filter(|pid| *pid > 0 && Path::new(&format!("/proc/{pid}")).exists())
    }

    /// A signal to those of its processes whose title holds `what`.
    pub fn signal(&self, what: &str, signal: rustix::process::Signal) {
        let mut found = 0;
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|text| text.parse::<i32>().ok()) else { continue };
            let inside = fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == self.data);
            let title = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if inside && String::from_utf8_lossy(&title).contains(what) {
                rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
                found += 1;
            }
        }
        assert!(found > 0, "{} has no {what}", self.name);
    }

    /// `kill -9` to everything of it, its lock's holder too.
    pub fn kill_all(&self) {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|text| text.parse::<i32>().ok()) else { continue };
            let inside = fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == self.data);
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
            let holds = words.contains(&b"hold".as_slice()) && words.contains(&self.data.as_os_str().as_encoded_bytes());
            if (inside || holds)
                && let Some(pid) = rustix::process::Pid::from_raw(pid)
            {
                // One that has ended meanwhile is killed.
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
            }
        }
        // Where nobody reaps the dead, their socket's lock file still names a process.
        for entry in fs::read_dir(&self.sockets).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&format!(".s.PGSQL.{}", self.port)) {
                fs::remove_file(entry.path()).ok();
            }
        }
    }
}
