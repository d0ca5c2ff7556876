//! The way to a store's server over TLS: `verify-full` with the file of a CA, against a real server that has ssl on.

use muster_controller::command::init;
use muster_controller::config::{self, Flags};
use muster_controller::store::Store;
use muster_controller::store::place::Place;
use muster_controller::store::sql::query;
use muster_identity::endpoint::Endpoint;

use super::server::Server;

/// A folder with `identity/` of a certificate for 127.0.0.1, and the CA that made it.
fn certified() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let flags = Flags {
        state_directory: Some(folder.path().to_owned()),
        endpoints: vec![Endpoint { host: "127.0.0.1".into(), port: 7400 }],
        ..Flags::default()
    };
    init::make(&config::load(&flags).unwrap()).unwrap();
    folder
}

#[tokio::test]
async fn a_servers_certificate_is_verified_by_the_ca_that_the_url_names() {
    let (ours, other) = (certified(), certified());
    let server = Server::start();
    let plain = server.database().await.to_string();
    server.down();
    server.certified(&ours.path().join("identity"));
    server.up();
    let place = |authority: &tempfile::TempDir, host: &str| {
        let file = authority.path().join("ca/ca.pem").display().to_string();
        let url = plain.split('?').next().unwrap().replace("127.0.0.1", host);
        Place::parse(&format!("{url}?sslmode=verify-full&sslrootcert={file}"), None).unwrap()
    };
    let refused = Store::open_at(&place(&other, "127.0.0.1")).await.unwrap_err();
    assert!(format!("{refused:?}").to_lowercase().contains("certificate"), "another CA: {refused:?}");
    let store = Store::open_at(&place(&ours, "127.0.0.1")).await.unwrap();
    let mut read = store.read().await.unwrap();
    let asked = "SELECT CASE WHEN ssl THEN CAST(1 AS BIGINT) ELSE 0 END FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let protected: i64 = query(asked).fetch_one(&mut read).await.unwrap().try_get(0).unwrap();
    assert_eq!(protected, 1);
}
