//! Muster keeps what runs from now on: one writer, which the operator names, and those that follow it. Nothing is restarted.

use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::Name;
use muster_failover::control::Role;
use muster_failover::directive::{Errand, ManagedAs};

use crate::operation::moves::change::Change;
use crate::operation::moves::decide::{Action, Next, answer, change, failed, give_up, idle};
use crate::operation::moves::part::{self, Stand, stand};
use crate::operation::moves::task::Done;
use crate::operation::moves::view::{Member, View};

/// What is to be done now; at last what came of it.
///
/// # Errors
/// What to do before.
pub fn decide(view: &View, writer: &Name, followers: &[Name]) -> Next<Done> {
    let Some(record) = &view.record else {
        return Err(change(view, Change::First { writer: writer.clone(), id: view.drawn }));
    };
    if record.reign.writer != *writer {
        return Err(give_up(
            Fault::refused(ErrorKind::Conflict, format!("{}: {} is recorded as the writer", view.state.title(), record.reign.writer))
                .hint(format!("muster switchover {} --to {writer}", view.state.target.component)),
        ));
    }
    let keep = |role| Errand::Manage { role };
    if let Err(part) = answer(view, &format!("manage/{writer}"), writer, &keep(ManagedAs::Writer), None)? {
        return Err(give_up(failed(view, part, &format!("keep {writer}"))));
    }
    let (mut given, mut open) = (Vec::new(), Vec::new());
    for name in followers {
        let step = format!("manage/{name}");
        match stand(view, &step) {
            Stand::None => given.extend(part::give(view, &step, name, keep(ManagedAs::Follower), None).ok()),
            Stand::Open(_) => open.push(name.as_str()),
            Stand::Answered(..) => {}
            Stand::Failed(part) => return Err(give_up(failed(view, part, &format!("keep {name}")))),
        }
    }
    if !given.is_empty() {
        return Err(Action::Record(given));
    }
    if !open.is_empty() {
        return Err(idle(format!("{} to be kept", open.join(", "))));
    }
    // Who asks for a switchover right after this is answered by what the keepers report.
    let is_unreported = |name: &&Name| view.member(name).is_some_and(|member| member.connected && !is_kept(member));
    let unreported: Vec<&str> = followers.iter().chain([writer]).filter(is_unreported).map(Name::as_str).collect();
    if !unreported.is_empty() {
        return Err(idle(format!("the first report of {}", unreported.join(", "))));
    }
    Ok(Done {
        writer: Some(writer.clone()),
        reign: record.reign.mark(),
        before: record.reign.epoch,
        outage_us: None,
        loss: None,
        notes: Vec::new(),
    })
}

/// Whether its keeper has reported that it keeps it.
fn is_kept(member: &Member) -> bool {
    member.kept.as_ref().is_some_and(|role| *role != Role::Unmanaged)
}
