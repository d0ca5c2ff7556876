//! The chain of the audit log: what an entry holds, the bytes that are hashed, how a chain is walked. Pure.
//!
//! What always holds: an entry's hash covers the hash of the entry before it and every field, each with its length, so that an entry that was
//! changed, taken out, put in or moved is found at its number. `docs/formats/audit.md` describes the bytes; a test holds them.

use muster_common::time::Timestamp;
use sha2::{Digest, Sha256};

/// What the hashed bytes begin with: the format's name and version.
const MAGIC: &str = "muster audit 1";
/// The longest text of an entry, in characters.
const MOST_TEXT: usize = 500;

/// What an entry tells of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// A call that may change something has come and is about to be done.
    #[default]
    Asked,
    /// What came of an entry `asked`.
    Answered,
    /// A call that was refused before anything was done.
    Refused,
    /// Done by who stands on the controller's machine, without a call.
    Machine,
    /// The oldest entries were forgotten.
    Forgotten,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Asked, Self::Answered, Self::Refused, Self::Machine, Self::Forgotten];

    /// As it is stored and hashed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Machine => "machine",
            Self::Forgotten => "forgotten",
        }
    }

    /// The phase of a stored name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.name() == name)
    }
}

/// What is recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct What {
    /// When, by the controller's clock.
    pub at: Timestamp,
    /// What it tells of.
    pub phase: Phase,
    /// Who: `operator/ada`, `agent/istanbul/istanbul-db1`, `nobody` (no certificate), `machine`, `controller`.
    pub caller: String,
    /// An operator's role then. Empty: none.
    pub role: String,
    /// From which address.
    pub peer: String,
    /// What was called.
    pub rpc: String,
    /// What it is about: `component/orders-db`.
    pub resource: String,
    /// The caller's request id.
    pub request_id: String,
    /// SHA-256 of the request in its canonical form. Empty: it was refused unread. Of `forgotten`: the hash of the last that was.
    pub digest: String,
    /// The number of the entry `asked` that this is the outcome of. 0: of none. Of `forgotten`: the last that was.
    pub answers: u64,
    /// `OK`, or the kind of the fault.
    pub outcome: String,
    /// gRPC's code.
    pub code: u32,
    /// What the fault said.
    pub message: String,
    /// The operation that came of it.
    pub operation: String,
    /// Refusals of this caller before this one that were not recorded.
    pub left_out: u64,
}

impl What {
    /// The same with texts that can be kept: no control characters, and none longer than the bound.
    #[must_use]
    pub fn kept(mut self) -> Self {
        for text in [
            &mut self.caller,
            &mut self.role,
            &mut self.peer,
            &mut self.rpc,
            &mut self.resource,
            &mut self.request_id,
            &mut self.digest,
            &mut self.outcome,
            &mut self.message,
            &mut self.operation,
        ] {
            if text.chars().count() > MOST_TEXT || text.chars().any(char::is_control) {
                *text = text.chars().take(MOST_TEXT).map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect();
            }
        }
        self
    }
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number, dense.
    pub number: u64,
    /// What it records.
    pub what: What,
    /// Its hash, 64 hexadecimal digits.
    pub hash: String,
}

/// The hash of an entry that follows one with the hash `before` (empty: it is the first).
#[must_use]
pub fn hash(before: &str, number: u64, what: &What) -> String {
    let (number, at, answers) = (number.to_string(), what.at.0.to_string(), what.answers.to_string());
    let (code, left_out) = (what.code.to_string(), what.left_out.to_string());
    let mut hash = Sha256::new();
    for field in [
        MAGIC,
        before,
        &number,
        &at,
        what.phase.name(),
        &what.caller,
        &what.role,
        &what.peer,
        &what.rpc,
        &what.resource,
        &what.request_id,
        &what.digest,
        &answers,
        &what.outcome,
        &code,
        &what.message,
        &what.operation,
        &left_out,
    ] {
        hash.update((field.len() as u64).to_be_bytes());
        hash.update(field);
    }
    hex::encode(hash.finalize())
}

/// Where the chain begins and ends, as it is kept beside the entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The first entry that is kept.
    pub first: u64,
    /// The hash of the entry before it, which was forgotten. Empty: it is the very first.
    pub anchor: String,
    /// The last entry. 0: there is none.
    pub last: u64,
    /// Its hash.
    pub head: String,
}

impl Default for Ends {
    fn default() -> Self {
        Self { first: 1, anchor: String::new(), last: 0, head: String::new() }
    }
}

