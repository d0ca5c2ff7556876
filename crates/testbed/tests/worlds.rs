//! The test bed's own promises, on real servers: what it starts works, and nothing of it is left.

use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use muster_testbed::account::RunAs;
use muster_testbed::eventually::until;
use muster_testbed::postgres::load::{self, Load};
use muster_testbed::postgres::programs::Programs;
use muster_testbed::postgres::proof::{amcheck, checksums, same};
use muster_testbed::postgres::server::{Options, Postgres, Stop};
use muster_testbed::scenario::scenario;
use muster_testbed::world::World;

const SOON: Duration = Duration::from_secs(30);

/// Processes that have their working folder in `root`.
fn inhabitants(root: &std::path::Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        if std::fs::read_link(path.join("cwd")).is_ok_and(|folder| folder.starts_with(root)) {
            found.push(path.display().to_string());
        }
    }
    Ok(found)
}

#[test]
fn a_server_holds_what_was_written_through_a_crash() {
    scenario(async |world| {
        let server = Postgres::start(&world, "orders", &Options::default()).await?;
        load::fill(&world, &server, "shop", 1).await?;
        let before = checksums(&server).await?;
        ensure!(before.get("shop/public.pgbench_accounts").is_some_and(|sum| sum.starts_with("100000 rows")), "{before:?}");
        server.stop(Stop::Kill).await?;
        ensure!(server.running().is_none(), "it runs after kill -9");
        server.start_again().await?;
        same(&before, &checksums(&server).await?)?;
        amcheck(&world, &server).await?;
        server.execute("shop", "update pgbench_accounts set abalance = abalance + 1 where aid = 7").await?;
        let told = same(&before, &checksums(&server).await?);
        ensure!(told.is_err_and(|error| error.to_string().contains("shop/public.pgbench_accounts")), "a changed row was not noticed");
        Ok(())
    });
}

#[test]
fn load_writes_until_it_is_stopped() {
    scenario(async |world| {
        let server = Postgres::start(&world, "orders", &Options::default()).await?;
        load::fill(&world, &server, "shop", 1).await?;
        let load = Load::start(&world, &server, "shop", 2)?;
        until("pgbench to write", SOON, async || Ok(server.value("shop", "select count(*) from pgbench_history").await? != "0")).await?;
        ensure!(load.runs()?, "pgbench has ended by itself");
        load.stop(&server).await?;
        same(&checksums(&server).await?, &checksums(&server).await?)
    });
}

#[test]
fn two_servers_have_one_identity_or_two_as_asked() {
    scenario(async |world| {
        let ask = "select system_identifier from pg_control_system()";
        let first = Postgres::start(&world, "first", &Options::default()).await?.value("postgres", ask).await?;
        let twin = Postgres::start(&world, "twin", &Options::default()).await?.value("postgres", ask).await?;
        let other = Options { own_identity: true, ..Options::default() };
        let stranger = Postgres::start(&world, "stranger", &other).await?.value("postgres", ask).await?;
        ensure!(first == twin && first != stranger, "{first} {twin} {stranger}");
        Ok(())
    });
}

#[test]
fn nothing_is_left_of_a_world_not_even_a_server_that_another_started() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let world = World::new()?;
    let root = world.root().to_owned();
    runtime.block_on(async {
        let server = Postgres::start(&world, "orders", &Options::default()).await?;
        server.stop(Stop::Fast).await?;
        let pg_ctl = "/usr/lib/postgresql/15/bin/pg_ctl";
        let data = server.data().display().to_string();
        world.run(RunAs::Postgres, pg_ctl, &["-D", &data, "-w", "-l", "/dev/null", "start"], SOON).await?.success()?;
        server.running().map(|_| ()).ok_or_else(|| anyhow!("pg_ctl started nothing"))
    })?;
    ensure!(!inhabitants(&root)?.is_empty(), "nobody lives in the world");
    drop(world);
    ensure!(inhabitants(&root)?.is_empty(), "left: {:?}", inhabitants(&root)?);
    ensure!(!root.exists(), "{} is left", root.display());
    Ok(())
}

#[test]
fn a_panic_leaves_nothing_either() {
    let root = std::sync::Mutex::new(None);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        scenario(async |world| {
            *root.lock().map_err(|_| anyhow!("poisoned"))? = Some(world.root().to_owned());
            let _server = Postgres::start(&world, "orders", &Options::default()).await?;
            Err(anyhow!("as intended"))
        });
    }));
    assert!(outcome.is_err(), "a failed scenario passes");
    let root = root.into_inner().unwrap().unwrap();
    assert!(!root.exists(), "{} is left", root.display());
    assert!(inhabitants(&root).unwrap().is_empty());
}

