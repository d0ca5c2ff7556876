//! What wrote before, or was left behind, follows the writer again.

use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::Name;
use muster_failover::directive::{Answer, Errand};

use crate::operation::moves::change::Change;
use crate::operation::moves::decide::{Next, answer, change, failed, give_up, record};
use crate::operation::moves::task::Done;
use crate::operation::moves::view::View;

/// What is to be done now; at last what came of it.
///
/// # Errors
/// What to do before.
pub fn decide(view: &View, instance: &Name) -> Next<Done> {
    let record = record(view)?;
    if record.reign.writer == *instance {
        return Err(give_up(
            Fault::refused(ErrorKind::FailedPrecondition, format!("{}: it is the recorded writer", view.state.title()))
                .hint(format!("muster unfence {}/{instance}", view.state.target.component)),
        ));
    }
    let notes = match answer(view, "rejoin", instance, &Errand::Rejoin, None)? {
        Ok(Answer::Rejoined { fork: Some(fork), bytes, was, rewound }) => {
            let how = if *rewound { "rewound" } else { "left as it was" };
            vec![format!("{instance} was at {was}; it left the writer's line at {fork}: {bytes} bytes of log that only it held; {how}")]
        }
        Ok(_) => Vec::new(),
        Err(part) => return Err(give_up(failed(view, part, &format!("rejoin {instance}")))),
    };
    if record.superseded.contains(instance) {
        return Err(change(view, Change::Rejoined(instance.clone())));
    }
    Ok(Done {
        writer: Some(record.reign.writer.clone()),
        reign: record.reign.mark(),
        before: record.reign.epoch,
        outage_us: None,
        loss: None,
        notes,
    })
}
