//! Whether a command is taken on. Pure: the same answer for the same knowledge, whatever was resent, late or reordered.
//!
//! A command that is known here is never judged again: its state is told. Only an unknown one can be refused, and a
//! refusal did nothing.

use std::time::Duration;

use muster_common::counter::{Epoch, Term};
use muster_common::duration;
use muster_common::fault::{ErrorKind, Fault};
use muster_common::time::Timestamp;

use crate::task::command::{Command, Job};

/// What the agent knows that a new command is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The highest term ever seen.
    pub highest_term: Term,
    /// The instance's epoch; 0: none is known.
    pub epoch: Epoch,
    /// The agent's clock.
    pub now: Timestamp,
    /// How long tombstones are kept.
    pub tombstones: Duration,
    /// The newest issue of which tombstones were dropped already: the clock may have gone back since.
    pub dropped_until: Timestamp,
    /// How many commands stand in the inbox, the ended and not yet acknowledged ones included.
    pub tasks: usize,
    /// How many may.
    pub most_tasks: usize,
}

/// Judges a command that the agent does not know.
///
/// # Errors
/// The refusal. Nothing was done.
pub fn admit(command: &Command, standing: &Standing) -> Result<(), Fault> {
    let refuse = |kind, why: String| Err(Fault::refused(kind, format!("take on command {}: {why}", command.id)));
    if command.term < standing.highest_term {
        return refuse(ErrorKind::Conflict, format!("its term {} is lower than {}, which was seen", command.term, standing.highest_term))
            .map_err(|fault| fault.hint("a newer controller rules: stop the older one, or let it connect again and take a higher term"));
    }
    if standing.now.since(command.issued_at) > standing.tombstones || command.issued_at <= standing.dropped_until {
        let age = duration::show(standing.now.since(command.issued_at));
        let kept = duration::show(standing.tombstones);
        return refuse(ErrorKind::Conflict, format!("it was issued {age} ago, and what was done is remembered for {kept} only"))
            .map_err(|fault| fault.hint("ask for it anew if it is still wanted"));
    }
    // The keeper judges orders by their line of reigns, of which the epoch is but the number.
    if command.epoch < standing.epoch && !matches!(command.job, Job::Order { .. }) {
        let why = format!("it was decided in epoch {}, {} is in epoch {}", command.epoch, command.instance, standing.epoch);
        return refuse(ErrorKind::Conflict, why).map_err(|fault| fault.hint("look at `muster status`, then ask for it anew"));
    }
    if standing.tasks >= standing.most_tasks {
        return refuse(ErrorKind::ResourceExhausted, format!("{} commands stand in the inbox, which is the bound", standing.most_tasks))
            .map_err(|fault| fault.hint("wait until some have ended, or cancel some; the agent's setting is `inbox`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use muster_common::id::{CommandId, OperationId};

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn command(term: u64, epoch: u64, issued_day: u64) -> Command {
        Command {
            id: CommandId::from_bytes([1; 16]),
            term: Term(term),
            sequence: 1,
            operation: OperationId::from_bytes([2; 16]),
            instance: "files/here".parse().unwrap(),
            epoch: Epoch(epoch),
            issued_at: Timestamp::default().plus(DAY * u32::try_from(issued_day).unwrap()),
            stall_limit_ms: None,
            traceparent: String::new(),
            hooks: crate::hook::own::Around::default(),
            job: Job::Check { part: 0, of: 0 },
        }
    }

    fn standing() -> Standing {
        Standing {
            highest_term: Term(5),
            epoch: Epoch(3),
            now: Timestamp::default().plus(DAY * 100),
            tombstones: DAY * 30,
            dropped_until: Timestamp::default(),
            tasks: 0,
            most_tasks: 1_000,
        }
    }

    fn refusal(command: &Command, standing: &Standing) -> String {
        let fault = admit(command, standing).unwrap_err();
        assert_eq!(fault.effect, muster_common::fault::Effect::None);
        assert!(!fault.hint.is_empty());
        fault.message
    }

    #[test]
    fn a_command_of_the_present_term_and_epoch_is_taken_on() {
        assert_eq!(admit(&command(5, 3, 100), &standing()), Ok(()));
        assert_eq!(admit(&command(6, 4, 71), &standing()), Ok(()));
    }

    #[test]
    fn a_lower_term_and_a_lower_epoch_are_refused() {
        assert!(refusal(&command(4, 3, 100), &standing()).contains("term 4 is lower than 5"));
        assert!(refusal(&command(5, 2, 100), &standing()).contains("epoch 2"));
        assert!(refusal(&command(5, 0, 100), &standing()).contains("epoch 0"), "knowing no epoch is knowing less than the agent");
    }

    #[test]
    fn a_command_that_is_older_than_tombstones_are_kept_is_refused() {
        assert!(refusal(&command(5, 3, 69), &standing()).contains("31d ago"));
        assert_eq!(admit(&command(5, 3, 70), &standing()), Ok(()));
    }

    #[test]
    fn a_clock_that_went_back_does_not_bring_dropped_tombstones_back() {
        let now = Timestamp::default().plus(DAY * 90);
        let dropped = Standing { now, dropped_until: now, ..standing() };
        assert!(refusal(&command(5, 3, 90), &dropped).contains("remembered"));
        assert_eq!(admit(&command(5, 3, 91), &dropped), Ok(()));
    }

    #[test]
    fn a_full_inbox_refuses_with_its_bound() {
        assert!(refusal(&command(5, 3, 100), &Standing { tasks: 1_000, ..standing() }).contains("1000 commands"));
        assert!(admit(&command(5, 3, 100), &Standing { tasks: 1_000, most_tasks: 1_001, ..standing() }).is_ok());
    }
}
