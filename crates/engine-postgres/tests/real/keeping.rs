//! What a keeper does to a real server, and what a server does that it keeps: take over, permit, fence, start.

use std::process::Stdio;

use muster_engine::request::RestoreTarget;
use muster_engine_postgres::data_directory::is_postgres;
use serde_json::json;

use crate::driving::Bench;
use crate::kept::{Kept, kill};
use crate::server::{BIN, as_postgres, free_port, run, sql_at, stop_at};

#[test]
fn a_server_under_load_is_taken_over_without_an_interruption() {
    let kept = Kept::unmanaged();
    kept.server.sql("create table t (n bigint generated always as identity, at timestamptz default clock_timestamp())");
    let script = kept.server.folder.path().join("load.sql");
    std::fs::write(&script, "insert into t default values;\n").unwrap();
    let started = kept.server.sql("select pg_postmaster_start_time()");
    let mut load = as_postgres(format!("{BIN}/pgbench"));
    load.args(["-n", "-c", "2", "-T", "3", "-h", "127.0.0.1", "-U", "postgres", "-p", &kept.server.port.to_string(), "-f"]).arg(&script);
    let load = load.arg("postgres").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    kept.until("the load runs", || kept.server.sql("select count(*) > 100 from t") == "t");
    kept.ok(json!({ "take_over": { "writes": true, "governed": { "synchronous_standby_names": "" } } }));
    let at = kept.server.sql("select count(*) from t");
    kept.until("the load goes on", || kept.server.sql(&format!("select count(*) > {at} + 100 from t")) == "t");
    let output = load.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && told.contains("number of failed transactions: 0 "), "{told}");
    assert_eq!(kept.server.sql("select pg_postmaster_start_time()"), started);
    assert_eq!(kept.server.sql("select count(*) from pg_settings where pending_restart"), "0");
    assert_eq!((kept.sees("permit"), kept.sees("server"), kept.ok(json!("is_marked"))), ("true".into(), "ReadWrite".into(), json!(true)));
    // Again, as after a crash: nothing changes.
    kept.ok(json!({ "take_over": { "writes": true, "governed": { "synchronous_standby_names": "" } } }));
    assert_eq!(kept.server.sql("select pg_postmaster_start_time()"), started);
}

#[test]
fn a_take_over_that_is_killed_at_any_step_leaves_the_server_running_and_is_finished_by_the_same_call() {
    let kept = Kept::unmanaged();
    let act = json!({ "take_over": { "writes": true, "governed": {} } });
    for step in ["permit", "include", "reloaded", "marked"] {
        kept.killed(act.clone(), &format!("postgres.take_over.{step}"));
        assert_eq!(kept.server.sql("select 1"), "1", "{step}");
    }
    assert_eq!(kept.ok(act), serde_json::Value::Null);
    assert_eq!(kept.ok(json!("is_marked")), json!(true));
}

#[test]
fn without_its_permit_nothing_starts_and_the_message_names_the_file() {
    let kept = Kept::writer();
    // An ordinary restart in the same boot needs no agent.
    kept.server.down();
    kept.server.up();
    assert_eq!(kept.sees("server"), "ReadWrite");
    kept.ok(json!("remove_permit"));
    assert_eq!((kept.sees("permit"), kept.sees("server")), ("false".into(), "ReadWrite".into()));
    kept.server.down();
    let told = kept.by_hand(&kept.server.data).unwrap_err();
    assert!(told.contains(&kept.permit().display().to_string()), "{told}");
    let fault = kept.act(json!("start")).unwrap_err();
    assert!(fault.message.contains("no permit") && !fault.hint.is_empty(), "{fault}");
    kept.ok(json!({ "give": { "writes": true, "governed": {} } }));
    kept.ok(json!("start"));
    assert_eq!(kept.sees("server"), "ReadWrite");
}

#[test]
fn a_copy_on_the_same_machine_dies_at_the_originals_lock() {
    let kept = Kept::writer();
    let copy = kept.server.folder.path().join("copy");
    kept.server.down();
    run(as_postgres("/bin/cp").arg("-a").arg(&kept.server.data).arg(&copy));
    kept.server.up();
    let told = kept.by_hand(&copy).unwrap_err();
    assert!(told.contains("postmaster.pid") && told.contains(&kept.server.data.display().to_string()), "{told}");
    assert_eq!(kept.server.sql("select 1"), "1");
}

