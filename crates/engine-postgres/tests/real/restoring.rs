//! Restores of real servers, taken under load: whole, beside, in place, refused, put back.

use std::process::{Child, Stdio};

use muster_common::fault::ErrorKind;
use muster_engine::observation::Position;
use muster_engine::request::RestoreTarget;

use crate::driving::Bench;
use crate::server::{BIN, Server, as_postgres, free_port, run, sql_at, stop_at};

/// Tables of several kinds, and figures that tell whether they are the same.
const TABLES: &str = "create extension amcheck;
    create table orders (id bigint primary key, customer int, note text) with (fillfactor = 70);
    insert into orders select i, i % 1000, repeat(md5(i::text), 5) from generate_series(1, 40000) i;
    create index on orders (customer);
    create table big (id int primary key, body text);
    insert into big select i, string_agg(md5(i::text || j), '') from generate_series(1, 200) i, generate_series(1, 400) j group by i;
    create unlogged table scratch (id int primary key);
    insert into scratch select generate_series(1, 5000);
    create sequence tickets; select nextval('tickets') from generate_series(1, 50);
    create table counted (n int); insert into counted values (0);";

pub fn checksum(port: u16) -> String {
    sql_at(
        port,
        "select (select md5(string_agg(o::text, ',' order by id)) from orders o), (select md5(string_agg(b::text, ',' order by id)) from big b)",
    )
}

pub fn amcheck(port: u16) {
    run(as_postgres(format!("{BIN}/pg_amcheck")).args([
        "-h",
        "127.0.0.1",
        "-p",
        &port.to_string(),
        "-U",
        "postgres",
        "--heapallindexed",
        "-a",
    ]));
}

pub fn filled() -> Server {
    let server = Server::start();
    server.sql(TABLES);
    server
}

/// Writes until it is dropped.
struct Load(Child);

impl Load {
    fn on(server: &Server) -> Self {
        let port = server.port.to_string();
        run(as_postgres(format!("{BIN}/pgbench")).args([
            "-i",
            "-q",
            "-s",
            "2",
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-p",
            &port,
            "postgres",
        ]));
        let mut load = as_postgres(format!("{BIN}/pgbench"));
        load.args(["-n", "-c", "4", "-T", "300", "-h", "127.0.0.1", "-U", "postgres", "-p", &port, "postgres"]);
        Self(load.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_backup_under_load_restored_beside_is_whole_and_consistent() {
    let (server, bench) = (filled(), Bench::new());
    let before = checksum(server.port);
    let load = Load::on(&server);
    let outcome = bench.back_up(&server.config()).unwrap();
    drop(load);
    let (port, directory) = (free_port(), bench.folder.path().join("copy"));
    let restored = bench
        .restore(&server.config(), &bench.restore_request(outcome.point, RestoreTarget::Beside { directory: directory.clone(), port }))
        .unwrap();
    assert_eq!(checksum(port), before);
    // pgbench's invariant: every transaction is there whole or not at all.
    assert_eq!(
        sql_at(
            port,
            "select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history), (select count(*) > 0 from pgbench_history)"
        ),
        "t|t"
    );
    assert_eq!(sql_at(port, "select count(*) from scratch"), "0");
    assert_eq!(sql_at(port, "select last_value >= 50 from tickets"), "t");
    assert_eq!(sql_at(port, "show archive_mode; "), "off");
    amcheck(port);
    let (Some(Position::Postgres(at)), Some(Position::Postgres(wanted))) = (&restored.position, &outcome.position) else {
        panic!("{restored:?}")
    };
    assert!(at.timeline == 2 && at.lsn >= wanted.lsn && at.history[0].at == wanted.lsn, "{restored:?} {outcome:?}");
    let auto = std::fs::read_to_string(directory.join("postgresql.auto.conf")).unwrap();
    assert!(!auto.contains("recovery_target") && !auto.contains("restore_command"), "{auto}");
    assert!(!directory.join("muster.restore").exists() && !directory.join("recovery.signal").exists());
    // It starts again without any helper.
    stop_at(&directory);
    run(as_postgres(format!("{BIN}/pg_ctl")).arg("-D").arg(&directory).args(["-w", "-l", "/dev/null", "start"]).stdout(Stdio::null()));
    assert_eq!(checksum(port), before);
    stop_at(&directory);
}

#[test]
fn a_dropped_table_comes_back_in_place_and_the_old_directory_is_kept_until_it_is_discarded() {
    let (server, bench) = (filled(), Bench::new());
    let before = checksum(server.port);
    let outcome = bench.back_up(&server.config()).unwrap();
    server.sql("drop table orders; insert into counted values (1)");
    let mut request = bench.restore_request(outcome.point, RestoreTarget::InPlace);
    request.consent = false;
    let refused = bench.restore(&server.config(), &request).unwrap_err();
    assert!(refused.kind == ErrorKind::FailedPrecondition && refused.hint.contains("--yes"), "{refused:?}");
    request.consent = true;
    request.dry_run = true;
    let plan = bench.restore(&server.config(), &request).unwrap().plan;
    assert!(plan.bytes > 30_000_000 && plan.replaces.len() == 1 && plan.predicted_seconds > 0 && plan.free_bytes > 0, "{plan:?}");
    assert_eq!(server.sql("select count(*) from counted"), "2");
    request.dry_run = false;
    let restored = bench.restore(&server.config(), &request).unwrap();
    assert_eq!(checksum(server.port), before);
    assert_eq!(server.sql("select count(*) from counted"), "1");
    amcheck(server.port);
    let kept = restored.kept.unwrap();
    assert!(kept.path.join("global/pg_control").is_file() && kept.bytes > 30_000_000, "{kept:?}");
    bench.discard(&server.config(), &kept.path).unwrap();
    assert!(!kept.path.exists());
    bench.discard(&server.config(), &kept.path).unwrap();
    let foreign = bench.discard(&server.config(), &server.data).unwrap_err();
    assert_eq!(foreign.kind, ErrorKind::InvalidArgument);
    // A second restore of the same point gets a timeline of its own.
    bench.restore(&server.config(), &request).unwrap();
    assert_eq!(server.sql("select timeline_id > 2 from pg_control_checkpoint()"), "t");
    // And the restored one can be backed up: its history is part of the point.
    let again = bench.back_up(&server.config()).unwrap();
    bench.restore(&server.config(), &bench.restore_request(again.point, RestoreTarget::InPlace)).unwrap();
    assert_eq!(checksum(server.port), before);
}
