//! Proof that two servers hold the same data and that a server's data is whole, by means that are not ours.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::programs::DEBIAN;
use super::server::Postgres;
use crate::account::RunAs;
use crate::world::World;

const LONG_ENOUGH: Duration = Duration::from_secs(600);

/// Every table, materialised view and sequence that a user made, in every database.
const RELATIONS: &str = "select quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.relkind = 'S' from pg_class c join pg_namespace n on n.oid = c.relnamespace \
    where c.relkind in ('r', 'm', 'S') and c.relpersistence = 'p' and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast') order by 1";

/// What a server holds: `database/schema.table` to rows and a sum over the hash of each row. The sum does not depend on the
/// rows' order, since a restored table may be read in another one.
pub type Checksums = BTreeMap<String, String>;

/// Checksums of everything that users made: tables, materialised views, sequences, large objects, roles.
///
/// # Errors
/// The server's own.
pub async fn checksums(server: &Postgres) -> Result<Checksums> {
    let mut sums = Checksums::new();
    let databases = server.rows("postgres", "select datname from pg_database where datallowconn order by 1").await?;
    for database in databases.into_iter().flatten() {
        for relation in server.rows(&database, RELATIONS).await? {
            let [name, sequence] = relation.as_slice() else { bail!("{database}: {relation:?} is not a relation") };
            // A sequence's `log_cnt` changes by a restart, and what is cached ahead is skipped: only its order and owner are fixed.
            if sequence == "t" {
                continue;
            }
            let sum = sum_of(server, &database, name).await?;
            sums.insert(format!("{database}/{name}"), sum);
        }
        let objects = sum_of(server, &database, "pg_largeobject").await?;
        sums.insert(format!("{database}/pg_largeobject"), objects);
    }
    let roles = sum_of(server, "postgres", "pg_authid").await?;
    sums.insert("pg_authid".to_owned(), roles);
    Ok(sums)
}

async fn sum_of(server: &Postgres, database: &str, relation: &str) -> Result<String> {
    let query = format!("select count(*) || ' rows, ' || coalesce(sum(hashtextextended(t::text, 7)::numeric), 0) from {relation} t");
    server.value(database, &query).await
}

/// Says in which tables two servers differ.
///
/// # Errors
/// Where they differ in any.
pub fn same(source: &Checksums, copy: &Checksums) -> Result<()> {
    let mut differences = Vec::new();
    for (name, sum) in source {
        match copy.get(name) {
            Some(other) if other == sum => {}
            Some(other) => differences.push(format!("{name}: {sum} in the source, {other} in the copy")),
            None => differences.push(format!("{name} is missing in the copy")),
        }
    }
    differences.extend(copy.keys().filter(|name| !source.contains_key(*name)).map(|name| format!("{name} is in the copy only")));
    if differences.is_empty() { Ok(()) } else { bail!("the data differs:\n  {}", differences.join("\n  ")) }
}

/// `pg_amcheck` over every table and index of every database, heap against index.
///
/// # Errors
/// What it finds.
pub async fn amcheck(world: &World, server: &Postgres) -> Result<()> {
    let sockets = server.sockets().display().to_string();
    let port = server.port().to_string();
    let arguments = ["-h", &sockets, "-p", &port, "-U", "postgres", "--all", "--install-missing", "--heapallindexed", "--no-strict-names"];
    world.run(RunAs::Postgres, &format!("{DEBIAN}/pg_amcheck"), &arguments, LONG_ENOUGH).await?.success().context("pg_amcheck")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Checksums, same};

    #[test]
    fn a_difference_is_named() {
        let source = Checksums::from([("a".into(), "1".into()), ("b".into(), "2".into())]);
        let copy = Checksums::from([("a".into(), "1".into()), ("b".into(), "3".into()), ("c".into(), "4".into())]);
        let told = same(&source, &copy).unwrap_err().to_string();
        assert!(told.contains("b: 2 in the source, 3 in the copy") && told.contains("c is in the copy only"), "{told}");
        assert!(same(&source, &source).is_ok());
    }
}