#[test]
fn a_fence_kills_the_backend_that_outlived_its_postmaster() {
    let kept = Kept::writer();
    let mut busy = as_postgres("/usr/bin/psql");
    busy.args(["-X", "-h", "127.0.0.1", "-U", "postgres", "-p", &kept.server.port.to_string(), "-c"]);
    let busy = busy.arg("select count(*) from generate_series(1, 100000000) a where a % 7 = 8").stdout(Stdio::null()).stderr(Stdio::null());
    let mut busy = busy.spawn().unwrap();
    let backend = "select pid from pg_stat_activity where query like '%generate_series%' and pid <> pg_backend_pid()";
    kept.until("the backend is busy", || !kept.server.sql(backend).is_empty());
    let backend = kept.server.sql(backend);
    kill(kept.postmaster());
    kept.until("the postmaster is gone", || !is_postgres(kept.postmaster()));
    // The port is closed, and the backend works on.
    let backend: i32 = backend.parse().unwrap();
    assert!(is_postgres(backend));
    assert_eq!(kept.sees("server"), "Unclear");
    kept.fence();
    assert!(!is_postgres(backend));
    assert_eq!((kept.sees("server"), kept.sees("stopped")), ("Stopped".into(), "true".into()));
    busy.wait().unwrap();
}

#[test]
fn a_server_that_was_stalled_before_its_lock_dies_at_the_fences() {
    let kept = Kept::writer();
    kept.server.down();
    // A server reads its configuration twice; the second time the pipe behind the include line stalls it, its permit read.
    let pipe = kept.server.folder.path().join("stall");
    run(as_postgres("/usr/bin/mkfifo").arg(&pipe));
    // Its configuration lies elsewhere: with a file of the data open it would be seen, and killed.
    let conf = kept.server.folder.path().join("elsewhere.conf");
    let text = std::fs::read_to_string(kept.server.data.join("postgresql.conf")).unwrap();
    std::fs::write(&conf, format!("{text}include '{}'\n", pipe.display())).unwrap();
    let log = kept.server.folder.path().join("stalled.log");
    let mut stalled = as_postgres(format!("{BIN}/postgres"));
    stalled
        .arg("-D")
        .arg(&kept.server.data)
        .arg("-c")
        .arg(format!("config_file={}", conf.display()))
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap());
    let mut stalled = stalled.spawn().unwrap();
    let write = || std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    drop(write());
    let begun = std::time::Instant::now();
    while !std::fs::read_dir(format!("/proc/{}/fd", stalled.id()))
        .is_ok_and(|files| files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok()).all(|path| path != pipe))
    {
        assert!(begun.elapsed() < std::time::Duration::from_secs(10));
    }
    let held = write();
    kept.fence();
    assert_eq!(kept.sees("stopped"), "true");
    drop(held);
    assert!(!stalled.wait().unwrap().success());
    let told = std::fs::read_to_string(&log).unwrap();
    assert!(told.contains("lock file") && told.contains("already exists"), "{told}");
    assert_eq!(kept.sees("stopped"), "true");
}

#[test]
fn a_fence_that_is_killed_at_any_step_is_finished_by_the_same_call_and_its_lock_outlives_it() {
    let kept = Kept::writer();
    for step in ["permit", "stopped", "killed", "locked"] {
        kept.killed(json!({ "fence": { "fast_ms": 5000 } }), &format!("postgres.fence.{step}"));
        kept.fence();
        assert_eq!((kept.sees("stopped"), kept.sees("clean")), ("true".into(), "true".into()), "{step}");
        let told = kept.by_hand(&kept.server.data).unwrap_err();
        assert!(told.contains("orders-db.istanbul.conf"), "{told}");
        kept.ok(json!({ "give": { "writes": true, "governed": {} } }));
        assert_eq!(kept.sees("locked"), "false");
        kept.ok(json!("start"));
        assert_eq!(kept.server.sql("select 1"), "1");
    }
    // A server that does not stop in order is stopped all the same.
    run(std::process::Command::new("kill").args(["-STOP", &kept.postmaster().to_string()]));
    kept.ok(json!({ "fence": { "fast_ms": 100 } }));
    assert_eq!((kept.sees("stopped"), kept.sees("clean")), ("true".into(), "false".into()));
    // On a full disk the lock is an empty file, which no server overrides either.
    std::fs::write(kept.server.data.join("postmaster.pid"), "").unwrap();
    assert_eq!(kept.sees("stopped"), "true");
    kept.ok(json!("remove_permit"));
    std::fs::write(kept.permit(), "").unwrap();
    assert!(kept.by_hand(&kept.server.data).is_err());
    std::fs::remove_file(kept.permit()).unwrap();
    std::fs::remove_file(kept.server.data.join("postmaster.pid")).unwrap();
    kept.fence();
    // Its holder is killed: the lock is known to be nobody's, and the next fence takes it again.
    kill(-kept.postmaster());
    kept.until("the holder is gone", || kept.sees("locked") == "false");
    kept.fence();
    assert_eq!(kept.sees("stopped"), "true");
}

