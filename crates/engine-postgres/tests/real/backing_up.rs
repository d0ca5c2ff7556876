//! Backups of real servers: what refuses them, what they find, what a kill leaves.

use muster_common::fault::ErrorKind;
use muster_engine::observation::Position;

use crate::driving::Bench;
use crate::server::Server;

#[test]
fn a_backup_of_a_fresh_cluster_is_published_with_its_position() {
    let (server, bench) = (Server::start(), Bench::new());
    let outcome = bench.back_up(&server.config()).unwrap();
    let Some(Position::Postgres(position)) = &outcome.position else { panic!("{outcome:?}") };
    assert_eq!(position.timeline, 1);
    assert_eq!((outcome.damaged_pages, outcome.damage.len()), (0, 0));
    assert!(outcome.files > 900 && outcome.bytes_total > 20_000_000, "{outcome:?}");
    let again = bench.back_up(&server.config()).unwrap();
    assert!(again.bytes_stored < outcome.bytes_stored / 4, "{} after {}", again.bytes_stored, outcome.bytes_stored);
}

#[test]
fn a_server_that_is_down_a_wrong_folder_and_missing_rights_refuse_a_backup_before_it_starts() {
    let (server, other, bench) = (Server::start(), Server::stopped(), Bench::new());
    server.sql("create role weak login");
    let down = bench.back_up(&other.config()).unwrap_err();
    let mut config = server.config();
    config.data_directory = other.data.clone();
    let wrong = bench.back_up(&config).unwrap_err();
    config.data_directory = other.data.join("nowhere");
    let nowhere = bench.back_up(&config).unwrap_err();
    let mut config = server.config();
    config.user = "weak".into();
    let weak = bench.back_up(&config).unwrap_err();
    for (fault, word) in [(down, "connect"), (wrong, "keeps its data in"), (nowhere, "nowhere"), (weak, "pg_backup_start")] {
        assert!(fault.kind == ErrorKind::FailedPrecondition && fault.message.contains(word) && !fault.hint.is_empty(), "{fault:?}");
    }
}
