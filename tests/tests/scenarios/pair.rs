//! A component with an instance at each of two sites: what the test bed makes of it, and what is seen.

use std::time::Duration;

use anyhow::ensure;
use muster_testbed::eventually::until;
use muster_testbed::postgres::server::{Options, Postgres};
use muster_testbed::scenario::scenario;
use muster_testbed::two_sites::TwoSites;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_standby_at_the_other_site_streams_and_both_are_seen() {
    scenario(async |world| {
        let options = Options { durable: true, own_identity: true, ..Options::default() };
        let (sites, writer) = tokio::try_join!(TwoSites::start(&world), Postgres::start(&world, "ist", &options))?;
        let standby = Postgres::standby_of(&world, "ank", &writer).await?;
        sites.folder_repository().await?;
        sites.postgres_pair("orders-db", &writer, &standby).await?;
        writer.execute("postgres", "create table t as select 1 as n").await?;
        until("the row to arrive", SOON, async || {
            Ok(standby.value("postgres", "select count(*) from t").await.is_ok_and(|rows| rows == "1"))
        })
        .await?;
        let page = sites.operator.says(&["status", "orders-db"]).await?;
        println!("{page}");
        ensure!(page.contains("standby"), "{page}");
        Ok(())
    });
}
