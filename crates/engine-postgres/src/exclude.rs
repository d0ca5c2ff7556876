//! What of a data directory is no part of a backup: the rules of PostgreSQL's own base backup
//! (`src/backend/backup/basebackup.c`, `src/backend/storage/file/reinit.c`), and what is Muster's own.
//!
//! Pure: judges names and paths. Paths are relative to the data directory, `/` between parts; a tablespace's are
//! relative to its version folder's parent, with the tablespace told apart.

use std::collections::BTreeSet;

/// Folders that are restored empty: what they hold belongs to the running server.
pub const EMPTIED: [&str; 7] = ["pg_stat_tmp", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_subtrans"];

/// Files of the data directory's top that are left out. The signal files belong to what the server was, not to what
/// a restore makes of it; the labels to backups that others take.
const LEFT_OUT: [&str; 15] = [
    "postmaster.pid",
    "postmaster.opts",
    "postgresql.auto.conf.tmp",
    "current_logfiles.tmp",
    "backup_label",
    "backup_label.old",
    "tablespace_map",
    "tablespace_map.old",
    "backup_manifest",
    "standby.signal",
    "recovery.signal",
    "recovery.done",
    "muster.restore",
    "muster.mark",
    "promote",
];

/// The fork of a relation that a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// Rows or index entries.
    Main,
    /// The free space map.
    FreeSpace,
    /// The visibility map.
    Visibility,
    /// What an unlogged relation begins from after a crash.
    Init,
}

/// A file of a permanent or unlogged relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelationFile {
    /// The relation's file number.
    pub number: u32,
    /// Which of its forks.
    pub fork: Fork,
    /// Which segment of it.
    pub segment: u32,
}

/// What to do with one entry of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is no part of the backup.
    LeaveOut,
    /// A folder whose own entry is kept and whose content is not.
    KeepEmpty,
    /// `pg_control`: taken by itself, last.
    ControlFile,
    /// A relation's file: pages.
    Relation(RelationFile),
    /// Anything else: taken whole.
    Plain,
}

/// Reads a relation's file name: `16384`, `16384_fsm.2`, `16384_init`.
#[must_use]
pub fn relation_file(name: &str) -> Option<RelationFile> {
    let digits = |text: &str| {
        (!text.is_empty() && text.len() <= 10 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
    };
    let (stem, segment) = match name.split_once('.') {
        Some((stem, segment)) => (stem, digits(segment)?),
        None => (name, 0),
    };
    let (number, fork) = match stem.split_once('_') {
        None => (stem, Fork::Main),
        Some((number, "fsm")) => (number, Fork::FreeSpace),
        Some((number, "vm")) => (number, Fork::Visibility),
        Some((number, "init")) => (number, Fork::Init),
        Some(_) => return None,
    };
    Some(RelationFile { number: digits(number)?, fork, segment })
}

/// True for `t3_16384`, `t3_16384_fsm`, `t3_16384.1`: a temporary relation (`looks_like_temp_rel_name`).
#[must_use]
pub fn is_temporary_relation(name: &str) -> bool {
    let Some((backend, rest)) = name.strip_prefix('t').and_then(|rest| rest.split_once('_')) else { return false };
    !backend.is_empty() && backend.bytes().all(|b| b.is_ascii_digit()) && relation_file(rest).is_some()
}

/// The unlogged relations of a folder: those that have an init fork. All their other forks are left out.
#[must_use]
pub fn unlogged<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<u32> {
    names.filter_map(relation_file).filter(|file| file.fork == Fork::Init).map(|file| file.number).collect()
}

/// True where `folder` can hold relations: `global`, `base/<oid>`, `<tablespace version>/<oid>`, and the last one below
/// `pg_tblspc/<oid>` for a tablespace that lies in the data directory itself.
#[must_use]
pub fn holds_relations(folder: &str, in_tablespace: bool) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = folder.split('/').collect();
    match (parts.as_slice(), in_tablespace) {
        ([version, oid], true) | (["pg_tblspc", _, version, oid], false) => version.starts_with("PG_") && number(oid),
        (["base", oid], false) => number(oid),
        (["global"], false) => true,
        _ => false,
    }
}

