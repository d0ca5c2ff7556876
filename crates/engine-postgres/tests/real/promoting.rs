//! Promotion and following between two real servers.

use std::process::Stdio;

use serde_json::json;

use crate::kept::Kept;
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
