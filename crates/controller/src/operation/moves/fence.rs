//! A fence, which only an operator lifts, and lifting it.

use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::Name;
use muster_failover::command::Order;
use muster_failover::directive::{Answer, Errand};

use crate::operation::event::Event;
use crate::operation::moves::decide::{Action, Next, answer, failed, give_up, record};
use crate::operation::moves::start_again::start_again;
use crate::operation::moves::task::Done;
use crate::operation::moves::view::View;

/// Stops an instance for good.
///
/// # Errors
/// What to do before.
pub fn fence(view: &View, instance: &Name) -> Next<Done> {
    let record = record(view)?;
    match answer(view, "stop", instance, &Errand::Order(Order::Stop { for_operation: None }), None)? {
        Ok(Answer::Stopped(at)) => Ok(Done {
            writer: None,
            reign: record.reign.mark(),
            before: record.reign.epoch,
            outage_us: None,
            loss: None,
            notes: at.iter().map(|at| format!("{instance} is stopped at {at}")).collect(),
        }),
        Ok(_) => Err(give_up(Fault::failed(ErrorKind::Internal, "stop: an answer that does not fit").hint("upgrade the agent"))),
        Err(part) => Err(give_up(failed(view, part, &format!("stop {instance}")))),
    }
}

/// Lets the recorded writer start again.
///
/// # Errors
/// What to do before.
pub fn unfence(view: &View, instance: &Name, by_itself: bool) -> Next<Done> {
    if let Some(cancel) = &view.state.cancel {
        let fault = Fault::refused(ErrorKind::Cancelled, format!("{}: {} stopped it", view.state.title(), cancel.by));
        return Err(Action::Record(vec![Event::TurnedBack(fault), Event::WentBack]));
    }
    let record = record(view)?;
    if record.reign.writer != *instance {
        return Err(give_up(
            Fault::refused(
                ErrorKind::FailedPrecondition,
                format!("{}: {} is the recorded writer", view.state.title(), record.reign.writer),
            )
            .hint(format!("muster rejoin {}/{instance}", view.state.target.component)),
        ));
    }
    start_again(view, instance, by_itself)?;
    Ok(Done {
        writer: Some(instance.clone()),
        reign: record.reign.mark(),
        before: record.reign.epoch,
        outage_us: None,
        loss: None,
        notes: Vec::new(),
    })
}
