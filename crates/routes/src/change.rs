//! Whether a name may be changed: the reign beside it decides. Pure.
//!
//! What always holds: a name is changed only from a reign on the asker's own line, so that a controller that comes back
//! after the others moved on "repairs" nothing (H15); a name without a reign is changed by an explicit adoption only; and
//! an adoption moves nothing that points elsewhere. Addresses are never changed into a CNAME or back: a server that finds
//! anything else at the name drops the CNAME, keeps the deletion and answers NOERROR, and the name is empty (BIND 9.18, seen).

use muster_failover::reign::{Line, Mark};

use crate::standing::{Marked, Records, Standing, Target};

/// What a name shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its records.
    pub records: Records,
    /// The reign beside it.
    pub mark: Mark,
}

impl Wanted {
    /// As it will stand.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing { records: Some(self.records.clone()), mark: Marked::Reign(self.mark) }
    }

    /// Whether `standing` is it, TTL included.
    #[must_use]
    pub fn is(&self, standing: &Standing) -> bool {
        self.standing() == *standing
    }
}

/// Why a name may not be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// No reign stands beside it.
    NotAdopted,
    /// Its TXT is not ours.
    Foreign,
    /// The reign beside it is not on the asker's line: somebody else moved it, or moved on.
    OtherReign(Mark),
    /// It has addresses and is to be a CNAME, or the other way round.
    OtherKind,
    /// It is to be adopted and points elsewhere.
    PointsElsewhere,
    /// It is to be adopted and is somebody's.
    AlreadyMarked(Mark),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stands as wanted.
    Done,
    /// It is replaced, where it still stands as it was read.
    Replace,
    /// It stays.
    Denied(Denied),
}

/// Whether whoever knows `line` may make `standing` into `wanted`.
#[must_use]
pub fn decide(standing: &Standing, wanted: &Wanted, line: &Line) -> Verdict {
    match &standing.mark {
        Marked::Nothing => Verdict::Denied(Denied::NotAdopted),
        Marked::Foreign(_) => Verdict::Denied(Denied::Foreign),
        Marked::Reign(mark) if !line.holds(*mark) => Verdict::Denied(Denied::OtherReign(*mark)),
        Marked::Reign(_) => done_or_replace(standing, wanted),
    }
}

/// Whether a name that stands so may be adopted as `wanted`: one that does not exist is made, one that points there gets its reign.
#[must_use]
pub fn decide_adoption(standing: &Standing, wanted: &Wanted) -> Verdict {
    match &standing.mark {
        Marked::Foreign(_) => Verdict::Denied(Denied::Foreign),
        Marked::Reign(mark) if *mark != wanted.mark => Verdict::Denied(Denied::AlreadyMarked(*mark)),
        Marked::Reign(_) | Marked::Nothing => match &standing.records {
            Some(records) if records.target != wanted.records.target => Verdict::Denied(Denied::PointsElsewhere),
            Some(_) | None => done_or_replace(standing, wanted),
        },
    }
}

fn done_or_replace(standing: &Standing, wanted: &Wanted) -> Verdict {
    if wanted.is(standing) {
        return Verdict::Done;
    }
    match standing.records.as_ref().map(|records| (&records.target, &wanted.records.target)) {
        Some((Target::Addresses(_), Target::Alias(_)) | (Target::Alias(_), Target::Addresses(_))) => Verdict::Denied(Denied::OtherKind),
        Some((Target::Addresses(_), Target::Addresses(_)) | (Target::Alias(_), Target::Alias(_))) | None => Verdict::Replace,
    }
}

/// What a read after a replacement says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadBack {
    /// It stands as wanted.
    Applied,
    /// It stands as before.
    Unchanged,
    /// It stands in a third way.
    Other,
}