#[test]
fn a_small_disk_gets_full_and_is_unmounted_with_its_world() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let world = World::new()?;
    let disk = runtime.block_on(world.small_disk("disk", 64 * 1024))?;
    let refused = std::fs::write(disk.join("big"), vec![0_u8; 128 * 1024]);
    ensure!(refused.is_err_and(|error| error.kind() == std::io::ErrorKind::StorageFull), "more fitted than there is");
    let root = world.root().to_owned();
    drop(world);
    ensure!(!std::fs::read_to_string("/proc/mounts")?.contains(&root.display().to_string()), "it is still mounted");
    ensure!(!root.exists(), "{} is left", root.display());
    Ok(())
}

#[test]
fn newer_versions_come_from_npm() {
    scenario(async |world| {
        for major in [16, 17, 18] {
            let Some(programs) = Programs::from_npm(&world, major).await? else {
                println!("NOT RUN: PostgreSQL {major} comes from npm, and there is no npm on this machine");
                continue;
            };
            let server = Postgres::start(&world, &format!("pg{major}"), &Options { programs, ..Options::default() }).await?;
            let version: u32 = server.value("postgres", "select current_setting('server_version_num')").await?.parse()?;
            ensure!(version / 10_000 == major, "{version} is not {major}");
            load::fill(&world, &server, "shop", 1).await?;
            amcheck(&world, &server).await?;
        }
        Ok(())
    });
}

mod store {
    //! The object store, by a client that is not ours.

    use std::sync::Arc;
    use std::time::Duration;

    use anyhow::{Result, ensure};
    use muster_testbed::s3::fault::{Fault, Kind};
    use muster_testbed::s3::server::{ACCESS_KEY, REGION, S3, SECRET_KEY};
    use muster_testbed::scenario::scenario;
    use object_store::aws::{AmazonS3, AmazonS3Builder};
    use object_store::path::Path;
    use object_store::{ClientOptions, ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions, RetryConfig};

    fn client(server: &S3) -> Result<AmazonS3> {
        // The second test of this process finds it installed already.
        rustls::crypto::ring::default_provider().install_default().ok();
        let retry = RetryConfig { max_retries: 3, retry_timeout: Duration::from_secs(20), ..RetryConfig::default() };
        let client = AmazonS3Builder::new()
            .with_endpoint(server.endpoint())
            .with_allow_http(true)
            .with_bucket_name(server.bucket())
            .with_region(REGION)
            .with_access_key_id(ACCESS_KEY)
            .with_secret_access_key(SECRET_KEY)
            .with_retry(retry)
            .with_client_options(ClientOptions::new().with_allow_http(true).with_timeout(Duration::from_secs(2)))
            .build()?;
        Ok(client)
    }

    #[test]
    fn one_of_many_conditional_puts_wins() {
        scenario(async |world| {
            let server = S3::start(&world, "backups").await?;
            let client = Arc::new(client(&server)?);
            for round in 0..10 {
                let writers = (0..16).map(|writer| {
                    let client = client.clone();
                    tokio::spawn(async move {
                        let path = Path::from(format!("race/{round}"));
                        client.put_opts(&path, format!("{writer}").into(), PutOptions::from(PutMode::Create)).await
                    })
                });
                let mut winners = 0;
                for writer in writers.collect::<Vec<_>>() {
                    winners += usize::from(writer.await?.is_ok());
                }
                ensure!(winners == 1, "{winners} winners in round {round}");
            }
            Ok(())
        });
    }

    #[test]
    fn throttling_errors_and_silence_are_seen_by_a_client_and_pass() {
        scenario(async |world| {
            let server = S3::start(&world, "backups").await?;
            let client = client(&server)?;
            for kind in [Kind::Throttle, Kind::Error, Kind::Silence, Kind::LostReply] {
                let before = server.faults().struck();
                server.faults().add(Fault::on(kind, "PUT", 1))?;
                client.put(&Path::from("a/b"), "bytes".into()).await?;
                ensure!(server.faults().struck() == before + 1, "{kind:?} did not strike");
            }
            ensure!(client.get(&Path::from("a/b")).await?.bytes().await?.as_ref() == b"bytes", "other bytes");
            Ok(())
        });
    }

    #[test]
    fn a_lost_reply_was_carried_out() {
        scenario(async |world| {
            let server = S3::start(&world, "backups").await?;
            let client = client(&server)?;
            server.faults().add(Fault::on(Kind::LostReply, "PUT", 1))?;
            let path = Path::from("points/1");
            let answer = client.put_opts(&path, "mine".into(), PutOptions::from(PutMode::Create)).await;
            ensure!(matches!(answer, Err(object_store::Error::AlreadyExists { .. })), "{answer:?}");
            ensure!(client.get(&path).await?.bytes().await?.as_ref() == b"mine", "other bytes");
            Ok(())
        });
    }
}
