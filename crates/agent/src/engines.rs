//! The engine of each kind of instance: the one place of the agent that knows which kinds there are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::CommandId;
use muster_common::name::InstanceName;
use muster_engine::keep::Keeping;
use muster_engine::verbs::Engine;
use muster_engine_files::engine::Files;
use muster_engine_postgres::config::{Control, PostgresConfig};
use muster_engine_postgres::control::unit::ServerUnit;
use muster_engine_postgres::engine::Postgres;
use muster_engine_postgres::verify::leftover;
use muster_wire::proto::v1::{self, postgres_spec};

use crate::assignment::parse::{AssignedInstance, Kind};
use crate::config::Config;

/// What of the agent itself an engine's servers call.
#[derive(Clone, Debug)]
pub struct Own {
    /// The program that hands a restored server its log, with its first arguments.
    pub wal_get: Vec<String>,
    /// The program that holds a stopped server's lock, with its first arguments.
    pub holder: Vec<String>,
    /// Where permits go.
    pub run_folder: PathBuf,
    /// The unit of systemd's that servers are started in, where one is declared.
    pub server_unit: Option<ServerUnit>,
}

impl Own {
    /// This very program, as its file declares it.
    ///
    /// # Errors
    /// Where its path is not known.
    pub fn of_this_program(config: &Config) -> std::io::Result<Self> {
        let program = std::env::current_exe()?.display().to_string();
        let run_folder = config.run_directory();
        let template = config.server_unit.clone();
        Ok(Self {
            wal_get: vec![program.clone(), "wal-get".to_owned()],
            holder: vec![program, "hold".to_owned()],
            server_unit: template.map(|template| ServerUnit { template, orders: run_folder.join("servers") }),
            run_folder,
        })
    }

    /// For who only looks.
    #[must_use]
    pub fn unused() -> Self {
        Self { wal_get: vec!["unused".to_owned()], holder: Vec::new(), run_folder: PathBuf::new(), server_unit: None }
    }
}

/// Makes the engine of an instance.
///
/// # Errors
/// Where what was declared cannot be meant.
pub fn build(name: &InstanceName, assigned: &AssignedInstance, own: &Own) -> Result<Arc<dyn Engine>, Fault> {
    Ok(match &assigned.kind {
        Kind::Files(folder) => Arc::new(Files::new(name.to_string(), folder.clone())?),
        Kind::Postgres(spec) => Arc::new(Postgres::new(postgres(name, spec, own)?)?),
    })
}

/// Ends what an engine's verb left running for a command in its scratch folder when the agent was killed. Blocks.
///
/// # Errors
/// Where something stays.
pub fn end_leftovers(scratch: &Path, command: CommandId) -> Result<(), Fault> {
    leftover::end(scratch, &leftover::socket_folder(command))
}

fn postgres(name: &InstanceName, spec: &v1::PostgresSpec, own: &Own) -> Result<PostgresConfig, Fault> {
    let control = match &spec.control {
        Some(postgres_spec::Control::PgCtl(control)) => {
            Control::PgCtl { options: control.options.clone(), log_file: path(&control.log_file) }
        }
        None => Control::PgCtl { options: String::new(), log_file: None },
    };
    Ok(PostgresConfig {
        name: name.to_string(),
        address: spec.address.parse().map_err(|error| refused(name, &error))?,
        data_directory: PathBuf::from(&spec.data_directory),
        user: if spec.user.is_empty() { operating_system_user(name)? } else { spec.user.clone() },
        database: if spec.database.is_empty() { "postgres".to_owned() } else { spec.database.clone() },
        password_file: path(&spec.password_file),
        bin_directory: path(&spec.bin_directory),
        config_file: path(&spec.config_file),
        control,
        wal_get: own.wal_get.clone(),
        server_unit: own.server_unit.clone(),
        keeping: Some(Keeping {
            run_folder: own.run_folder.clone(),
            component: name.component.clone(),
            instance: name.instance.clone(),
            holder: own.holder.clone(),
        }),
    })
}

fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

/// The name of the user that this process runs as, by `/etc/passwd`, as libpq takes it where no role is named.
fn operating_system_user(name: &InstanceName) -> Result<String, Fault> {
    let uid = rustix::process::getuid().as_raw().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.get(2) == Some(&uid.as_str()));
    entry
        .and_then(|fields| fields.first().map(|user| (*user).to_owned()))
        .or_else(|| std::env::var("USER").ok())
        .ok_or_else(|| refused(name, &format!("postgres.user is not given, and the agent's user {uid} has no name")))
}

fn refused(name: &InstanceName, why: &dyn std::fmt::Display) -> Fault {
    Fault::refused(ErrorKind::InvalidArgument, format!("instance {name}: {why}"))
        .hint("correct the component's resource and apply it again")
}