#[test]
fn after_a_kill_the_position_is_the_end_of_the_valid_log() {
    let kept = Kept::writer();
    kept.server.sql("create table t (text text); checkpoint");
    kept.server.sql("insert into t select repeat('x', 1000) from generate_series(1, 20000)");
    let flushed = kept.server.sql("select pg_current_wal_flush_lsn() - '0/0'").parse::<u64>().unwrap();
    let running = lsn(&kept);
    let postmaster = kept.postmaster();
    kill(postmaster);
    // Until its parent has waited for it, its number stands in the way of the next server's socket.
    kept.until("the postmaster is gone", || !std::path::Path::new(&format!("/proc/{postmaster}")).exists());
    kept.fence();
    let stopped = lsn(&kept);
    let look = kept.look();
    assert_eq!((look["clean"].clone(), look["stopped"].clone()), (json!(false), json!(true)));
    // What PostgreSQL's own reader says.
    let output =
        as_postgres(format!("{BIN}/pg_waldump")).arg("-p").arg(kept.server.data.join("pg_wal")).arg(segment(&kept)).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let text = muster_common::position::Lsn(stopped).to_string();
    assert!(told.contains(&format!(" at {text}:")), "{text}: {told}");
    assert!(stopped >= flushed && running <= stopped, "{running} {flushed} {stopped}");
    let control = muster_engine_postgres::data_directory::control_file(&kept.server.data).unwrap();
    assert!(stopped - control.checkpoint.0 > 20_000_000, "{control:?} {stopped}");
    // It starts again from there, and a clean stop's position is exact too.
    kept.ok(json!({ "give": { "writes": true, "governed": {} } }));
    kept.ok(json!("start"));
    assert_eq!(kept.server.sql("select count(*) from t"), "20000");
    kept.fence();
    assert_eq!(kept.sees("clean"), "true");
    assert!(lsn(&kept) > stopped);
}

/// The position's LSN as a number.
pub fn lsn(kept: &Kept) -> u64 {
    let look = kept.look();
    let position = look["position"]["lsn"].as_str().unwrap_or_else(|| panic!("{look}"));
    position.parse::<muster_common::position::Lsn>().unwrap().0
}

/// The newest segment that has log in it.
fn segment(kept: &Kept) -> String {
    let at = lsn(kept).saturating_sub(1) >> 24;
    format!("00000001{:08X}{:08X}", at >> 8, at & 0xFF)
}

#[test]
fn what_alter_system_set_against_the_permit_is_found_and_reset() {
    let kept = Kept::unmanaged();
    kept.ok(json!({ "take_over": { "writes": true, "governed": { "synchronous_standby_names": "ANY 1 (ankara)" } } }));
    let shown = || kept.server.sql("show synchronous_standby_names");
    assert_eq!(shown(), "ANY 1 (ankara)");
    kept.server.sql("alter system set synchronous_standby_names = ''");
    kept.server.sql("select pg_reload_conf()");
    kept.until("it is overridden", || shown().is_empty());
    let found = kept.ok(json!("govern"));
    let told = found["GovernedSettings"][1].as_str().unwrap().to_owned();
    assert!(found["GovernedSettings"][0] == json!(false) && told.contains("synchronous_standby_names; it was reset"), "{found}");
    assert_eq!(shown(), "ANY 1 (ankara)");
    assert_eq!(kept.ok(json!("govern"))["GovernedSettings"][0], json!(true));
    // A line behind the include line is told.
    kept.server.configure("work_mem = '9MB'\n");
    assert!(kept.ok(json!("govern"))["GovernedSettings"][1].as_str().unwrap().contains("work_mem = '9MB'"));
    let fault = kept.act(json!({ "take_over": { "writes": true, "governed": {} } })).unwrap_err();
    assert!(fault.message.contains("not the last one"), "{fault}");
    assert_eq!(sql_at(kept.server.port, "select 1"), "1");
}

