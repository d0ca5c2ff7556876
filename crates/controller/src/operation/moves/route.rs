//! The names that follow a component's writer, within a move: what is done to which and when. Pure; carried out by `routing`.
//!
//! ```text
//!  switchover, before the writer stops:  lower the TTL, wait until resolvers have forgotten the old one; what cannot be changed turns it back
//!  after the promotion:                  cut over, once at once and again a few times -> put the TTL of peace back
//! ```
//! What always holds: an act is journaled before it is carried out and again after it; one that was cut off is carried out again, which finds done
//! what was done. A name that cannot be moved undoes no promotion: it is named at the end, with what to type.

use std::time::Duration;

use muster_common::duration::show;
use muster_common::fault::Fault;
use muster_common::name::Name;
use serde::{Deserialize, Serialize};

use crate::operation::event::Event;
use crate::operation::moves::decide::{Action, Next, wait};
use crate::operation::moves::part::ago;
use crate::operation::moves::view::View;
use crate::operation::state::{Act, Stands, Step, Work};

/// A cut-over is tried so often; then it is left to a person.
const MOST_TRIES: usize = 5;
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(3);
/// An old TTL is not waited out for longer.
const MOST_WAIT: Duration = Duration::from_secs(300);

/// What is done to a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// Its TTL is lowered for the move.
    Lower,
    /// It is pointed at the new writer's site.
    CutOver,
    /// Its TTL of peace is put back.
    Restore,
}

impl Deed {
    /// In a step's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lower => "lower-ttl",
            Self::CutOver => "cut-over",
            Self::Restore => "restore-ttl",
        }
    }
}

/// An act on a route, as it is journaled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acted {
    /// The route.
    pub route: Name,
    /// What is done.
    pub deed: Deed,
    /// For how long resolvers may still answer what stood there before, in seconds. `None`: it is not done yet.
    pub old_ttl: Option<u32>,
}

impl Acted {
    /// The name of its `n`th step.
    #[must_use]
    pub fn step(&self, n: usize) -> String {
        let name = format!("route/{}/{}", self.route, self.deed.name());
        if n <= 1 { name } else { format!("{name}#{n}") }
    }
}

/// The acts on one route, as they are journaled.
fn acts<'a>(view: &'a View, route: &'a Name, deed: Deed) -> impl DoubleEndedIterator<Item = (&'a Step, &'a Acted)> {
    view.state.steps.iter().filter_map(move |step| match &step.work {
        Work::Action(Act::Route(acted)) if acted.route == *route && acted.deed == deed => Some((step, acted)),
        Work::Action(Act::Route(_) | Act::Shard(_) | Act::MoveReign { .. }) | Work::Command { .. } | Work::Child { .. } | Work::Wait(_) => {
            None
        }
    })
}

/// How the newest act of a kind stands.
enum Stand<'a> {
    None,
    Done(&'a Step, Duration),
    Failed(&'a Step, Option<&'a Fault>),
}

/// How it stands.
///
/// # Errors
/// To carry it out, where its intent is journaled and no outcome is.
fn stand<'a>(view: &'a View, route: &'a Name, deed: Deed) -> Next<Stand<'a>> {
    let Some((step, acted)) = acts(view, route, deed).next_back() else { return Ok(Stand::None) };
    match step.stands {
        Stands::Started | Stands::Unknown => Err(Action::Route { route: route.clone(), deed }),
        Stands::Succeeded => Ok(Stand::Done(step, Duration::from_secs(acted.old_ttl.unwrap_or_default().into()))),
        Stands::Failed | Stands::Cancelled => Ok(Stand::Failed(step, step.fault.as_ref())),
    }
}

fn begin(route: &Name, deed: Deed) -> Action {
    Action::Record(vec![Event::RouteBegun { route: route.clone(), deed }])
}

/// Before a planned move: every name can be changed, and resolvers will ask again soon.
///
/// # Errors
/// What to do before. Inside: why a name cannot be changed.
pub fn lower(view: &View) -> Next<Result<(), Fault>> {
    for route in &view.routes {
        match stand(view, route, Deed::Lower)? {
            Stand::None => return Err(begin(route, Deed::Lower)),
            Stand::Failed(_, fault) => {
                let refused = || Fault::refused(muster_common::fault::ErrorKind::Unavailable, format!("route {route} cannot be changed"));
                let fault = fault.cloned().unwrap_or_else(refused);
                let message = format!("{}: route {route}: {}", view.state.title(), fault.message);
                return Ok(Err(Fault { message, hint: fault.hint.replace("ROUTE", route.as_str()), ..fault }));
            }
            Stand::Done(step, old) => {
                let left = old.min(MOST_WAIT).saturating_sub(ago(view, step.finished.unwrap_or(step.started)));
                if !left.is_zero() {
                    return Err(wait(
                        view,
                        format!("resolvers to forget route {route}'s old TTL, {} at most", show(left)),
                        left.min(PAUSE),
                    ));
                }
            }
        }
    }
    Ok(Ok(()))
}

/// A move that goes back puts the TTLs of peace back, once, and holds nothing up by it.
///
/// # Errors
/// To do it.
pub fn restore(view: &View) -> Next<()> {
    for route in &view.routes {
        let is_lowered = matches!(stand(view, route, Deed::Lower)?, Stand::Done(..));
        if is_lowered && matches!(stand(view, route, Deed::Restore)?, Stand::None) {
            return Err(begin(route, Deed::Restore));
        }
    }
    Ok(())
}

/// After the promotion: each name is cut over once, before anything else is done.
///
/// # Errors
/// To do it.
pub fn cut_over(view: &View) -> Next<()> {
    for route in &view.routes {
        if matches!(stand(view, route, Deed::CutOver)?, Stand::None) {
            return Err(begin(route, Deed::CutOver));
        }
    }
    Ok(())
}

/// What could not be cut over is tried again, and the TTLs of peace are put back. What is left is told.
///
/// # Errors
/// What to do before.
pub fn settle(view: &View) -> Next<Vec<String>> {
    let mut notes = Vec::new();
    for route in &view.routes {
        match stand(view, route, Deed::CutOver)? {
            Stand::None => return Err(begin(route, Deed::CutOver)),
            Stand::Done(..) => match stand(view, route, Deed::Restore)? {
                Stand::None => return Err(begin(route, Deed::Restore)),
                Stand::Failed(_, fault) => {
                    notes.push(format!("route {route} still has the TTL of a move{}: muster route point {route}", told(fault)));
                }
                Stand::Done(..) => {}
            },
            Stand::Failed(step, fault) if acts(view, route, Deed::CutOver).count() < MOST_TRIES => {
                if ago(view, step.finished.unwrap_or(step.started)) < PAUSE {
                    return Err(wait(view, format!("another try to cut route {route} over{}", told(fault)), PAUSE));
                }
                return Err(begin(route, Deed::CutOver));
            }
            Stand::Failed(_, fault) => {
                notes.push(format!("route {route} does not point at the new writer yet{}: muster route point {route}", told(fault)));
            }
        }
    }
    Ok(notes)
}

fn told(fault: Option<&Fault>) -> String {
    fault.map(|fault| format!(" ({})", fault.message)).unwrap_or_default()
}
