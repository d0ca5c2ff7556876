//! The cluster that every server starts from: made once on a machine, under a lock, and copied. Copies share the template's
//! system identifier; who needs another one asks for a cluster of its own.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::programs::Programs;
use crate::account::RunAs;
use crate::world::{World, shared_folder};

/// The role that an agent uses, and its password, over TCP.
pub const AGENT_ROLE: &str = "muster";
pub const AGENT_PASSWORD: &str = "a-test's password";

/// Grows when what [`make`] does changes, so that an older template is not used.
const EDITION: u32 = 3;

const MAKING: Duration = Duration::from_secs(120);

/// Local connections are trusted (only the test reaches the socket's folder); TCP needs a password, as on a real machine. 10.77/16 is the
/// network of `network`'s places.
const HBA: &str = "local all all trust\nlocal replication all trust\nhost all all 127.0.0.1/32 scram-sha-256\n\
    host replication all 127.0.0.1/32 scram-sha-256\nhost all all 10.77.0.0/16 scram-sha-256\nhost replication all 10.77.0.0/16 scram-sha-256\n";

/// What the role needs to observe, to back up, to rewind from this server, and to end what stands against
/// a permit. `amcheck` is for the proofs.
const ROLE: &str = "create role muster login replication password 'a-test''s password'; \
    grant pg_monitor, pg_checkpoint, pg_read_all_settings to muster; \
    grant execute on function pg_backup_start(text, boolean), pg_backup_stop(boolean), pg_switch_wal(), pg_create_restore_point(text) to muster; \
    grant execute on function pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean), pg_read_binary_file(text), \
    pg_read_binary_file(text, bigint, bigint, boolean) to muster; \
    grant alter system on parameter primary_conninfo, primary_slot_name, synchronous_standby_names, default_transaction_read_only to muster; \
    create extension amcheck;";

/// Fills `data`, which does not exist, with a cluster.
///
/// # Errors
/// Where initdb, the copy or the setting up fails.
pub async fn fill(world: &World, programs: &Programs, data: &Path, own_identity: bool) -> Result<()> {
    if own_identity {
        return make(world, programs, data).await;
    }
    let template = template(world, programs).await?;
    world
        .run(RunAs::Postgres, "/bin/cp", &["-a", "--reflink=auto", &template.display().to_string(), &data.display().to_string()], MAKING)
        .await?
        .success()
        .context("copy the template of PostgreSQL")?;
    Ok(())
}

/// The template's folder; it is made where it is not there.
async fn template(world: &World, programs: &Programs) -> Result<PathBuf> {
    let folder = shared_folder("postgres")?;
    let name = format!("{}-{EDITION}", programs.major());
    let done = folder.join(&name);
    let lock_path = folder.join(format!("{name}.lock"));
    let lock = OpenOptions::new().create(true).append(true).open(&lock_path).with_context(|| format!("open {}", lock_path.display()))?;
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await?.context("lock the template of PostgreSQL")?;
    if !done.is_dir() {
        let making = folder.join(format!("{name}.new"));
        world.run(RunAs::Postgres, "/bin/rm", &["-rf", &making.display().to_string()], MAKING).await?.success()?;
        make(world, programs, &making).await?;
        world.run(RunAs::Postgres, "/bin/mv", &[&making.display().to_string(), &done.display().to_string()], MAKING).await?.success()?;
    }
    drop(lock);
    Ok(done)
}

async fn make(world: &World, programs: &Programs, data: &Path) -> Result<()> {
    let data = data.display().to_string();
    let initdb = programs.program("initdb")?;
    let postgres = programs.program("postgres")?;
    let options = ["-D", &data, "-k", "-N", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"];
    world.run(RunAs::Postgres, &initdb, &options, MAKING).await?.success().context("make a cluster with initdb")?;
    // Single-user mode needs no port and no socket. It takes one statement a line.
    let script = world.file(&format!("template-{}.sql", rand::random::<u32>()), &ROLE.replace("; ", ";\n"), RunAs::Caller, 0o644)?;
    let command = format!("exec {postgres} --single -D '{data}' -F -c exit_on_error=on postgres < '{}'", script.display());
    world.run(RunAs::Postgres, "/bin/sh", &["-c", &command], MAKING).await?.success().context("make the agent's role")?;
    let hba = world.file(&format!("template-{}.hba", rand::random::<u32>()), HBA, RunAs::Caller, 0o644)?;
    let copy = ["-f", &hba.display().to_string(), &format!("{data}/pg_hba.conf")];
    world.run(RunAs::Postgres, "/bin/cp", &copy, MAKING).await?.success().context("write pg_hba.conf")?;
    Ok(())
}