#[test]
fn beside_another_manager_and_without_a_volatile_run_folder_nothing_is_taken_over() {
    let kept = Kept::unmanaged();
    let act = json!({ "take_over": { "writes": true, "governed": {} } });
    let refused = |name: &str| {
        let fault = kept.act(act.clone()).unwrap_err();
        assert!(fault.message.contains(name) && !fault.hint.is_empty(), "{fault}");
        assert!(
            !kept.permit().exists() && !std::fs::read_to_string(kept.server.data.join("postgresql.conf")).unwrap().contains("by Muster")
        );
    };
    let file = kept.server.data.join("patroni.dynamic.json");
    std::fs::write(&file, "{}").unwrap();
    refused("Patroni");
    std::fs::remove_file(&file).unwrap();
    let conf = kept.server.data.join("postgresql.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    for (line, name) in [("shared_preload_libraries = 'repmgr'", "repmgr"), ("include 'postgresql-auto-failover.conf'", "pg_auto_failover")]
    {
        std::fs::write(&conf, format!("{text}{line}\n")).unwrap();
        refused(name);
    }
    std::fs::write(&conf, text).unwrap();
    let mut config = kept.config();
    config.keeping.as_mut().unwrap().run_folder = kept.server.folder.path().join("run");
    let fault = kept.act_at(&config, act.clone(), "").unwrap().unwrap_err();
    assert!(fault.message.contains("not on tmpfs or ramfs"), "{fault}");
    // A server that is configured from elsewhere than is written to.
    kept.ok(act);
}

#[test]
fn a_kept_server_that_is_restored_in_place_is_kept_still_and_a_copy_beside_it_is_nobodys() {
    let kept = Kept::writer();
    let bench = Bench::new();
    kept.server.sql("create table t (n int); insert into t select generate_series(1, 10)");
    let outcome = bench.back_up(&kept.config()).unwrap();
    let copy = kept.server.folder.path().join("beside");
    let port = free_port();
    let request = bench.restore_request(outcome.point, RestoreTarget::Beside { directory: copy.clone(), port });
    bench.restore(&kept.config(), &request).unwrap();
    assert_eq!(sql_at(port, "select current_setting('data_directory')"), copy.display().to_string());
    assert_eq!(sql_at(port, "select count(*) from t"), "10");
    assert!(!copy.join("muster.mark").exists());
    stop_at(&copy);
    kept.server.sql("truncate t");
    bench.restore(&kept.config(), &bench.restore_request(outcome.point, RestoreTarget::InPlace)).unwrap();
    assert_eq!(kept.server.sql("select count(*) from t"), "10");
    assert_eq!((kept.sees("server"), kept.ok(json!("is_marked"))), ("ReadWrite".into(), json!(true)));
    kept.ok(json!("remove_permit"));
    kept.server.down();
    assert!(kept.by_hand(&kept.server.data).unwrap_err().contains("orders-db.istanbul.conf"));
}

#[test]
fn a_server_whose_data_were_moved_away_under_it_is_not_said_to_be_stopped() {
    let kept = Kept::writer();
    let moved = kept.server.folder.path().join("moved");
    run(as_postgres("/bin/mv").arg(&kept.server.data).arg(&moved));
    run(as_postgres("/bin/cp").arg("-a").arg(&moved).arg(&kept.server.data));
    std::fs::remove_file(kept.server.data.join("postmaster.pid")).unwrap();
    assert_eq!((kept.sees("server"), kept.sees("stopped")), ("Unclear".into(), "false".into()));
    let fault = kept.act(json!({ "fence": { "fast_ms": 5000 } })).unwrap_err();
    assert!(fault.to_string().contains(&moved.display().to_string()) && !fault.hint.is_empty(), "{fault}");
    stop_at(&moved);
    kept.fence();
    assert_eq!(kept.sees("stopped"), "true");
}
