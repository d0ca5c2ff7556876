//! Looks: what a healthy server shows, and what each thing that is wrong becomes.

use std::time::{Duration, Instant};

use muster_engine::observation::{Condition, Depth, Observation, Position, Role};
use muster_engine::verbs::Engine;
use muster_engine_postgres::config::PostgresConfig;
use muster_engine_postgres::engine::Postgres;

use crate::server::Server;

fn look(config: PostgresConfig, depth: Depth) -> Observation {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { Postgres::new(config).unwrap().observe(depth).await })
}

fn condition<'a>(seen: &'a Observation, name: &str) -> &'a Condition {
    seen.conditions.iter().find(|c| c.name == name).unwrap_or_else(|| panic!("no {name} in {:#?}", seen.conditions))
}

#[test]
fn a_healthy_server_shows_its_role_position_and_no_trouble() {
    let server = Server::start();
    let seen = look(server.config(), Depth::Full);
    assert_eq!(seen.role, Role::ReadWrite);
    let wrong: Vec<_> = seen.conditions.iter().filter(|c| !c.ok && c.name != "Durability" && c.name != "DiskSpace").collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(!condition(&seen, "Durability").ok && !condition(&seen, "Durability").blocking);
    let Some(Position::Postgres(position)) = &seen.position else { panic!("{seen:?}") };
    assert_eq!(position.system_id.to_string(), server.sql("select system_identifier from pg_control_system()"));
    assert_eq!((position.timeline, position.history.len()), (1, 0));
    assert!(seen.bytes.unwrap() > 10_000_000 && seen.version.unwrap().starts_with("15."));
    assert_eq!(seen.details["data_checksums"], "on");
    assert!(seen.details.len() <= 100);
}

#[test]
fn a_server_that_is_down_is_told_at_once_with_its_cluster() {
    let server = Server::stopped();
    let begun = Instant::now();
    let seen = look(server.config(), Depth::Full);
    assert_eq!(seen.role, Role::Down);
    let reachable = condition(&seen, "ServerReachable");
    assert!(!reachable.ok && reachable.blocking && !reachable.hint.is_empty(), "{reachable:?}");
    assert!(condition(&seen, "DataDirectory").ok);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_server_that_hangs_is_told_within_five_seconds() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server::stopped();
    let mut config = server.config();
    config.address = format!("127.0.0.1:{}", listener.local_addr().unwrap().port()).parse().unwrap();
    for depth in [Depth::Role, Depth::Full] {
        let begun = Instant::now();
        let seen = look(config.clone(), depth);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert!(!condition(&seen, "ServerReachable").ok);
    }
}

#[test]
fn a_role_without_rights_is_told_the_sql_that_gives_them_and_that_sql_suffices() {
    let server = Server::start();
    server.sql("create role \"back up\" login");
    let mut config = server.config();
    config.user = "back up".into();
    let seen = look(config.clone(), Depth::Full);
    let rights = condition(&seen, "BackupRights").clone();
    assert!(!rights.ok && rights.blocking && rights.message.contains("pg_backup_start"), "{rights:?}");
    let replication = condition(&seen, "ReplicationRights");
    assert!(!replication.ok && replication.blocking && replication.hint.contains("REPLICATION"), "{replication:?}");
    let sql = rights.hint.strip_prefix("as a superuser: ").unwrap();
    server.sql(sql);
    let seen = look(config, Depth::Full);
    assert!(
        condition(&seen, "BackupRights").ok && condition(&seen, "ReplicationRights").ok && condition(&seen, "DataDirectory").ok,
        "{:#?}",
        seen.conditions
    );
}

#[test]
fn a_folder_of_another_cluster_and_one_that_is_none_are_told() {
    let (server, other) = (Server::start(), Server::stopped());
    let mut config = server.config();
    config.data_directory = other.data.clone();
    let told = look(config.clone(), Depth::Full);
    assert!(!condition(&told, "DataDirectory").ok && condition(&told, "DataDirectory").blocking, "{told:#?}");
    config.data_directory = other.folder.path().join("nowhere");
    let told = look(config, Depth::Full);
    assert!(condition(&told, "DataDirectory").message.contains("nowhere"));
    assert_eq!(told.role, Role::ReadWrite);
}

#[test]
fn a_foreign_host_and_a_wrong_role_are_refused_with_a_hint() {
    let server = Server::start();
    let mut config = server.config();
    config.user = "nobody-here".into();
    let seen = look(config, Depth::Full);
    let reachable = condition(&seen, "ServerReachable");
    assert!(!reachable.ok && reachable.hint.contains("CREATE ROLE \"nobody-here\""), "{reachable:?}");
    assert_eq!(seen.role, Role::Unknown);
}

#[test]
fn a_look_at_the_role_is_cheap_and_survives_a_restart_of_the_server() {
    let server = Server::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let instance = Postgres::new(server.config()).unwrap();
    let look = |depth| runtime.block_on(instance.observe(depth));
    look(Depth::Full);
    let begun = Instant::now();
    for _ in 0..20 {
        let seen = look(Depth::Role);
        assert!(seen.role == Role::ReadWrite && seen.position.is_some() && seen.conditions.is_empty());
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    server.down();
    assert_eq!(look(Depth::Role).role, Role::Down);
    server.up();
    assert_eq!(look(Depth::Role).role, Role::ReadWrite);
}
