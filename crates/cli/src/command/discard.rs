//! `muster discard`: the old directory that a restore in place kept aside is removed.

use clap::Args;
use muster_common::fault::Fault;
use muster_common::time::Timestamp;
use muster_service::clock;
use muster_wire::proto::v1::{DiscardRequest, Operation, operation};

use crate::arguments::{App, Asking};
use crate::controller::Repeat;
use crate::exit::Exit;
use crate::follow;
use crate::render;

/// The arguments of `muster discard`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  muster discard 3f2a91c0\n  muster discard 3f2a91c0 --yes --no-wait")]
pub struct Arguments {
    /// The restore: its id, or the first 6 or more digits.
    operation: String,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    asking: Asking,
}

/// Removes it, after consent.
///
/// # Errors
/// Where consent is not given, nothing is kept, or there is no such restore.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let restore = follow::get(&controller, &arguments.operation).await?;
    app.console.consent(&lost(&restore, clock::now()), &restore.component, arguments.yes).await?;
    let request = DiscardRequest { id: restore.id, request_id: arguments.asking.request_id() };
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.operation();
            async move { client.discard(request).await }
        })
        .await
        .map(|answer| answer.operation);
    follow::accepted(&controller, &app.console, answer, &request.request_id, arguments.asking.no_wait).await
}

/// What is lost.
fn lost(restore: &Operation, now: Timestamp) -> String {
    let title = render::operation::title(restore);
    match &restore.result {
        Some(operation::Result::Restore(result)) => match &result.kept {
            Some(kept) => format!(
                "{title}: {}.\nREMOVED for good: that directory, the database as it was before the restore. There is no way back to it.\n",
                render::operation::kept_line(kept, now)
            ),
            None => format!("{title} kept no directory aside.\n"),
        },
        Some(
            operation::Result::Backup(_)
            | operation::Result::Check(_)
            | operation::Result::Discard(_)
            | operation::Result::Verify(_)
            | operation::Result::Prune(_)
            | operation::Result::Hold(_)
            | operation::Result::Hook(_)
            | operation::Result::Move(_)
            | operation::Result::SiteMove(_),
        )
        | None => {
            format!("{title}: what it kept aside is removed for good.\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use muster_wire::proto::v1::{KeptDirectory, OperationKind, RestoreResult};

    use super::*;

    #[test]
    fn what_is_removed_is_told_with_its_bytes() {
        let kept =
            KeptDirectory { path: "/srv/pg.old".into(), bytes: 1 << 30, until: Some(prost_types::Timestamp { seconds: 3_600, nanos: 0 }) };
        let result = RestoreResult { kept: Some(kept), ..RestoreResult::default() };
        let restore = Operation {
            id: "3f2a91c0".repeat(4),
            kind: OperationKind::Restore.into(),
            component: "orders-db".into(),
            instance: "istanbul".into(),
            result: Some(operation::Result::Restore(result)),
            ..Operation::default()
        };
        assert_eq!(
            lost(&restore, Timestamp(0)),
            "restore 3f2a91c0 of orders-db/istanbul: the old directory /srv/pg.old (1.0 GiB) is kept until 1970-01-01 01:00:00Z (in 1h).\n\
             REMOVED for good: that directory, the database as it was before the restore. There is no way back to it.\n"
        );
    }
}
