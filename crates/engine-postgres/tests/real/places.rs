//! Where data can lie and come from: tablespaces, configuration outside of the data directory, a standby, an empty place,
//! a damaged page.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;

use muster_common::fault::ErrorKind;
use muster_engine::request::RestoreTarget;

use crate::driving::Bench;
use crate::restoring::{amcheck, checksum, filled};
use crate::server::{BIN, Folder, Server, as_postgres, free_port, run, sql_at, stop_at};

fn folder(path: &Path) {
    run(as_postgres("/bin/mkdir").arg(path));
}

#[test]
fn tablespaces_are_restored_beside_in_place_and_where_they_are_mapped() {
    let (server, bench) = (filled(), Bench::new());
    let location = server.folder.path().join("ts");
    folder(&location);
    server.sql(&format!("create tablespace fast location '{}'", location.display()));
    server.sql("create table there (n int primary key) tablespace fast; insert into there select generate_series(1, 3000)");
    let oid: u32 = server.sql("select oid from pg_tablespace where spcname = 'fast'").parse().unwrap();
    let before = checksum(server.port);
    let outcome = bench.back_up(&server.config()).unwrap();
    server.sql("drop table there");
    let (port, directory) = (free_port(), bench.folder.path().join("copy"));
    let beside = bench.restore_request(outcome.point, RestoreTarget::Beside { directory: directory.clone(), port });
    bench.restore(&server.config(), &beside).unwrap();
    assert_eq!((checksum(port), sql_at(port, "select sum(n) from there")), (before.clone(), "4501500".into()));
    let own = bench.folder.path().join(format!("copy.tablespace-{oid}"));
    assert_eq!(sql_at(port, &format!("select pg_tablespace_location({oid})")), own.display().to_string());
    stop_at(&directory);
    // Mapped; an OID that there is not is refused with those that there are.
    let directory = bench.folder.path().join("mapped");
    let mut request = bench.restore_request(outcome.point, RestoreTarget::Beside { directory: directory.clone(), port });
    request.tablespaces.insert(7, bench.folder.path().join("x"));
    let refused = bench.restore(&server.config(), &request).unwrap_err();
    assert!(refused.hint.contains(&oid.to_string()), "{refused}");
    request.tablespaces = [(oid, bench.folder.path().join("elsewhere"))].into();
    bench.restore(&server.config(), &request).unwrap();
    assert_eq!(sql_at(port, &format!("select pg_tablespace_location({oid})")), bench.folder.path().join("elsewhere").display().to_string());
    stop_at(&directory);
    // In place, killed between the moves.
    let request = bench.restore_request(outcome.point, RestoreTarget::InPlace);
    let steps = ["postgres.restore.tablespace_aside", "postgres.restore.tablespace_in"];
    let restored = bench.restore_killed(&server.config(), &request, &steps).unwrap();
    assert_eq!((checksum(server.port), server.sql("select sum(n) from there")), (before, "4501500".into()));
    amcheck(server.port);
    let versions = |folder: &Path| std::fs::read_dir(folder).unwrap().count();
    assert_eq!(versions(&location), 2);
    bench.discard(&server.config(), &restored.kept.unwrap().path).unwrap();
    assert_eq!(versions(&location), 1);
    assert_eq!(server.sql("select sum(n) from there"), "4501500");
}

#[test]
fn a_restore_into_an_empty_place_brings_the_cluster_back_after_the_disk_was_lost() {
    let (server, bench) = (filled(), Bench::new());
    let before = checksum(server.port);
    let outcome = bench.back_up(&server.config()).unwrap();
    let empty = bench.restore_request(outcome.point, RestoreTarget::Empty);
    let refused = bench.restore(&server.config(), &empty).unwrap_err();
    assert!(refused.kind == ErrorKind::FailedPrecondition && refused.message.contains("is not empty"), "{refused}");
    stop_at(&server.data);
    std::fs::remove_dir_all(&server.data).unwrap();
    bench
        .restore_killed(&server.config(), &empty, &["postgres.restore.fetched", "postgres.restore.control", "postgres.restore.started"])
        .unwrap();
    assert_eq!(checksum(server.port), before);
    amcheck(server.port);
    // A point of another cluster is not put in this one's place.
    let other = Server::start_other();
    let refused = bench.restore(&other.config(), &bench.restore_request(outcome.point, RestoreTarget::InPlace)).unwrap_err();
    assert!(refused.message.contains("holds cluster"), "{refused}");
}