/// Compares what was read back with what was before and what was wanted.
#[must_use]
pub fn read_back(before: &Standing, wanted: &Wanted, now: &Standing) -> ReadBack {
    if wanted.is(now) {
        ReadBack::Applied
    } else if now == before {
        ReadBack::Unchanged
    } else {
        ReadBack::Other
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use muster_common::counter::Epoch;
    use muster_common::id::ReignId;

    use super::*;

    fn mark(epoch: u64, id: u8) -> Mark {
        Mark { epoch: Epoch(epoch), id: ReignId::from_bytes([id; 16]) }
    }

    fn records(last: u8, ttl: u32) -> Records {
        Records { target: Target::Addresses(BTreeSet::from([[10, 0, 0, last].into()])), ttl }
    }

    fn standing(last: u8, mark: Marked) -> Standing {
        Standing { records: Some(records(last, 60)), mark }
    }

    #[test]
    fn a_name_moves_only_from_a_reign_on_the_askers_own_line() {
        let old = Line::of(mark(1, 1));
        let new = old.then(mark(2, 2));
        let wanted = |line: &Line| Wanted { records: records(2, 60), mark: line.last() };
        let at_first = standing(1, Marked::Reign(mark(1, 1)));
        assert_eq!(decide(&at_first, &wanted(&new), &new), Verdict::Replace);
        assert_eq!(decide(&wanted(&new).standing(), &wanted(&new), &new), Verdict::Done);

        // H15: the controller of the first reign comes back and knows nothing of the second.
        let repair = Wanted { records: records(1, 60), mark: old.last() };
        assert_eq!(decide(&wanted(&new).standing(), &repair, &old), Verdict::Denied(Denied::OtherReign(mark(2, 2))));

        // Two of one number: neither moves the other's name.
        let rival = old.then(mark(2, 9));
        assert_eq!(decide(&wanted(&new).standing(), &wanted(&rival), &rival), Verdict::Denied(Denied::OtherReign(mark(2, 2))));
    }

    #[test]
    fn a_bigger_number_of_another_line_moves_nothing() {
        let line = Line::of(mark(1, 1)).then(mark(2, 2));
        let foreign = Line::of(mark(1, 1)).then(mark(9, 9));
        let wanted = Wanted { records: records(3, 60), mark: foreign.last() };
        assert_eq!(decide(&standing(2, Marked::Reign(line.last())), &wanted, &foreign), Verdict::Denied(Denied::OtherReign(line.last())));
    }

    #[test]
    fn a_name_without_a_reign_is_changed_by_adoption_only_and_adoption_moves_nothing() {
        let line = Line::of(mark(1, 1));
        let wanted = Wanted { records: records(1, 60), mark: line.last() };
        let bare = standing(1, Marked::Nothing);
        assert_eq!(decide(&bare, &wanted, &line), Verdict::Denied(Denied::NotAdopted));
        assert_eq!(decide_adoption(&bare, &wanted), Verdict::Replace);
        assert_eq!(decide_adoption(&standing(2, Marked::Nothing), &wanted), Verdict::Denied(Denied::PointsElsewhere));
        assert_eq!(decide_adoption(&Standing { records: None, mark: Marked::Nothing }, &wanted), Verdict::Replace);
        assert_eq!(decide_adoption(&standing(1, Marked::Reign(line.last())), &wanted), Verdict::Done);
        assert_eq!(decide_adoption(&standing(1, Marked::Reign(mark(4, 4))), &wanted), Verdict::Denied(Denied::AlreadyMarked(mark(4, 4))));
        assert_eq!(decide_adoption(&standing(1, Marked::Foreign(vec!["x".into()])), &wanted), Verdict::Denied(Denied::Foreign));
    }

    #[test]
    fn addresses_never_become_a_cname_because_a_server_may_keep_the_deletion_only() {
        let line = Line::of(mark(1, 1));
        let target = Target::Alias("db.example.com".parse().expect("a name"));
        let wanted = Wanted { records: Records { target, ttl: 60 }, mark: line.last() };
        assert_eq!(decide(&standing(1, Marked::Reign(line.last())), &wanted, &line), Verdict::Denied(Denied::OtherKind));
        let back = Wanted { records: records(1, 60), mark: line.last() };
        assert_eq!(decide(&wanted.standing(), &back, &line), Verdict::Denied(Denied::OtherKind));
    }

    #[test]
    fn what_is_read_back_is_applied_unchanged_or_a_third_thing() {
        let before = standing(1, Marked::Reign(mark(1, 1)));
        let wanted = Wanted { records: records(2, 30), mark: mark(2, 2) };
        assert_eq!(read_back(&before, &wanted, &wanted.standing()), ReadBack::Applied);
        assert_eq!(read_back(&before, &wanted, &before), ReadBack::Unchanged);
        assert_eq!(read_back(&before, &wanted, &standing(3, Marked::Reign(mark(3, 3)))), ReadBack::Other);
    }
}
