//! Who may sign a receipt: only the agent that is, and has been, the keeper of what the receipt speaks for.
//!
//! A rebuilt or cloned agent keeps nothing of it and says so. Signing and writing it down are one: the control file that comes back
//! must be durable before the receipt leaves.

use muster_common::id::Nonce;

use crate::control::{Control, Pledge, Role};
use crate::here::Here;
use crate::look::Look;
use crate::proof::{Method, Receipt};
use crate::refusal::{Check, Refusal};
use crate::reign::{Line, Mark, Reign};

/// What a receipt is asked for. Asked only after the journal moved.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Ask {
    /// The reign of the possible writer.
    pub reign: Mark,
    /// The reign that comes.
    pub next: Reign,
    /// Its line.
    pub line: Line,
    /// Of the successor's candidacy.
    pub nonce: Nonce,
}

/// The receipt and the control file that goes before it.
///
/// # Errors
/// [`Check::Custody`] where this agent does not speak for that reign, [`Check::Server`] where the server is not proved gone.
pub fn cede(control: &Control, here: &Here, look: &Look, ask: &Ask) -> Result<(Control, Receipt), Refusal> {
    if control.machine != here.machine {
        return Err(no_custody(control, format!("the control file is of machine {}, this is {}", control.machine, here.machine)));
    }
    if control.boot != here.boot {
        return Err(Refusal::new(Check::Custody, "the control file was not yet brought into this boot", "the agent's next look"));
    }
    let receipt = |method, position| Receipt {
        component: control.component.clone(),
        instance: control.instance.clone(),
        reign: ask.reign,
        successor: ask.next.writer.clone(),
        next: ask.next.mark(),
        nonce: ask.nonce,
        method,
        position,
    };
    let position = || {
        look.position.clone().ok_or_else(|| {
            Refusal::new(Check::Server, "its final position cannot be read", "mending what keeps the data directory from being read")
        })
    };
    match &control.role {
        Role::Stopped { reign, why, .. } if *reign == ask.reign => {
            if !look.is_stopped() {
                return Err(Refusal::new(Check::Server, "the server is not proved gone", "the stop that is under way"));
            }
            let role = Role::Stopped { reign: *reign, why: *why, until: None, ceded_to: Some(ask.next.mark()) };
            let ceded = Control { role, ..control.knowing(&ask.line, &ask.next.writer) };
            Ok((ceded, receipt(if look.clean { Method::Clean } else { Method::Killed }, position()?)))
        }
        Role::Writer { reign } | Role::Promoting { reign, .. } if *reign == ask.reign => {
            Err(Refusal::new(Check::Server, "the server is not stopped yet", "the stop that comes first"))
        }
        // It was the candidate of that reign: what it gives up is the nonce, without which no grant of it is taken.
        Role::Follower { .. } | Role::Stopped { .. } if matches!(control.role, Role::Follower { .. }) || look.is_stopped() => {
            let pledges = given_up(control, here, ask)?;
            let position = position()?;
            Ok((Control { pledges, ..control.knowing(&ask.line, &ask.next.writer) }, receipt(Method::NeverStarted, position)))
        }
        Role::Stopped { .. } => Err(Refusal::new(Check::Server, "the server is not proved gone", "the stop that is under way")),
        Role::Writer { .. } | Role::Promoting { .. } | Role::Follower { .. } | Role::Held { .. } | Role::Unmanaged | Role::Absent => {
            Err(no_custody(control, format!("it never kept {} in {}", control.instance, ask.reign)))
        }
    }
}

/// The pledges without the candidacy by which this follower could have become the writer of `ask.reign`.
fn given_up(control: &Control, here: &Here, ask: &Ask) -> Result<Vec<Pledge>, Refusal> {
    let marks = ask.line.ancestors();
    let parent = marks.iter().position(|mark| *mark == ask.reign).and_then(|at| marks.get(at.checked_sub(1)?)).copied();
    let Some(parent) = parent else {
        return Err(no_custody(control, format!("{} is not on the line that was shown", ask.reign)));
    };
    if control.candidacy(parent, here.now).is_none() {
        return Err(no_custody(control, format!("it did not write there, and holds no candidacy of this boot for {}", ask.reign)));
    }
    let destroyed = |pledge: &Pledge| match pledge {
        Pledge::Candidacy { reign, against, span, .. } if *reign == parent => {
            Pledge::Candidacy { reign: *reign, against: against.clone(), nonce: None, span: *span }
        }
        Pledge::Candidacy { .. } | Pledge::Patience { .. } => pledge.clone(),
    };
    Ok(control.pledges.iter().map(destroyed).collect())
}

fn no_custody(control: &Control, evidence: String) -> Refusal {
    Refusal::new(
        Check::Custody,
        format!("no custody: {evidence}"),
        format!("the external fence, or a word that the machine of {} is off", control.instance),
    )
}
