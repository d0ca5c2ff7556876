//! Promotion and following between two real servers.

use std::process::Stdio;

use serde_json::json;

use crate::keeping::lsn;
use crate::kept::{Kept, kill};
use crate::server::{BIN, as_postgres, run};

/// What a session answers that tries to write, as text.
fn tries_to_write(kept: &Kept, before: &str) -> String {
    let mut psql = as_postgres("/usr/bin/psql");
    psql.args(["-X", "-h", "127.0.0.1", "-U", "postgres", "-p", &kept.server.port.to_string(), "-c"]);
    let output = psql.arg(format!("{before} insert into t values (1)")).stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_follower_that_is_promoted_by_hand_acknowledges_nothing() {
    let (writer, follower) = Kept::pair();
    writer.server.sql("create table t (n int)");
    follower.until("it replayed", || follower.server.sql("select to_regclass('t') is not null") == "t");
    run(as_postgres(format!("{BIN}/pg_ctl")).arg("-D").arg(&follower.server.data).args(["-w", "promote"]));
    assert!(tries_to_write(&follower, "").contains("read-only transaction"));
    // Who turns that off waits for a standby that nobody is called.
    let mut waits = as_postgres("/usr/bin/psql");
    waits.args(["-X", "-h", "127.0.0.1", "-U", "postgres", "-p", &follower.server.port.to_string(), "-c"]);
    let waits = waits.arg("set default_transaction_read_only = off").args(["-c", "insert into t values (1)"]);
    let mut waits = waits.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    follower
        .until("it waits for nobody", || follower.server.sql("select count(*) from pg_stat_activity where wait_event = 'SyncRep'") == "1");
    assert_eq!(follower.sees("server"), "ReadWrite");
    follower.fence();
    assert!(!waits.wait().unwrap().success());
    assert_eq!(follower.sees("stopped"), "true");
}

#[test]
fn a_promotion_acknowledges_nothing_before_its_permit_is_read() {
    let (writer, follower) = Kept::pair();
    writer.server.sql("create table t (n int)");
    follower.until("it replayed", || follower.server.sql("select to_regclass('t') is not null") == "t");
    let fault = follower.act(json!("promote")).unwrap_err();
    assert!(fault.message.contains("no writer's permit"), "{fault}");
    writer.fence();
    follower.ok(json!({ "give": { "writes": true, "governed": { "synchronous_standby_names": "" } } }));
    // Written, and not read: it still follows.
    assert_eq!(follower.server.sql("show synchronous_standby_names"), "_muster_follower");
    assert_eq!(follower.sees("server"), "ReadOnly");
    follower.killed(json!("promote"), "postgres.promote.promoted");
    assert_eq!(follower.server.sql("select pg_is_in_recovery()"), "f");
    assert!(tries_to_write(&follower, "").contains("read-only transaction"));
    follower.ok(json!("promote"));
    assert_eq!(follower.server.sql("show synchronous_standby_names"), "");
    assert_eq!(tries_to_write(&follower, ""), "");
    let look = follower.look();
    assert_eq!(
        (look["server"].clone(), look["position"]["timeline"].clone(), look["standby"].clone()),
        (json!("ReadWrite"), json!(2), json!(false))
    );
    assert_eq!(look["position"]["history"].as_array().unwrap().len(), 1, "{look}");
}

#[test]
fn a_stopped_writer_follows_the_one_that_was_promoted_after_its_last_byte() {
    let (writer, follower) = Kept::pair();
    writer.server.sql("create table t (n int); insert into t values (1)");
    writer.fence();
    // A clean stop hands over everything: the follower is where the writer ended.
    let last = writer.look()["position"].clone();
    follower.until("it has all", || follower.look()["position"]["lsn"] == last["lsn"]);
    follower.ok(json!({ "give": { "writes": true, "governed": {} } }));
    follower.ok(json!("promote"));
    follower.ok(json!({ "slots": ["muster_istanbul"] }));
    assert_eq!(follower.server.sql("select string_agg(slot_name, ' ') from pg_replication_slots"), "muster_istanbul");
    // One of Muster's that is not wanted any more goes; somebody else's stays.
    follower.server.sql("select pg_create_physical_replication_slot('muster_gone'), pg_create_physical_replication_slot('theirs')");
    follower.ok(json!({ "slots": ["muster_istanbul"] }));
    let slots = follower.server.sql("select string_agg(slot_name, ' ' order by slot_name) from pg_replication_slots");
    assert_eq!(slots, "muster_istanbul theirs");
    let fault = writer.act(json!({ "give": { "writes": false, "governed": { "upstream": follower.upstream("istanbul") } } })).unwrap_err();
    assert!(fault.message.contains("do not start as a standby"), "{fault}");
    writer.killed(json!({ "follow": follower.upstream("istanbul") }), "postgres.follow.standby");
    writer.ok(json!({ "follow": follower.upstream("istanbul") }));
    writer.ok(json!({ "give": { "writes": false, "governed": { "upstream": follower.upstream("istanbul") } } }));
    writer.ok(json!("start"));
    follower.server.sql("insert into t values (2)");
    writer.until("it follows", || writer.server.sql("select count(*) from t") == "2");
    let look = writer.look();
    assert_eq!(
        (look["server"].clone(), look["position"]["timeline"].clone(), look["ahead"].clone()),
        (json!("ReadOnly"), json!(2), json!(false))
    );
}

#[test]
fn a_follower_that_holds_more_than_its_upstream_is_seen() {
    let (writer, follower) = Kept::pair();
    writer.server.sql("create table t (n int)");
    writer.server.sql("checkpoint");
    writer.fence();
    // Its disk is rolled back: a copy from before the rows.
    let copy = writer.server.folder.path().join("old");
    run(as_postgres("/bin/cp").arg("-a").arg(&writer.server.data).arg(&copy));
    let start = || {
        writer.ok(json!({ "give": { "writes": true, "governed": {} } }));
        writer.ok(json!("start"));
    };
    start();
    writer.server.sql("insert into t select generate_series(1, 1000)");
    let last = writer.look()["position"]["lsn"].clone();
    follower.until("it replayed", || follower.server.sql("select count(*) from t") == "1000");
    assert_eq!(follower.sees("ahead"), "false");
    writer.fence();
    run(as_postgres("/bin/rm").arg("-rf").arg(&writer.server.data));
    run(as_postgres("/bin/mv").arg(&copy).arg(&writer.server.data));
    writer.fence();
    let parse = |text: &serde_json::Value| text.as_str().unwrap().parse::<muster_common::position::Lsn>().unwrap();
    assert!(parse(&writer.look()["position"]["lsn"]) < parse(&last));
    start();
    follower.until("it is ahead", || follower.sees("ahead") == "true");
}

/// A writer that was killed after it took 500 rows which the one that was promoted never got.
fn diverged() -> (Kept, Kept) {
    let (old, new) = Kept::pair();
    old.server.sql("create table t (who text, n int); insert into t select 'both', generate_series(1, 100)");
    new.until("it replayed", || {
        new.server.sql("select case when to_regclass('t') is null then 0 else (select count(*) from t) end") == "100"
    });
    new.ok(json!({ "give": { "writes": true, "governed": {} } }));
    new.ok(json!("promote"));
    old.server.sql("insert into t select 'old', generate_series(1, 500)");
    new.server.sql("insert into t select 'new', generate_series(1, 50)");
    new.ok(json!({ "slots": ["muster_istanbul"] }));
    let postmaster = old.postmaster();
    kill(postmaster);
    old.until("the postmaster is gone", || !std::path::Path::new(&format!("/proc/{postmaster}")).exists());
    (old, new)
}

fn follows(old: &Kept, new: &Kept) {
    let upstream = new.upstream("istanbul");
    old.ok(json!({ "follow": upstream }));
    old.ok(json!({ "give": { "writes": false, "governed": { "upstream": upstream } } }));
    old.ok(json!("start"));
    new.server.sql("insert into t values ('after', 1)");
    old.until("it follows", || old.server.sql("select string_agg(distinct who, ' ' order by who) from t") == "after both new");
    assert_eq!((old.sees("server"), old.ok(json!("is_marked"))), ("ReadOnly".into(), json!(true)));
    assert_eq!(old.server.sql("show port"), old.server.port.to_string());
}

#[test]
fn a_killed_writer_that_took_more_is_rewound_and_follows_and_what_it_took_is_kept() {
    let (old, new) = diverged();
    let told = old.ok(json!({ "rejoin": new.upstream("istanbul") }));
    assert_eq!((&told["rewound"], &told["fork"]["timeline"], &told["was"]["timeline"]), (&json!(true), &json!(1), &json!(1)), "{told}");
    assert!(told["bytes"].as_u64().unwrap() > 500 * 30, "{told}");
    // What only it held can be read still, from the fork on.
    let kept = told["kept"].as_str().unwrap();
    let fork = told["fork"]["lsn"].as_str().unwrap();
    let read = as_postgres(format!("{BIN}/pg_waldump")).args(["-p", &format!("{kept}/pg_wal"), "-s", fork]).output().unwrap();
    let read = String::from_utf8_lossy(&read.stdout).into_owned();
    assert!(read.matches("desc: INSERT").count() >= 500 && read.contains("COMMIT"), "{read}");
    assert_eq!(old.sees("stopped"), "true");
    follows(&old, &new);
    // It can follow as it is: nothing is done.
    old.fence();
    let told = old.ok(json!({ "rejoin": new.upstream("istanbul") }));
    assert_eq!((&told["rewound"], &told["bytes"]), (&json!(false), &json!(0)), "{told}");
}

#[test]
fn a_rejoin_that_is_killed_at_any_step_starts_nothing_and_is_finished_by_the_same_call() {
    let (old, new) = diverged();
    // The rights that the book names, and no more.
    new.server.sql("create role repl login replication; grant pg_checkpoint to repl");
    let functions = "pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean), pg_read_binary_file(text), pg_read_binary_file(text, bigint, bigint, boolean)";
    new.server.sql(&format!("grant execute on function {functions} to repl"));
    let mut upstream = new.upstream("istanbul");
    upstream["user"] = json!("repl");
    for step in ["noted", "recovered", "saved", "prepared", "rewound", "settled"] {
        old.killed(json!({ "rejoin": upstream }), &format!("postgres.rejoin.{step}"));
        let look = old.look();
        assert_eq!(
            (&look["server"], &look["position"], &look["standby"]),
            (&json!("Stopped"), &json!(null), &json!(false)),
            "{step}: {look}"
        );
        for act in [json!({ "give": { "writes": true, "governed": {} } }), json!({ "follow": new.upstream("istanbul") }), json!("start")] {
            let fault = old.act(act).unwrap_err();
            assert!(fault.message.contains("half-made"), "{step}: {fault}");
        }
    }
    let told = old.ok(json!({ "rejoin": upstream }));
    assert_eq!(told["rewound"], json!(true));
    follows(&old, &new);
}

#[test]
fn a_followers_position_is_what_it_holds_and_never_goes_back() {
    let (writer, follower) = Kept::pair();
    writer.server.sql("create table t (n int)");
    follower.until("it replayed", || follower.server.sql("select to_regclass('t') is not null") == "t");
    follower.server.sql("select pg_wal_replay_pause()");
    writer.server.sql("insert into t select generate_series(1, 1000)");
    let flushed = writer.server.sql("select pg_current_wal_flush_lsn()");
    follower.until("it has received", || follower.server.sql(&format!("select pg_last_wal_receive_lsn() >= '{flushed}'")) == "t");
    let held = lsn(&follower);
    assert_eq!(follower.server.sql("select pg_last_wal_replay_lsn() - '0/0'").parse::<u64>().unwrap().cmp(&held), std::cmp::Ordering::Less);
    assert!(held >= lsn(&writer));
    writer.fence();
    for _ in 0..2 {
        follower.server.down();
        assert!(lsn(&follower) >= held);
        follower.server.up();
        assert!(lsn(&follower) >= held);
    }
}

#[test]
fn an_empty_instance_gets_a_first_copy_also_when_it_is_cut_off() {
    let (writer, follower) = Kept::pair();
    writer.server.sql("create table t (who text, n int); insert into t values ('both', 1)");
    follower.fence();
    run(as_postgres("/bin/rm").arg("-rf").arg(&follower.server.data));
    let rejoin = json!({ "rejoin": writer.upstream("ankara") });
    let fault = follower.act(rejoin.clone()).unwrap_err();
    assert!(fault.message.contains("no data directory") && fault.hint.contains("0700"), "{fault}");
    run(as_postgres("/bin/mkdir").args(["-m", "0700"]).arg(&follower.server.data));
    follower.fence();
    assert_eq!(follower.sees("stopped"), "true");
    for step in ["emptied", "copied"] {
        follower.killed(rejoin.clone(), &format!("postgres.rejoin.{step}"));
        let fault = follower.act(json!({ "follow": writer.upstream("ankara") })).unwrap_err();
        assert!(fault.message.contains("half-made"), "{step}: {fault}");
    }
    assert_eq!(follower.ok(rejoin)["rewound"], json!(false));
    assert_eq!(follower.sees("stopped"), "true");
    follower.ok(json!({ "follow": writer.upstream("ankara") }));
    follower.ok(json!({ "give": { "writes": false, "governed": { "upstream": writer.upstream("ankara") } } }));
    follower.ok(json!("start"));
    writer.server.sql("insert into t values ('after', 2)");
    follower.until("it follows", || follower.server.sql("select count(*) from t") == "2");
    assert_eq!((follower.sees("server"), follower.ok(json!("is_marked"))), ("ReadOnly".into(), json!(true)));
}
