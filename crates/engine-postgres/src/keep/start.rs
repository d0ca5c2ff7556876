//! Starts the server under its permit.

use muster_common::fault::{ErrorKind, Fault};

use crate::control::pg_ctl::{PgCtl, bin_directory};
use crate::engine::Postgres;
use crate::keep::{incomplete, permit, server};

/// Starts it, and waits until it answers. One that runs already is started.
///
/// # Errors
/// Where it has no permit, its data are half-made, or it does not come up.
pub async fn start(instance: &Postgres) -> Result<(), Fault> {
    let (keeping, data) = instance.kept()?;
    incomplete::refuse(&data)?;
    if permit::read(&keeping)?.is_none() {
        return Err(Fault::refused(ErrorKind::FailedPrecondition, format!("{} has no permit", instance.config.name))
            .hint("the agent gives one when it may: muster describe component NAME tells what it waits for"));
    }
    if server::postmaster(instance)?.is_some() {
        return Ok(());
    }
    let bin = bin_directory(&instance.config, server::major(&data)?)?;
    let options: Vec<String> = instance.config.config_file.iter().map(|path| format!("-c config_file='{}'", path.display())).collect();
    PgCtl::new(&instance.config, bin, &data, &options).start().await
}
