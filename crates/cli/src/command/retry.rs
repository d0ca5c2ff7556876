//! `muster retry`: what an operation was asked for is asked for again.

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::proto::v1::{Operation, OperationKind, RetryRequest};

use crate::arguments::{App, Asking};
use crate::controller::Repeat;
use crate::exit::Exit;
use crate::follow;
use crate::render;

/// The arguments of `muster retry`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  muster retry 3f2a91c0\n  muster retry 3f2a91c0 --no-wait\n  muster retry 3f2a91c0 --yes")]
pub struct Arguments {
    /// The operation, which failed or was cancelled: its id, or the first 6 or more digits.
    operation: String,
    /// Do not ask, where it was a restore.
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    asking: Asking,
}

/// Asks where something may be replaced, starts it anew, follows it.
///
/// # Errors
/// Where it has succeeded or has not ended, it is refused, or consent is not given.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let old = follow::get(&controller, &arguments.operation).await?;
    let mut request = RetryRequest { id: old.id.clone(), consent: String::new(), request_id: arguments.asking.request_id() };
    if needs_consent(&old) {
        app.console.consent(&lost(&old), &old.component, arguments.yes).await?;
        request.consent.clone_from(&old.component);
    }
    let answer = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.operation();
            async move { client.retry(request).await }
        })
        .await
        .map(|answer| answer.operation);
    follow::accepted(&controller, &app.console, answer, &request.request_id, arguments.asking.no_wait).await
}

/// An operation does not tell where its restore went: each is asked for that has failed or was cancelled; others are refused anyway.
fn needs_consent(old: &Operation) -> bool {
    old.kind() == OperationKind::Restore && !old.dry_run && crate::exit::has_ended(old) && Exit::of_operation(old) != Exit::Ok
}

fn lost(old: &Operation) -> String {
    format!(
        "{} is asked for again: the same point to the same place.\nWhere that is in place: everything that was written after the point is \
         LOST, clients are cut off, and the present directory is kept aside.\n",
        render::operation::title(old)
    )
}

#[cfg(test)]
mod tests {
    use muster_wire::proto::v1::OperationState;

    use super::*;

    #[test]
    fn only_a_restore_that_may_be_retried_is_asked_about() {
        let of = |kind: OperationKind, state: OperationState, dry_run| Operation {
            kind: kind.into(),
            state: state.into(),
            dry_run,
            ..Operation::default()
        };
        assert!(needs_consent(&of(OperationKind::Restore, OperationState::Failed, false)));
        for old in [
            of(OperationKind::Restore, OperationState::Failed, true),
            of(OperationKind::Restore, OperationState::Succeeded, false),
            of(OperationKind::Restore, OperationState::Running, false),
            of(OperationKind::Backup, OperationState::Failed, false),
        ] {
            assert!(!needs_consent(&old), "{old:?}");
        }
    }
}