/// An entry's hash as somebody saw it before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The entry's number.
    pub number: u64,
    /// Its hash.
    pub hash: String,
    /// Who saw it, in words.
    pub by: String,
}

/// What a chain was found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it was written.
    Whole(Ends),
    /// Not as it was written.
    Broken {
        /// At which entry.
        number: u64,
        /// What is wrong there.
        why: String,
    },
}

/// Walks a chain entry by entry.
#[derive(Debug)]
pub struct Walk {
    ends: Ends,
    known: Vec<Known>,
    expected: u64,
    before: String,
    /// Whether an entry of the chain itself says that what stood before `first` was forgotten.
    forgetting_told: bool,
}

impl Walk {
    /// Begins at the front. `known` is what others saw of it.
    #[must_use]
    pub fn begin(ends: Ends, known: Vec<Known>) -> Self {
        let (expected, before) = (ends.first, ends.anchor.clone());
        let forgetting_told = ends.first == 1 && ends.anchor.is_empty();
        Self { ends, known, expected, before, forgetting_told }
    }

    /// The number of the entry that must come next.
    #[must_use]
    pub const fn expected(&self) -> u64 {
        self.expected
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn take(&mut self, entry: &Entry) -> Result<(), Verdict> {
        let number = self.expected;
        let broken = |why: String| Err(Verdict::Broken { number, why });
        if entry.number != number {
            return broken(format!("it is missing; entry {} follows", entry.number));
        }
        if entry.hash != hash(&self.before, entry.number, &entry.what) {
            return broken("it is not what was written there, or an entry before it is not".into());
        }
        if let Some(known) = self.known.iter().find(|known| known.number == number && known.hash != entry.hash) {
            return broken(format!("{} saw another one there: the log was written anew", known.by));
        }
        self.forgetting_told |= entry.what.phase == Phase::Forgotten
            && entry.what.answers.saturating_add(1) == self.ends.first
            && entry.what.digest == self.ends.anchor;
        self.before.clone_from(&entry.hash);
        self.expected = number.saturating_add(1);
        Ok(())
    }

    /// After the last entry.
    #[must_use]
    pub fn end(self) -> Verdict {
        let last = self.expected.saturating_sub(1);
        if last < self.ends.last {
            let why = format!("the log ends before it and should go on to entry {}", self.ends.last);
            return Verdict::Broken { number: self.expected, why };
        }
        if last > self.ends.last || self.before != self.ends.head {
            return Verdict::Broken { number: last, why: format!("the log should end with entry {} and another hash", self.ends.last) };
        }
        if let Some(known) = self.known.iter().filter(|known| known.number > last).max_by_key(|known| known.number) {
            let why = format!("the log ends before it, and {} saw entry {}", known.by, known.number);
            return Verdict::Broken { number: self.expected, why };
        }
        let before_first = self.ends.first.saturating_sub(1);
        if let Some(known) = self.known.iter().find(|known| known.number == before_first && known.hash != self.ends.anchor) {
            let why = format!("what was forgotten did not end as {} saw it", known.by);
            return Verdict::Broken { number: self.ends.first, why };
        }
        if !self.forgetting_told {
            let why = format!("what stood before it is gone, and no entry says that it was forgotten up to {before_first}");
            return Verdict::Broken { number: self.ends.first, why };
        }
        Verdict::Whole(self.ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(caller: &str) -> What {
        What { at: Timestamp(7), caller: caller.into(), rpc: "/muster.v1.RecoveryService/Backup".into(), ..What::default() }
    }

    fn chain(callers: &[&str]) -> (Ends, Vec<Entry>) {
        let mut entries: Vec<Entry> = Vec::new();
        for (caller, number) in callers.iter().zip(1..) {
            let before = entries.last().map_or("", |entry| entry.hash.as_str());
            let what = what(caller);
            entries.push(Entry { number, hash: hash(before, number, &what), what });
        }
        let last = entries.last().unwrap();
        (Ends { last: last.number, head: last.hash.clone(), ..Ends::default() }, entries)
    }

    fn walk(ends: &Ends, entries: &[Entry], known: Vec<Known>) -> Verdict {
        let mut walk = Walk::begin(ends.clone(), known);
        for entry in entries {
            if let Err(verdict) = walk.take(entry) {
                return verdict;
            }
        }
        walk.end()
    }

    fn broken_at(verdict: &Verdict) -> Option<u64> {
        match verdict {
            Verdict::Whole(_) => None,
            Verdict::Broken { number, .. } => Some(*number),
        }
    }

    #[test]
    fn the_bytes_that_are_hashed_do_not_change() {
        let full = What {
            at: Timestamp(1_700_000_000_000_000),
            phase: Phase::Answered,
            caller: "operator/ada".into(),
            role: "admin".into(),
            peer: "127.0.0.1".into(),
            rpc: "/muster.v1.RecoveryService/Backup".into(),
            resource: "component/orders-db".into(),
            request_id: "r1".into(),
            digest: "d".repeat(64),
            answers: 1,
            outcome: "OK".into(),
            code: 0,
            message: String::new(),
            operation: "ab".repeat(16),
            left_out: 0,
        };
        let first = hash("", 1, &what("operator/ada"));
        assert_eq!(first, "0395792ff66ce2e40e9731beb544a0c10c4253cccdc34002b149768e302899d6");
        assert_eq!(hash(&first, 2, &full), "8625c3b215c7ff349d1c7e5e28a75eda0230845a8b37bf7dc6b47eb5a9024bac");
    }

    #[test]
    fn what_was_changed_taken_out_put_in_or_moved_is_found_where_it_was() {
        let (ends, entries) = chain(&["a", "b", "c", "d"]);
        assert_eq!(walk(&ends, &entries, Vec::new()), Verdict::Whole(ends.clone()));
        for at in 0..entries.len() {
            let number = entries[at].number;
            let mut edited = entries.clone();
            edited[at].what.caller = "x".into();
            assert_eq!(broken_at(&walk(&ends, &edited, Vec::new())), Some(number), "edited");
            let mut cut = entries.clone();
            cut.remove(at);
            assert_eq!(broken_at(&walk(&ends, &cut, Vec::new())), Some(number), "cut");
        }
        let mut moved = entries.clone();
        moved.swap(1, 2);
        assert_eq!(broken_at(&walk(&ends, &moved, Vec::new())), Some(2));
        let mut put_in = entries.clone();
        put_in.insert(2, entries[1].clone());
        assert_eq!(broken_at(&walk(&ends, &put_in, Vec::new())), Some(3));
    }

    #[test]
    fn a_log_that_was_cut_or_written_anew_as_a_whole_is_found_by_who_saw_it_before() {
        let (ends, entries) = chain(&["a", "b", "c", "d"]);
        let known = vec![Known { number: 4, hash: ends.head.clone(), by: "this machine".into() }];
        assert_eq!(walk(&ends, &entries, known.clone()), Verdict::Whole(ends));
        // Cut at its end, and the ends' row changed to fit: within itself it is whole.
        let (cut_ends, cut) = chain(&["a", "b"]);
        assert_eq!(broken_at(&walk(&cut_ends, &cut, Vec::new())), None);
        assert_eq!(broken_at(&walk(&cut_ends, &cut, known.clone())), Some(3));
        // Written anew with another entry and all hashes behind it.
        let (anew_ends, anew) = chain(&["a", "x", "c", "d", "e"]);
        assert_eq!(broken_at(&walk(&anew_ends, &anew, Vec::new())), None);
        assert_eq!(broken_at(&walk(&anew_ends, &anew, known)), Some(4));
    }

    #[test]
    fn a_front_that_is_gone_must_be_told_by_an_entry() {
        let (ends, entries) = chain(&["a", "b", "c"]);
        let cut = Ends { first: 2, anchor: entries[0].hash.clone(), ..ends };
        assert_eq!(broken_at(&walk(&cut, &entries[1..], Vec::new())), Some(2));
        let forgotten =
            What { phase: Phase::Forgotten, answers: 1, digest: entries[0].hash.clone(), caller: "controller".into(), ..What::default() };
        let told = Entry { number: 4, hash: hash(&entries[2].hash, 4, &forgotten), what: forgotten };
        let ends = Ends { last: 4, head: told.hash.clone(), ..cut };
        let kept: Vec<Entry> = entries[1..].iter().cloned().chain([told]).collect();
        assert_eq!(walk(&ends, &kept, Vec::new()), Verdict::Whole(ends.clone()));
        let other = vec![Known { number: 1, hash: "other".into(), by: "a friend".into() }];
        assert_eq!(broken_at(&walk(&ends, &kept, other)), Some(2));
    }

    #[test]
    fn texts_are_bounded_and_hold_no_control_characters() {
        let kept = What { resource: "a\0b\nc".into(), message: "ğ".repeat(2_000), ..What::default() }.kept();
        assert_eq!((kept.resource.as_str(), kept.message.chars().count()), ("a\u{fffd}b\u{fffd}c", MOST_TEXT));
        for phase in Phase::ALL {
            assert_eq!(Phase::named(phase.name()), Some(phase));
        }
    }
}
