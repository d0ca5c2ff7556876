//! A journal of yesterday, one made anew, and one beside a word at an instance, against what keepers report.

use muster_common::counter::Epoch;
use muster_common::id::{OperationId, ReignId};

use super::*;
use crate::control::Why;
use crate::reign::Mark;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn mark(epoch: u64, id: u8) -> Mark {
    Mark { epoch: Epoch(epoch), id: ReignId::from_bytes([id; 16]) }
}

fn first() -> Line {
    Line::of(mark(1, 1))
}

fn second() -> Line {
    first().then(mark(2, 2))
}

/// Yesterday's journal: Istanbul writes in the first reign.
fn yesterday() -> ShardRecord {
    ShardRecord::first(name("istanbul"), mark(1, 1).id)
}

fn writer(line: &Line, of: &str) -> Heard {
    Heard { line: line.clone(), writer: name(of), role: Role::Writer { reign: line.last() }, writes: true }
}

fn follower(line: &Line, of: &str) -> Heard {
    Heard { line: line.clone(), writer: name(of), role: Role::Follower { kept: false }, writes: false }
}

fn stopped(line: &Line, of: &str) -> Heard {
    let role = Role::Stopped { reign: line.last(), why: Why::Operation, until: None, ceded_to: None };
    Heard { line: line.clone(), writer: name(of), role, writes: false }
}

fn both() -> BTreeSet<Name> {
    [name("istanbul"), name("ankara")].into()
}

fn caught(record: Option<&ShardRecord>, guessed: bool, heard: &[(&str, Heard)], off: &[&str]) -> Caught {
    let heard = heard.iter().map(|(of, heard)| (name(of), heard.clone())).collect();
    catch_up(record, guessed, &both(), &heard, &off.iter().map(|off| name(off)).collect())
}

fn refused(caught: Caught) -> Check {
    match caught {
        Caught::Waits(refusal) => refusal.check,
        Caught::Up | Caught::To(_) => panic!("{caught:?}"),
    }
}

fn taken(caught: Caught) -> ShardRecord {
    match caught {
        Caught::To(record) => *record,
        Caught::Up | Caught::Waits(_) => panic!("{caught:?}"),
    }
}

#[test]
fn yesterdays_journal_learns_the_writer_from_the_writer_itself_when_the_other_follows_it() {
    let old = yesterday();
    let heard = [("ankara", writer(&second(), "ankara")), ("istanbul", follower(&second(), "ankara"))];
    let record = taken(caught(Some(&old), false, &heard, &[]));
    assert_eq!((record.reign.writer.as_str(), record.reign.mark(), record.line()), ("ankara", mark(2, 2), second()));
    assert!(record.is_steady() && record.superseded.is_empty(), "{record:?}");
    // From there on nobody knows more.
    assert_eq!(caught(Some(&record), false, &heard, &[]), Caught::Up);
}

#[test]
fn a_silent_instance_is_waited_for_until_a_person_states_that_its_machine_is_off() {
    let old = yesterday();
    let heard = [("ankara", writer(&second(), "ankara"))];
    assert_eq!(refused(caught(Some(&old), false, &heard, &[])), Check::Adopting);
    let record = taken(caught(Some(&old), false, &heard, &["istanbul"]));
    assert_eq!(record.reign.writer, name("ankara"));
    assert_eq!(record.superseded, [name("istanbul")].into(), "it holds what the writer may not have");
}

#[test]
fn one_that_may_still_write_is_fenced_first_whatever_is_stated_of_it() {
    let old = yesterday();
    let heard = [("ankara", writer(&second(), "ankara")), ("istanbul", writer(&first(), "istanbul"))];
    assert_eq!(refused(caught(Some(&old), false, &heard, &["istanbul"])), Check::Proof);
    let heard = [("ankara", writer(&second(), "ankara")), ("istanbul", stopped(&first(), "istanbul"))];
    assert_eq!(taken(caught(Some(&old), false, &heard, &[])).superseded, [name("istanbul")].into());
}

#[test]
fn a_reign_that_its_own_writer_does_not_report_is_not_believed() {
    let old = yesterday();
    let heard = [("istanbul", follower(&second(), "ankara"))];
    assert_eq!(refused(caught(Some(&old), false, &heard, &["ankara"])), Check::Proof);
    let heard = [("istanbul", follower(&second(), "ankara")), ("ankara", follower(&first(), "istanbul"))];
    assert_eq!(refused(caught(Some(&old), false, &heard, &[])), Check::Proof);
    // Nor one of an instance that nobody declared.
    let heard = [("istanbul", follower(&second(), "izmir")), ("ankara", follower(&second(), "izmir"))];
    assert_eq!(refused(caught(Some(&old), false, &heard, &[])), Check::Proof);
}

#[test]
fn of_two_reigns_that_exclude_each_other_none_is_picked() {
    let (old, other) = (yesterday(), first().then(mark(2, 9)));
    let heard = [("ankara", writer(&second(), "ankara")), ("istanbul", stopped(&other, "istanbul"))];
    assert_eq!(refused(caught(Some(&old), false, &heard, &["istanbul"])), Check::Conflict);
    let moved = taken(caught(Some(&old), false, &[("ankara", writer(&second(), "ankara"))], &["istanbul"]));
    assert_eq!(refused(caught(Some(&moved), false, &[("istanbul", writer(&other, "istanbul"))], &[])), Check::Conflict);
    // A bigger number alone is no descendant.
    let far = Line::of(mark(9, 9));
    assert_eq!(refused(caught(Some(&old), false, &[("ankara", writer(&far, "ankara"))], &["istanbul"])), Check::Conflict);
}

#[test]
fn a_reign_that_was_made_up_from_a_number_gives_way_to_the_real_one_of_that_number() {
    let guess = yesterday().adopted(Epoch(2), mark(2, 7).id, &[name("ankara")]);
    assert_eq!(guess.reign.writer, name("istanbul"));
    let heard = [("ankara", writer(&second(), "ankara")), ("istanbul", follower(&second(), "ankara"))];
    let record = taken(caught(Some(&guess), true, &heard, &[]));
    assert_eq!((record.reign.writer.as_str(), record.line()), ("ankara", second()));
    assert!(record.superseded.is_empty(), "{record:?}");
}

#[test]
fn a_journal_made_anew_learns_the_line_from_the_instances() {
    let heard = [("ankara", writer(&second(), "ankara")), ("istanbul", follower(&second(), "ankara"))];
    assert_eq!(taken(caught(None, false, &heard, &[])).line(), second());
    assert_eq!(caught(None, false, &[], &[]), Caught::Up);
}

#[test]
fn while_a_move_is_under_way_nothing_is_taken_over() {
    let operation = OperationId::from_bytes([3; 16]);
    let moving = yesterday().begin(operation, &name("ankara")).unwrap();
    let heard = [("ankara", writer(&second(), "ankara")), ("istanbul", stopped(&first(), "istanbul"))];
    assert_eq!(refused(caught(Some(&moving), false, &heard, &[])), Check::Phase);
}
