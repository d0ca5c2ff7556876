//! `muster dump`: takes a logical point, by pg_dump.

use std::time::Duration;

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::convert;
use muster_wire::proto::v1::{BackupRequest, DumpScope};

use super::backup::start;
use crate::arguments::{App, Asking};
use crate::exit::Exit;
use crate::follow;

const EXAMPLES: &str = "\
Examples:
  muster dump orders-db                                       # every database, roles and tablespaces
  muster dump orders-db --database shop --database stock
  muster dump orders-db --database shop --table 'orders*'
  muster restore orders-db --instance istanbul --point 9c1e0a12 --into-database shop_before --from-database shop
  muster restore orders-db --instance istanbul --point 9c1e0a12 --beside /srv/dumps/today    # files for a plain pg_restore";

/// The arguments of `muster dump`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The component.
    component: String,
    /// The instance to read. Default: a standby that is fit for it, else the writer.
    #[arg(short, long, value_name = "NAME")]
    instance: Option<String>,
    /// A database. May be given several times. Default: all.
    #[arg(short, long = "database", value_name = "NAME")]
    databases: Vec<String>,
    /// Only this schema of the one database; a pattern as pg_dump takes it. May be given several times.
    #[arg(long = "schema", value_name = "PATTERN", requires = "databases")]
    schemas: Vec<String>,
    /// Only this table of the one database; a pattern as pg_dump takes it. May be given several times.
    #[arg(long = "table", value_name = "PATTERN", requires = "databases")]
    tables: Vec<String>,
    /// A label of yours, up to 200 bytes.
    #[arg(short, long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    label: String,
    /// Fail when nothing moved for so long. Default: 15m.
    #[arg(long, value_name = "DURATION", value_parser = muster_common::duration::parse)]
    stall_limit: Option<Duration>,
    #[command(flatten)]
    asking: Asking,
}

/// Starts it and follows it.
///
/// # Errors
/// Where it is refused, or the controller cannot be reached.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let request = BackupRequest {
        component: arguments.component,
        instance: arguments.instance.unwrap_or_default(),
        label: arguments.label,
        dump: Some(DumpScope { databases: arguments.databases, schemas: arguments.schemas, tables: arguments.tables }),
        stall_limit: arguments.stall_limit.map(convert::duration_to_proto),
        request_id: arguments.asking.request_id(),
        ..BackupRequest::default()
    };
    let operation = start(&controller, &request).await?;
    follow::to_the_end(&controller, &app.console, operation, arguments.asking.no_wait).await
}
