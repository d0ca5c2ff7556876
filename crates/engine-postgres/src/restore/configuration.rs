//! The settings of a restored server: what recovery needs, what must not come along, what a copy beside needs of its own.
//!
//! Pure: texts of configuration files in, texts out.

use crate::wal_get;
use muster_common::position::Lsn;

/// Settings that belong to what the server was, or to an earlier recovery: dropped from `postgresql.auto.conf`.
const DROPPED: [&str; 16] = [
    "restore_command",
    "recovery_end_command",
    "archive_cleanup_command",
    "recovery_target",
    "recovery_target_action",
    "recovery_target_inclusive",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_timeline",
    "recovery_target_xid",
    "recovery_min_apply_delay",
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
    "synchronous_standby_names",
];

/// Settings that are taken out of a `postgresql.conf` inside of the data directory: two recovery targets are refused by
/// the server, and paths of the place that the backup came from mean another place here.
pub const PLACES: [&str; 9] = [
    "data_directory",
    "hba_file",
    "ident_file",
    "external_pid_file",
    "recovery_target",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_xid",
    "recovery_min_apply_delay",
];

/// Begins the settings that are removed once the server is promoted.
const TEMPORARY: &str = "# Until this restore is finished, by Muster:";
/// Ends them.
const TEMPORARY_END: &str = "# End of what is until this restore is finished.";

/// A setting with its value.
pub type Setting = (&'static str, String);

/// What recovery needs: up to and with the record that begins at `target`, then promotion.
#[must_use]
pub fn recovery(helper: &[String], target: Lsn, timeline: u32) -> Vec<Setting> {
    vec![
        ("restore_command", wal_get::restore_command(helper)),
        ("recovery_target_lsn", target.to_string()),
        ("recovery_target_inclusive", "on".into()),
        ("recovery_target_timeline", timeline.to_string()),
        ("recovery_target_action", "promote".into()),
        ("recovery_end_command", String::new()),
        ("archive_cleanup_command", String::new()),
        ("primary_conninfo", String::new()),
        ("primary_slot_name", String::new()),
        // Nobody reads a state that is not the restored one yet, and smaller limits than the source's are no obstacle.
        ("hot_standby", "off".into()),
    ]
}

/// `postgresql.auto.conf` for a restored server: what was there without what is dropped and without what is set anew.
#[must_use]
pub fn auto_conf(before: &str, lasting: &[Setting], temporary: &[Setting]) -> String {
    let set_anew = |name: &str| lasting.iter().chain(temporary).any(|(set, _)| *set == name);
    let mut text = String::new();
    for line in without_temporary(before).lines() {
        if setting_name(line).is_none_or(|name| !DROPPED.contains(&name.as_str()) && !set_anew(&name)) {
            text.push_str(line);
            text.push('\n');
        }
    }
    for (name, value) in lasting {
        text.push_str(&assignment(name, value));
    }
    if !temporary.is_empty() {
        text.push_str(&format!("{TEMPORARY}\n"));
        for (name, value) in temporary {
            text.push_str(&assignment(name, value));
        }
        text.push_str(&format!("{TEMPORARY_END}\n"));
    }
    text
}

/// `postgresql.auto.conf` once the server is promoted. `ALTER SYSTEM` drops comments: the settings go by name too.
#[must_use]
pub fn finished(text: &str, temporary: &[Setting]) -> String {
    let ours = |line: &str| {
        setting_name(line)
            .is_some_and(|name| temporary.iter().any(|(ours, value)| *ours == name && assignment(ours, value).trim_end() == line.trim()))
    };
    without_temporary(text).lines().filter(|line| !ours(line)).map(|line| format!("{line}\n")).collect()
}

fn without_temporary(text: &str) -> String {
    let mut kept = String::new();
    let mut inside = false;
    for line in text.lines() {
        match line.trim() {
            TEMPORARY => inside = true,
            TEMPORARY_END => inside = false,
            _ if inside => {}
            _ => {
                kept.push_str(line);
                kept.push('\n');
            }
        }
    }
    // A section without its end is no section of ours.
    if inside { text.to_owned() } else { kept }
}

/// The same file with the settings `names` made comments.
#[must_use]
pub fn comment_out(text: &str, names: &[&str]) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        if setting_name(line).is_some_and(|name| names.contains(&name.as_str())) {
            out.push_str("#muster-restore# ");
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

fn assignment(name: &str, value: &str) -> String {
    // In configuration files a quote is doubled and a backslash begins an escape (`guc-file.l`).
    format!("{name} = '{}'\n", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// The name that a line sets.
#[must_use]
pub fn setting_name(line: &str) -> Option<String> {
    let line = line.trim_start();
    let end = line.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.')?;
    let name = line.get(..end)?;
    (!name.is_empty()).then(|| name.to_ascii_lowercase())
}

/// Preloaded libraries without those that start work of their own.
#[must_use]
pub fn without_schedulers(libraries: &str) -> String {
    let schedulers = ["pg_cron", "pg_timetable", "pgagent", "pg_squeeze", "pg_partman_bgw", "bgw_replstatus"];
    let kept =
        libraries.split(',').map(str::trim).filter(|library| !library.is_empty() && !schedulers.contains(&library.trim_matches('"')));
    kept.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_was_does_not_come_along_and_what_recovery_needs_goes_again() {
        let before = "# Do not edit\nwork_mem = '8MB'\nprimary_conninfo = 'host=x password=y'\nport = '1'\nrecovery_target_time = 'now'\n";
        let temporary = recovery(&["/bin/it's".into()], Lsn(0x0300_0028), 2);
        let text = auto_conf(before, &[("port", "2".into())], &temporary);
        assert!(text.contains("work_mem = '8MB'") && !text.contains("password") && !text.contains("'now'") && !text.contains("port = '1'"));
        assert!(text.contains("recovery_target_lsn = '0/3000028'") && text.contains("recovery_target_timeline = '2'"));
        assert!(text.contains("'''/bin/it''\\\\''''s''"), "{text}");
        assert_eq!(finished(&text, &temporary), "# Do not edit\nwork_mem = '8MB'\nport = '2'\n");
        // Restored again from a half-done restore: nothing doubles.
        assert_eq!(auto_conf(&text, &[("port", "2".into())], &temporary), text);
        // ALTER SYSTEM has rewritten the file without its comments.
        let bare: String = text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
        assert_eq!(finished(&bare, &temporary), "work_mem = '8MB'\nport = '2'\n");
    }

    #[test]
    fn settings_of_another_place_become_comments() {
        let text = "data_directory = '/var/lib/x'\n Hba_File='/etc/x' # y\n#ident_file = 'z'\nrecovery_target_timeline = 'latest'\n";
        assert_eq!(
            comment_out(text, &PLACES),
            "#muster-restore# data_directory = '/var/lib/x'\n#muster-restore#  Hba_File='/etc/x' # y\n#ident_file = 'z'\nrecovery_target_timeline = 'latest'\n"
        );
        assert_eq!(without_schedulers("pg_stat_statements, pg_cron,auto_explain"), "pg_stat_statements, auto_explain");
    }
}
