//! Exit codes: what a script can tell apart without reading a text. The table stands in `docs/guides/cli.md` and in `muster --help`.
//!
//! What always holds: 0 means that what was asked for is done (or, with `--no-wait`, accepted), and nothing else does.

use muster_common::fault::{Effect, ErrorKind, Fault};
use muster_wire::proto::v1::{Operation, OperationState, operation};

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done; with `--no-wait`: accepted.
    Ok,
    /// A defect, or anything that no other code tells.
    Internal,
    /// The command line or a file was wrong.
    Usage,
    /// Refused as the world is now: a precondition, a conflict, a bound, a consent that was not given.
    Refused,
    /// What was named does not exist.
    NotFound,
    /// The caller is not known or may not.
    Permission,
    /// The controller or the repository cannot be reached; nothing was changed.
    Unavailable,
    /// The operation was accepted and failed.
    Failed,
    /// The operation was cancelled.
    Cancelled,
    /// It is not known whether it was done: the reply was lost, or the operation's outcome is unknown.
    Unknown,
    /// The time to wait is over; the operation goes on.
    TimedOut,
    /// Done, and damage was found: a backup with damaged pages, a check with problems.
    Damage,
    /// Interrupted by Ctrl-C; the operation goes on.
    Interrupted,
}

/// All of them, in the order of their codes.
pub const ALL: [Exit; 13] = [
    Exit::Ok,
    Exit::Internal,
    Exit::Usage,
    Exit::Refused,
    Exit::NotFound,
    Exit::Permission,
    Exit::Unavailable,
    Exit::Failed,
    Exit::Cancelled,
    Exit::Unknown,
    Exit::TimedOut,
    Exit::Damage,
    Exit::Interrupted,
];

impl Exit {
    /// The number that the process ends with.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Internal => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::NotFound => 4,
            Self::Permission => 5,
            Self::Unavailable => 6,
            Self::Failed => 7,
            Self::Cancelled => 8,
            Self::Unknown => 9,
            Self::TimedOut => 10,
            Self::Damage => 11,
            Self::Interrupted => 130,
        }
    }

    /// What it means, in a line.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "done (with --no-wait: accepted)",
            Self::Internal => "a defect, or anything that no other code tells",
            Self::Usage => "the command line or a file was wrong",
            Self::Refused => "refused: a precondition, a conflict, a bound, or consent that was not given",
            Self::NotFound => "what was named does not exist",
            Self::Permission => "the caller is not known or may not",
            Self::Unavailable => "the controller or the repository cannot be reached; nothing was changed",
            Self::Failed => "the operation was accepted and failed",
            Self::Cancelled => "the operation was cancelled",
            Self::Unknown => "it is not known whether it was done",
            Self::TimedOut => "the time to wait is over; the operation goes on",
            Self::Damage => "done, and damage was found",
            Self::Interrupted => "interrupted; an operation goes on",
        }
    }

    /// The code of a call or a command that failed.
    #[must_use]
    pub fn of_fault(fault: &Fault) -> Self {
        match fault.kind {
            ErrorKind::InvalidArgument => Self::Usage,
            ErrorKind::Unauthenticated | ErrorKind::PermissionDenied => Self::Permission,
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::AlreadyExists
            | ErrorKind::Conflict
            | ErrorKind::FailedPrecondition
            | ErrorKind::OutOfRange
            | ErrorKind::ResourceExhausted
            | ErrorKind::NotAvailable
            | ErrorKind::Incompatible => Self::Refused,
            ErrorKind::Unavailable => match fault.effect {
                Effect::None => Self::Unavailable,
                Effect::Unknown | Effect::Done => Self::Unknown,
            },
            ErrorKind::Stalled => Self::TimedOut,
            ErrorKind::Cancelled => Self::Cancelled,
            ErrorKind::DataLoss => Self::Damage,
            ErrorKind::Internal => Self::Internal,
        }
    }

    /// The code of an operation as it is now. One that has not ended counts as timed out: somebody stopped waiting.
    #[must_use]
    pub fn of_operation(operation: &Operation) -> Self {
        match operation.state() {
            OperationState::Succeeded => {
                if found_damage(operation) {
                    Self::Damage
                } else {
                    Self::Ok
                }
            }
            OperationState::Failed => Self::Failed,
            OperationState::Cancelled => Self::Cancelled,
            OperationState::Unknown | OperationState::Suspended => Self::Unknown,
            OperationState::Unspecified | OperationState::Pending | OperationState::Running | OperationState::Cancelling => Self::TimedOut,
        }
    }
}

