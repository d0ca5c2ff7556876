//! kill -9 at each step of a backup and of a restore; helpers that fail; restores that are cancelled.

use std::path::Path;
use std::time::{Duration, Instant};

use muster_common::fault::{Effect, ErrorKind, Fault};
use muster_common::id::CommandId;
use muster_engine::request::{BackupOutcome, RestoreOutcome, RestoreTarget};

use crate::driving::{Bench, id};
use crate::server::{Server, run};

/// What lies beside a data directory.
fn beside(server: &Server) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(server.folder.path()).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.starts_with("data"));
    names.sort();
    names
}

fn small() -> (Server, Bench, BackupOutcome) {
    let (server, bench) = (Server::start(), Bench::new());
    server.sql("create table t (n int primary key); insert into t select generate_series(1, 1000)");
    let outcome = bench.back_up(&server.config()).unwrap();
    (server, bench, outcome)
}

#[test]
fn a_restore_in_place_that_is_killed_at_any_step_is_finished_by_the_same_command() {
    let (server, bench, outcome) = small();
    let request = bench.restore_request(outcome.point, RestoreTarget::InPlace);
    let steps =
        ["planned", "prepared", "fetched", "swapping", "stopped", "aside", "control", "in", "started", "accepting", "cleaned", "done"];
    for step in steps {
        let failpoint = format!("postgres.restore.{step}");
        server.sql("delete from t where n > 10");
        let restored = bench.restore_killed(&server.config(), &request, &[&failpoint]).unwrap_or_else(|fault| panic!("{step}: {fault}"));
        assert_eq!(server.sql("select count(*), sum(n) from t"), "1000|500500", "{step}");
        let kept = restored.kept.unwrap();
        let name = kept.path.file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(beside(&server), ["data".to_owned(), name], "{step}");
        assert!(!server.data.join("muster.restore").exists(), "{step}");
        bench.discard(&server.config(), &kept.path).unwrap();
    }
    // Twice in one command, at the worst places.
    server.sql("delete from t where n > 10");
    bench
        .restore_killed(&server.config(), &request, &["postgres.restore.stopped", "postgres.restore.aside", "postgres.restore.in"])
        .unwrap();
    assert_eq!(server.sql("select count(*) from t"), "1000");
}

/// After a restore that did not come up: what was there before is there and runs.
fn assert_put_back(server: &Server, fault: &Fault) {
    assert_eq!(fault.effect, Effect::None, "{fault}");
    assert!(fault.to_string().contains("the old directory is back and its server runs"), "{fault}");
    assert_eq!(server.sql("select count(*) from t"), "10");
    assert_eq!(beside(server), ["data"], "{fault}");
}

#[test]
fn a_helper_that_fails_never_makes_a_short_restore_and_the_old_directory_is_put_back() {
    let (server, mut bench, outcome) = small();
    server.sql("delete from t where n > 10");
    let request = bench.restore_request(outcome.point, RestoreTarget::InPlace);
    for code in [1, 44, 101, 255] {
        bench.helper = Some(vec!["/bin/sh".into(), "-c".into(), format!("exit {code}")]);
        let fault = bench.restore(&server.config(), &request).unwrap_err();
        assert_put_back(&server, &fault);
    }
    // Killed on the way back too.
    for step in ["putting_back", "back"] {
        let failpoint = format!("postgres.restore.{step}");
        let fault = bench.restore_killed(&server.config(), &request, &[&failpoint]).unwrap_err();
        assert_put_back(&server, &fault);
    }
    bench.helper = None;
    bench.restore(&server.config(), &request).unwrap();
    assert_eq!(server.sql("select count(*) from t"), "1000");
}

fn wait_for(path: &Path) {
    let begun = Instant::now();
    while !path.exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} did not appear", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_cancelled_restore_leaves_everything_as_it_was() {
    let (server, bench, outcome) = small();
    let hold = bench.folder.path().join("hold");
    let verb = serde_json::json!({ "restore": bench.restore_request(outcome.point, RestoreTarget::InPlace) });
    let command = CommandId::from_bytes(id());
    let child = bench.start(&server.config(), command, verb, &format!("postgres.restore.prepared=hold:{}", hold.display()));
    wait_for(&hold.with_extension("hit"));
    assert_eq!(beside(&server), ["data", "data.muster-restore"]);
    run(std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]));
    wait_for(&bench.folder.path().join(format!("work-{command}/cancelled")));
    std::fs::write(hold.with_extension("go"), "").unwrap();
    let fault = Bench::finish::<RestoreOutcome>(child).unwrap().unwrap_err();
    assert_eq!((fault.kind, fault.effect), (ErrorKind::Cancelled, Effect::None), "{fault}");
    assert_eq!(beside(&server), ["data"]);
    assert_eq!(server.sql("select count(*) from t"), "1000");
}

#[test]
fn a_backup_that_is_killed_at_any_step_is_taken_once_by_the_same_command() {
    let (server, bench) = (Server::start(), Bench::new());
    for step in ["started", "read", "stopped", "published"] {
        let request = bench.backup_request();
        let command = CommandId::from_bytes(id());
        let verb = serde_json::json!({ "backup": request });
        let killed =
            Bench::finish::<BackupOutcome>(bench.start(&server.config(), command, verb.clone(), &format!("postgres.backup.{step}=kill")));
        assert!(killed.is_none(), "{step}: {killed:?}");
        let outcome: BackupOutcome = Bench::finish(bench.start(&server.config(), command, verb.clone(), "")).unwrap().unwrap();
        assert_eq!(outcome.point, request.point);
        let again: BackupOutcome = Bench::finish(bench.start(&server.config(), command, verb, "")).unwrap().unwrap();
        assert_eq!(again, outcome, "{step}");
        // The killed session's slot and backup are gone with it.
        assert_eq!(server.sql("select count(*) from pg_replication_slots"), "0", "{step}");
    }
}