#[test]
fn a_half_restored_directory_cannot_start() {
    let (server, bench) = (filled(), Bench::new());
    let outcome = bench.back_up(&server.config()).unwrap();
    let directory = bench.folder.path().join("copy");
    let request = bench.restore_request(outcome.point, RestoreTarget::Beside { directory: directory.clone(), port: free_port() });
    let verb = serde_json::json!({ "restore": request });
    let command = muster_common::id::CommandId::from_bytes(crate::driving::id());
    let killed = Bench::finish::<serde_json::Value>(bench.start(&server.config(), command, verb, "postgres.restore.fetched=kill"));
    assert!(killed.is_none() && directory.join("PG_VERSION").exists() && !directory.join("global/pg_control").exists());
    let started = as_postgres(format!("{BIN}/pg_ctl"))
        .arg("-D")
        .arg(&directory)
        .args(["-w", "-t", "10", "-l", "/dev/null", "start"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(!started.unwrap().success());
}

#[test]
fn a_damaged_page_is_named_in_the_outcome_and_the_backup_goes_on() {
    let (server, bench) = (filled(), Bench::new());
    let path = server.sql("select pg_relation_filepath('orders')");
    server.sql("checkpoint");
    server.down();
    let file = std::fs::File::options().write(true).open(server.data.join(&path)).unwrap();
    file.write_all_at(b"damage", 3 * 8192 + 4000).unwrap();
    server.up();
    let outcome = bench.back_up(&server.config()).unwrap();
    assert_eq!(outcome.damaged_pages, 1);
    assert!(outcome.damage[0].starts_with(&format!("{path} block 3:")), "{:?}", outcome.damage);
    let mut request = bench.restore_request(outcome.point, RestoreTarget::InPlace);
    request.dry_run = true;
    let plan = bench.restore(&server.config(), &request).unwrap().plan;
    assert!(plan.notes.iter().any(|note| note.contains("1 pages whose checksum was wrong")), "{plan:?}");
}

#[test]
fn a_standby_is_backed_up_while_its_primary_is_written_to() {
    let (primary, bench) = (filled(), Bench::new());
    let folder = Folder::new();
    let standby = Server::clone_of(&primary, folder);
    let mut load = as_postgres(format!("{BIN}/psql"));
    load.args(["-X", "-q", "-h", "127.0.0.1", "-U", "postgres", "-p", &primary.port.to_string(), "-c"]);
    load.arg("do $$ begin for i in 1..2000 loop insert into counted values (i); update orders set customer = customer + 1 where id = i; commit; end loop; end $$");
    let mut load = load.stdin(Stdio::null()).spawn().unwrap();
    let outcome = bench.back_up(&standby.config()).unwrap();
    assert!(load.wait().unwrap().success());
    let (port, directory) = (free_port(), bench.folder.path().join("copy"));
    bench
        .restore(&standby.config(), &bench.restore_request(outcome.point, RestoreTarget::Beside { directory: directory.clone(), port }))
        .unwrap();
    amcheck(port);
    assert_eq!(sql_at(port, "select count(*), count(distinct id) from orders"), "40000|40000");
    stop_at(&directory);
    // In place it becomes a server of its own: it no longer follows.
    bench.restore(&standby.config(), &bench.restore_request(outcome.point, RestoreTarget::InPlace)).unwrap();
    assert_eq!(
        standby.sql("select pg_is_in_recovery(), (select count(*) from pg_stat_wal_receiver), current_setting('primary_conninfo')"),
        "f|0|"
    );
}

#[test]
fn configuration_outside_of_the_data_directory_is_part_of_the_point() {
    let (mut server, bench) = (filled(), Bench::new());
    let etc = server.folder.path().join("etc");
    folder(&etc);
    folder(&etc.join("conf.d"));
    // Debian's own `conf.d` is empty until somebody puts a file into it.
    folder(&etc.join("empty.d"));
    server.down();
    for name in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"] {
        std::fs::rename(server.data.join(name), etc.join(name)).unwrap();
    }
    let main = etc.join("postgresql.conf");
    let text = std::fs::read_to_string(&main).unwrap();
    let data = server.data.display();
    let e = etc.display();
    std::fs::write(&main, format!("{text}\ndata_directory = '{data}'\nhba_file = '{e}/pg_hba.conf'\nident_file = '{e}/pg_ident.conf'\nexternal_pid_file = '{e}/x.pid'\ninclude_dir = 'conf.d'\ninclude_dir = 'empty.d'\n")).unwrap();
    std::fs::write(etc.join("conf.d/more.conf"), "work_mem = '7MB'\n").unwrap();
    run(std::process::Command::new("chown").args(["-R", "postgres:postgres"]).arg(&etc));
    server.config_file = Some(main);
    server.up();
    let before = checksum(server.port);
    let outcome = bench.back_up(&server.config()).unwrap();
    let (port, directory) = (free_port(), bench.folder.path().join("copy"));
    bench
        .restore(&server.config(), &bench.restore_request(outcome.point, RestoreTarget::Beside { directory: directory.clone(), port }))
        .unwrap();
    assert_eq!((checksum(port), sql_at(port, "show work_mem")), (before.clone(), "7MB".into()));
    assert!(sql_at(port, "show hba_file").starts_with(&directory.display().to_string()));
    stop_at(&directory);
    server.sql("drop table orders");
    bench.restore(&server.config(), &bench.restore_request(outcome.point, RestoreTarget::InPlace)).unwrap();
    assert_eq!(
        (checksum(server.port), server.sql("show config_file")),
        (before, server.config_file.as_ref().unwrap().display().to_string())
    );
}

#[test]
fn a_restore_without_any_instance_goes_into_the_folder_that_is_named() {
    let (server, bench) = (filled(), Bench::new());
    let before = checksum(server.port);
    let outcome = bench.back_up(&server.config()).unwrap();
    let (port, directory) = (free_port(), bench.folder.path().join("copy"));
    let mut config = server.config();
    config.data_directory = directory.clone();
    bench.restore(&config, &bench.restore_request(outcome.point, RestoreTarget::Beside { directory: directory.clone(), port })).unwrap();
    assert_eq!(checksum(port), before);
    stop_at(&directory);
}
