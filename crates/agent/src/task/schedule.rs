//! Which tasks may run now. Pure.
//!
//! What always holds: in the order of their sequence; at most so many at once; what holds an instance has it for itself.

use std::collections::BTreeSet;

use muster_common::id::CommandId;
use muster_common::name::InstanceName;

/// A task as far as the order is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The command.
    pub id: CommandId,
    /// The instance.
    pub instance: InstanceName,
    /// Whether it needs the instance for itself.
    pub holds_instance: bool,
    /// Whether it waits for no other: an order must not stand behind a backup.
    pub at_once: bool,
}

/// Of `waiting` (in their order) those that may start beside `running`, with at most `parallel` in all.
#[must_use]
pub fn startable(waiting: &[Place], running: &[Place], parallel: usize) -> Vec<CommandId> {
    let mut held: BTreeSet<&InstanceName> = running.iter().filter(|place| place.holds_instance).map(|place| &place.instance).collect();
    let mut free = parallel.saturating_sub(running.iter().filter(|place| !place.at_once).count());
    let mut start = Vec::new();
    for place in waiting {
        // One that waits for its instance keeps its turn against later ones of the same instance.
        let blocked = place.holds_instance && !held.insert(&place.instance);
        if place.at_once {
            start.push(place.id);
        } else if !blocked && free > 0 {
            free -= 1;
            start.push(place.id);
        }
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(n: u8, instance: &str, holds_instance: bool) -> Place {
        Place { id: CommandId::from_bytes([n; 16]), instance: instance.parse().unwrap(), holds_instance, at_once: false }
    }

    fn started(waiting: &[Place], running: &[Place], parallel: usize) -> Vec<u8> {
        startable(waiting, running, parallel).iter().map(|id| id.as_bytes()[0]).collect()
    }

    #[test]
    fn tasks_of_one_instance_run_one_after_the_other_and_others_beside_them() {
        let waiting = [place(1, "a/x", true), place(2, "a/x", true), place(3, "b/x", true), place(4, "a/x", false)];
        assert_eq!(started(&waiting, &[], 10), [1, 3, 4]);
        assert_eq!(started(&waiting[1..], &[place(1, "a/x", true)], 10), [3, 4]);
        assert_eq!(started(&waiting[1..], &[place(9, "a/x", false)], 10), [2, 3, 4], "what only reads holds nothing");
    }

    #[test]
    fn no_more_run_than_the_bound() {
        let waiting = [place(1, "a/x", true), place(2, "b/x", true), place(3, "c/x", true)];
        assert_eq!(started(&waiting, &[], 2), [1, 2]);
        assert_eq!(started(&waiting, &[place(8, "d/x", true)], 2), [1]);
        assert_eq!(started(&waiting, &[place(8, "d/x", true), place(9, "e/x", true)], 2), [] as [u8; 0]);
    }

    #[test]
    fn a_full_house_does_not_let_a_later_one_of_the_same_instance_pass() {
        let waiting = [place(1, "a/x", true), place(2, "a/x", true)];
        assert_eq!(started(&waiting, &[place(8, "b/x", true)], 1), [] as [u8; 0]);
    }
}
