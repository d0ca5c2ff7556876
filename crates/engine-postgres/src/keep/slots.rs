//! On the writer: the physical slots that keep log for its followers. Those of Muster begin with `muster_`.

use std::collections::BTreeSet;

use muster_common::fault::{ErrorKind, Fault};

use crate::engine::Postgres;
use crate::keep::server::{self, refused};

/// What slots of Muster's begin with.
pub const PREFIX: &str = "muster_";

/// Makes those that are wanted and drops those of Muster's that are not, unless somebody uses them. A backup's own go with its session.
///
/// # Errors
/// Where a name is none of Muster's, or the server refuses.
pub async fn slots(instance: &Postgres, wanted: &BTreeSet<String>) -> Result<(), Fault> {
    // `ReplicationSlotValidateName`: lower case, digits, underscores, at most 63 bytes.
    let good = |name: &&String| {
        name.starts_with(PREFIX) && name.len() <= 63 && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    if let Some(bad) = wanted.iter().find(|name| !good(name)) {
        return Err(Fault::refused(ErrorKind::InvalidArgument, format!("{bad:?} is no name of a slot of Muster's"))
            .hint(format!("{PREFIX} and the instance's name, with _ for -")));
    }
    let session = server::session(instance).await?;
    let sql = "SELECT slot_name::text, active FROM pg_replication_slots
        WHERE slot_type = 'physical' AND NOT temporary AND starts_with(slot_name::text, $1)";
    let rows = session.client.query(sql, &[&PREFIX]).await.map_err(|error| refused("read the replication slots", &error))?;
    let mut there = BTreeSet::new();
    for row in rows {
        let read = || -> Result<(String, bool), tokio_postgres::Error> { Ok((row.try_get(0)?, row.try_get(1)?)) };
        let (name, active) = read().map_err(|error| refused("read the replication slots", &error))?;
        if !wanted.contains(&name) && !active {
            let dropped = session.client.execute("SELECT pg_drop_replication_slot($1)", &[&name]).await;
            dropped.map_err(|error| refused(&format!("drop the slot {name}"), &error))?;
        }
        there.insert(name);
    }
    for name in wanted.difference(&there) {
        // It keeps log from now on, not only from its first use.
        let made = session.client.execute("SELECT pg_create_physical_replication_slot($1, true)", &[&name]).await;
        made.map_err(|error| {
            refused(&format!("make the slot {name}"), &error)
                .hint("as a superuser: ALTER ROLE the agent's role REPLICATION; and see max_replication_slots")
        })?;
    }
    Ok(())
}
