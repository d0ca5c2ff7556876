//! What decides over governed settings besides the permit: found each time it is looked for, ended where that can be, and always told.

use std::collections::BTreeSet;

use muster_common::fault::Fault;
use muster_engine::observation::Condition;

use crate::engine::Postgres;
use crate::keep::give::{self, GOVERNED};
use crate::keep::{conf, io, permit, server};
use crate::observe::conditions::{bad, good};
use crate::restore::off_runtime;

/// The condition's name.
pub const NAME: &str = "GovernedSettings";

/// What the files say.
struct Files {
    auto: Vec<String>,
    /// `None`: the include line is gone.
    behind: Option<Vec<String>>,
}

/// Looks, resets, tells.
///
/// # Errors
/// Where the configuration cannot be read.
pub async fn govern(instance: &Postgres) -> Result<Vec<Condition>, Fault> {
    let (keeping, data) = instance.kept()?;
    let (config, place) = (instance.config.clone(), keeping.clone());
    let files = off_runtime(move || {
        let text = |path: &std::path::Path| match std::fs::read_to_string(path) {
            Ok(text) => Ok(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(io("read", path, &error)),
        };
        let main = text(&give::configuration(&config, &data))?;
        let auto = conf::sets(&text(&data.join("postgresql.auto.conf"))?, &GOVERNED);
        Ok(Files { auto, behind: conf::behind_include(&main, &permit::path(&place)) })
    })
    .await?;
    let runs = server::postmaster(instance)?.is_some();
    let mut found = BTreeSet::new();
    for name in &files.auto {
        let end = if runs { reset(instance, name).await } else { Err("it is taken out before the next start".to_owned()) };
        found.insert(match end {
            Ok(()) => format!("ALTER SYSTEM had set {name}; it was reset"),
            Err(why) => format!("ALTER SYSTEM has set {name}: {why}"),
        });
    }
    match &files.behind {
        None => found.extend(["the include line of the permit is not in the configuration".to_owned()]),
        Some(lines) => found.extend(lines.iter().map(|line| format!("behind the include line stands: {line}"))),
    }
    if runs {
        match on_the_command_line(instance).await {
            Ok(names) => found.extend(names),
            Err(fault) => found.extend([fault.message]),
        }
        if !files.auto.is_empty()
            && permit::read(&keeping)?.is_some()
            && let Err(fault) = server::reload(instance).await
        {
            found.insert(fault.to_string());
        }
    }
    Ok(vec![condition(found)])
}

fn condition(found: BTreeSet<String>) -> Condition {
    if found.is_empty() {
        return good(NAME, false, "what Muster governs is decided by the permit alone");
    }
    bad(
        NAME,
        false,
        found.into_iter().collect::<Vec<_>>().join("; "),
        "let the include line be the last line of postgresql.conf; governed settings are declared in the component's resource, not set by hand",
    )
}

async fn reset(instance: &Postgres, name: &str) -> Result<(), String> {
    let data = &instance.config().data_directory;
    if server::major(data).is_ok_and(|major| major >= permit::FORBIDS_ALTER_SYSTEM) {
        // The permit forbids ALTER SYSTEM there, the resetting one too, so that nobody else writes the file.
        return give::drop_overrides(data).map_err(|fault| fault.to_string());
    }
    let session = server::session(instance).await.map_err(|fault| fault.to_string())?;
    // The name is one of ours.
    let answer = session.client.batch_execute(&format!("ALTER SYSTEM RESET {name}")).await;
    answer.map_err(|error| format!("{}; as a superuser: ALTER SYSTEM RESET {name}", crate::connect::tell(&error)))
}

async fn on_the_command_line(instance: &Postgres) -> Result<Vec<String>, Fault> {
    let doing = "read where settings come from";
    let session = server::session(instance).await?;
    let names: Vec<&str> = GOVERNED.into_iter().filter(|name| *name != "data_directory").collect();
    let sql = "SELECT name FROM pg_settings WHERE source IN ('command line', 'environment variable') AND name = ANY($1::text[])";
    let rows = session.client.query(sql, &[&names]).await.map_err(|error| server::refused(doing, &error))?;
    let name = |row: &tokio_postgres::Row| row.try_get::<_, String>(0).map_err(|error| server::refused(doing, &error));
    let told = |name| format!("{name} stands on the server's command line: restart it without");
    rows.iter().map(|row| name(row).map(told)).collect()
}
