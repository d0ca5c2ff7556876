//! Another failover manager beside the server: two that promote are worse than one, so Muster refuses and names it.

use std::path::Path;

use muster_common::fault::{ErrorKind, Fault};

use crate::config::PostgresConfig;
use crate::data_directory::is_postgres;
use crate::keep::give;

/// How a manager shows: files that it leaves in the data directory, words of the configuration, its program.
struct Manager {
    name: &'static str,
    files: &'static [&'static str],
    words: &'static [&'static str],
    programs: &'static [&'static str],
}

const MANAGERS: [Manager; 4] = [
    Manager {
        name: "Patroni",
        files: &["patroni.dynamic.json"],
        words: &["postgresql.base.conf", "overwritten by Patroni"],
        programs: &["patroni"],
    },
    Manager { name: "repmgr", files: &[], words: &["repmgr"], programs: &["repmgrd"] },
    Manager {
        name: "pg_auto_failover",
        files: &["postgresql-auto-failover.conf", "postgresql-auto-failover-standby.conf"],
        words: &["postgresql-auto-failover.conf", "pgautofailover"],
        programs: &["pg_autoctl"],
    },
    Manager { name: "Stolon", files: &["stolon-temp-postgresql.conf"], words: &["stolon"], programs: &["stolon-keeper"] },
];

/// Refuses where another manager keeps these data, or runs on this machine as the server's user. Blocks.
///
/// # Errors
/// [`ErrorKind::FailedPrecondition`], with its name and what shows it.
pub fn refuse(config: &PostgresConfig, data: &Path) -> Result<(), Fault> {
    let path = give::configuration(config, data);
    let text = std::fs::read_to_string(&path).map_err(|error| crate::keep::io("read", &path, &error))?;
    let auto = std::fs::read_to_string(data.join("postgresql.auto.conf")).unwrap_or_default();
    let programs = programs();
    for manager in &MANAGERS {
        let file = manager.files.iter().find(|name| data.join(name).exists()).map(|name| data.join(name).display().to_string());
        let word = || {
            // Patroni alone is known by a comment.
            let says = |line: &&str| !line.trim_start().starts_with('#') || line.contains("overwritten by Patroni");
            let mut lines = text.lines().chain(auto.lines()).filter(says);
            let line = lines.find(|line| manager.words.iter().any(|word| line.contains(word)));
            line.map(|line| format!("{}: {}", path.display(), line.trim()))
        };
        let program = || {
            let running = programs.iter().find(|(_, words)| words.iter().any(|word| manager.programs.contains(&word.as_str())));
            running.map(|(pid, _)| format!("process {pid} runs"))
        };
        if let Some(seen) = file.or_else(word).or_else(program) {
            return Err(Fault::refused(
                ErrorKind::FailedPrecondition,
                format!("{} is managed by {}: Muster does not keep it beside it", config.name, manager.name),
            )
            .evidence(seen)
            .hint(format!("take the instance out of {} for good and remove what it left, or leave failover to it", manager.name)));
        }
    }
    Ok(())
}

/// The first two words of each process's command line without their folders: an interpreter's script is its second.
fn programs() -> Vec<(i32, Vec<String>)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let words = |pid: i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words = line.split(|byte| *byte == 0).take(2).map(|word| String::from_utf8_lossy(word).into_owned());
        Some((pid, words.map(|word| word.rsplit('/').next().unwrap_or_default().to_owned()).collect()))
    };
    pids.filter(|pid| !is_postgres(*pid)).filter_map(words).collect()
}