/// Judges the entry `name` of `folder` (empty: the top). `unlogged` is of that folder.
#[must_use]
pub fn judge(folder: &str, name: &str, in_tablespace: bool, unlogged: &BTreeSet<u32>) -> Verdict {
    if name.starts_with("pgsql_tmp") || name.starts_with("pg_internal.init") {
        return Verdict::LeaveOut;
    }
    if !in_tablespace && folder.is_empty() {
        return top(name);
    }
    if !in_tablespace && folder == "global" && name == "pg_control" {
        return Verdict::ControlFile;
    }
    if !holds_relations(folder, in_tablespace) {
        return Verdict::Plain;
    }
    if is_temporary_relation(name) {
        return Verdict::LeaveOut;
    }
    match relation_file(name) {
        Some(file) if file.fork != Fork::Init && unlogged.contains(&file.number) => Verdict::LeaveOut,
        Some(file) => Verdict::Relation(file),
        None => Verdict::Plain,
    }
}

fn top(name: &str) -> Verdict {
    if LEFT_OUT.contains(&name) || name == "lost+found" {
        Verdict::LeaveOut
    } else if name == "pg_wal" || EMPTIED.contains(&name) {
        Verdict::KeepEmpty
    } else {
        Verdict::Plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(folder: &str, name: &str) -> Verdict {
        judge(folder, name, false, &BTreeSet::from([16_400]))
    }

    #[test]
    fn relation_files_are_told_from_what_only_looks_like_one() {
        let file = |number, fork, segment| Some(RelationFile { number, fork, segment });
        for (name, expected) in [
            ("16384", file(16_384, Fork::Main, 0)),
            ("16384.12", file(16_384, Fork::Main, 12)),
            ("16384_fsm", file(16_384, Fork::FreeSpace, 0)),
            ("16384_vm.1", file(16_384, Fork::Visibility, 1)),
            ("16384_init", file(16_384, Fork::Init, 0)),
            ("pg_filenode.map", None),
            ("PG_VERSION", None),
            ("16384_foo", None),
            ("16384.", None),
            ("99999999999", None),
            ("", None),
        ] {
            assert_eq!(relation_file(name), expected, "{name}");
        }
        assert!(is_temporary_relation("t3_16384") && is_temporary_relation("t12_16384_fsm.1"));
        assert!(!is_temporary_relation("t_16384") && !is_temporary_relation("t3_x") && !is_temporary_relation("tmp"));
    }

    #[test]
    fn what_postgresqls_own_base_backup_leaves_out_is_left_out() {
        for name in
            ["postmaster.pid", "postmaster.opts", "backup_label", "tablespace_map", "backup_manifest", "pgsql_tmp", "standby.signal"]
        {
            assert_eq!(plain("", name), Verdict::LeaveOut, "{name}");
        }
        for name in ["pg_wal", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans"] {
            assert_eq!(plain("", name), Verdict::KeepEmpty, "{name}");
        }
        assert_eq!(plain("base/5", "pg_internal.init.4711"), Verdict::LeaveOut);
        assert_eq!(plain("global", "pg_control"), Verdict::ControlFile);
        assert_eq!(plain("base/5", "pg_filenode.map"), Verdict::Plain);
        assert_eq!(plain("pg_xact", "0000"), Verdict::Plain);
        assert_eq!(plain("", "postgresql.conf"), Verdict::Plain);
        assert_eq!(plain("somewhere", "postmaster.pid"), Verdict::Plain);
    }

    #[test]
    fn of_an_unlogged_relation_only_the_init_fork_is_taken() {
        assert_eq!(unlogged(["16400", "16400_init", "16401", "16402_vm"].into_iter()), BTreeSet::from([16_400]));
        assert_eq!(plain("base/5", "16400"), Verdict::LeaveOut);
        assert_eq!(plain("base/5", "16400_vm"), Verdict::LeaveOut);
        assert_eq!(plain("base/5", "16400.1"), Verdict::LeaveOut);
        assert!(matches!(plain("base/5", "16400_init"), Verdict::Relation(RelationFile { fork: Fork::Init, .. })));
        assert!(matches!(plain("base/5", "16401"), Verdict::Relation(_)));
        assert_eq!(plain("base/5", "t3_16401"), Verdict::LeaveOut);
    }

    #[test]
    fn a_tablespaces_folders_hold_relations_below_their_version() {
        let none = BTreeSet::new();
        assert!(matches!(judge("PG_15_202209061/5", "16384", true, &none), Verdict::Relation(_)));
        assert_eq!(judge("PG_15_202209061", "pgsql_tmp", true, &none), Verdict::LeaveOut);
        assert!(matches!(judge("pg_tblspc/16390/PG_15_202209061/5", "16384", false, &none), Verdict::Relation(_)));
        assert_eq!(judge("", "pg_wal", true, &none), Verdict::Plain);
    }
}