fn found_damage(operation: &Operation) -> bool {
    match &operation.result {
        Some(operation::Result::Backup(backup)) => backup.damaged_pages > 0,
        Some(operation::Result::Check(check)) => check.problem_count > 0,
        Some(
            operation::Result::Restore(_)
            | operation::Result::Discard(_)
            | operation::Result::Verify(_)
            | operation::Result::Prune(_)
            | operation::Result::Hold(_)
            | operation::Result::Hook(_)
            | operation::Result::Move(_)
            | operation::Result::SiteMove(_),
        )
        | None => false,
    }
}

/// Whether an operation has ended for good.
#[must_use]
pub fn has_ended(operation: &Operation) -> bool {
    match operation.state() {
        OperationState::Succeeded | OperationState::Failed | OperationState::Cancelled => true,
        OperationState::Unspecified
        | OperationState::Pending
        | OperationState::Running
        | OperationState::Cancelling
        | OperationState::Unknown
        | OperationState::Suspended => false,
    }
}

/// The table for `--help`.
#[must_use]
pub fn table() -> String {
    let mut text = "Exit codes:\n".to_owned();
    for exit in ALL {
        text.push_str(&format!("  {:>3}  {}\n", exit.code(), exit.meaning()));
    }
    text
}

#[cfg(test)]
mod tests {
    use muster_wire::proto::v1::{BackupResult, CheckResult};

    use super::*;

    #[test]
    fn every_ending_has_a_code_of_its_own_and_scripts_may_rely_on_it() {
        let codes = ALL.map(Exit::code);
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 130]);
    }

    #[test]
    fn each_kind_of_fault_ends_with_its_code() {
        use ErrorKind as K;
        for (kind, code) in [
            (K::Internal, 1),
            (K::InvalidArgument, 2),
            (K::FailedPrecondition, 3),
            (K::Conflict, 3),
            (K::AlreadyExists, 3),
            (K::OutOfRange, 3),
            (K::ResourceExhausted, 3),
            (K::NotAvailable, 3),
            (K::Incompatible, 3),
            (K::NotFound, 4),
            (K::Unauthenticated, 5),
            (K::PermissionDenied, 5),
            (K::Unavailable, 6),
            (K::Cancelled, 8),
            (K::Stalled, 10),
            (K::DataLoss, 11),
        ] {
            assert_eq!(Exit::of_fault(&Fault::refused(kind, "x")).code(), code, "{kind:?}");
        }
        assert_eq!(Exit::of_fault(&Fault::failed(K::Unavailable, "the reply was lost")).code(), 9);
    }

    #[test]
    fn each_state_of_an_operation_ends_with_its_code() {
        use OperationState as S;
        for (state, code) in [
            (S::Succeeded, 0),
            (S::Failed, 7),
            (S::Cancelled, 8),
            (S::Unknown, 9),
            (S::Suspended, 9),
            (S::Pending, 10),
            (S::Running, 10),
            (S::Cancelling, 10),
        ] {
            let operation = Operation { state: state.into(), ..Operation::default() };
            assert_eq!(Exit::of_operation(&operation).code(), code, "{state:?}");
            assert_eq!(has_ended(&operation), matches!(code, 0 | 7 | 8));
        }
    }

    #[test]
    fn damage_is_never_a_plain_success() {
        let succeeded = |result| Operation { state: OperationState::Succeeded.into(), result: Some(result), ..Operation::default() };
        let backup = |damaged_pages| operation::Result::Backup(BackupResult { damaged_pages, ..BackupResult::default() });
        let check = |problem_count| operation::Result::Check(CheckResult { problem_count, ..CheckResult::default() });
        let codes = [backup(0), backup(3), check(0), check(1)].map(|result| Exit::of_operation(&succeeded(result)).code());
        assert_eq!(codes, [0, 11, 0, 11]);
    }

    #[test]
    fn the_guide_lists_the_same_codes_and_meanings() {
        let guide = include_str!("../../../docs/guides/cli.md");
        for exit in ALL {
            let row = format!("| {} | {} |", exit.code(), exit.meaning());
            assert!(guide.contains(&row), "docs/guides/cli.md lacks {row:?}");
        }
    }
}
