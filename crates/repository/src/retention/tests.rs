//! The decision on examples, and what holds for all of them.

use proptest::prelude::*;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);
const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

fn id(n: u8) -> PointId {
    PointId::from_bytes([n; 16])
}

fn point(n: u8, days_old: u32) -> Candidate {
    let stored_at = Timestamp(NOW.0 - i64::from(days_old) * 86_400_000_000);
    Candidate { point: id(n), kind: "files".into(), stored_at, late: false, damaged: false, hurt: false, held: None }
}

fn kept(points: &[Candidate], rules: Rules) -> Vec<u8> {
    let decisions = decide(points, &rules, NOW);
    points.iter().filter(|point| decisions[&point.point].keeps()).map(|point| point.point.as_bytes()[0]).collect()
}

const WITHIN_30: Rules = Rules { keep_within: Some(Duration::from_secs(30 * 86_400)), keep_last: None };
const LAST_2: Rules = Rules { keep_within: None, keep_last: Some(2) };

#[test]
fn what_one_rule_keeps_stays() {
    let points: Vec<_> = (0..6).map(|n| point(n, u32::from(n) * 10)).collect();
    assert_eq!(kept(&points, WITHIN_30), [0, 1, 2, 3]);
    assert_eq!(kept(&points, LAST_2), [0, 1]);
    assert_eq!(kept(&points, Rules { keep_last: Some(5), ..WITHIN_30 }), [0, 1, 2, 3, 4]);
    assert_eq!(kept(&points, Rules::default()), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn the_newest_good_point_stays_however_old_and_what_was_never_superseded_too() {
    let damaged = Candidate { damaged: true, ..point(1, 300) };
    let hurt = Candidate { hurt: true, ..point(2, 350) };
    let points = [damaged, hurt, point(3, 400), point(4, 500)];
    assert_eq!(kept(&points, WITHIN_30), [1, 2, 3]);
    let only_bad = [Candidate { damaged: true, ..point(1, 300) }, Candidate { hurt: true, ..point(2, 350) }];
    assert_eq!(kept(&only_bad, LAST_2), [1, 2]);
}

#[test]
fn bogus_points_do_not_push_good_ones_out() {
    let future = |n| Candidate { stored_at: NOW.plus(DAY * u32::from(n)), ..point(n, 0) };
    let late = |n| Candidate { late: true, ..point(n, 1) };
    let points = [future(11), future(12), future(13), late(14), late(15), point(1, 40), point(2, 50), point(3, 60)];
    assert_eq!(kept(&points, LAST_2), [11, 12, 13, 14, 15, 1, 2]);
    // Once a good one is newer, what was never acknowledged goes at once.
    assert_eq!(kept(&[point(1, 0), late(14), point(2, 50)], LAST_2), [1, 2]);
}

#[test]
fn another_kind_of_backup_supersedes_nothing() {
    let dump = |n, days| Candidate { kind: "dump".into(), ..point(n, days) };
    assert_eq!(kept(&[dump(1, 1), dump(2, 2), dump(3, 3), point(4, 90), point(5, 91), point(6, 92)], LAST_2), [1, 2, 4, 5]);
}

#[test]
fn a_hold_keeps_a_point_until_it_ends() {
    let held = |n, until| Candidate { held: Some((until, "the auditors".into())), ..point(n, 100) };
    let points = [point(1, 1), held(2, NOW.plus(DAY)), held(3, NOW)];
    assert_eq!(kept(&points, WITHIN_30), [1, 2]);
    let why = decide(&points, &WITHIN_30, NOW)[&id(2)].why();
    assert_eq!(why, "held: the auditors");
}

fn any_point() -> impl Strategy<Value = Candidate> {
    (any::<u8>(), 0..2_u8, -5..100_i64, 0..8_u8, proptest::option::of(-5..50_i64)).prop_map(|(n, kind, age, flags, held)| Candidate {
        point: id(n),
        kind: kind.to_string(),
        stored_at: Timestamp(NOW.0 - age * 86_400_000_000),
        late: flags & 1 != 0,
        damaged: flags & 2 != 0,
        hurt: flags & 4 != 0,
        held: held.map(|days| (Timestamp(NOW.0 + days * 86_400_000_000), "why".into())),
    })
}

fn any_rules() -> impl Strategy<Value = Rules> {
    (proptest::option::of(0..90_u32), proptest::option::of(0..9_u32))
        .prop_map(|(days, keep_last)| Rules { keep_within: days.map(|days| DAY * days), keep_last })
}

proptest! {
    #[test]
    fn nothing_goes_without_a_newer_good_point_of_its_kind_that_stays(points in proptest::collection::vec(any_point(), 0..20), rules in any_rules()) {
        let mut points = points;
        points.sort_by_key(|point| point.point);
        points.dedup_by_key(|point| point.point);
        let decisions = decide(&points, &rules, NOW);
        prop_assert_eq!(decisions.len(), points.len());
        for gone in points.iter().filter(|point| !decisions[&point.point].keeps()) {
            let newer = |other: &&Candidate| {
                (other.stored_at, other.point) > (gone.stored_at, gone.point) && other.kind == gone.kind && other.is_good() && other.stored_at <= NOW
            };
            prop_assert!(points.iter().filter(newer).any(|other| decisions[&other.point].keeps()));
            prop_assert!(gone.held.as_ref().is_none_or(|(until, _)| *until <= NOW));
        }
    }

    #[test]
    fn a_bogus_point_that_is_added_removes_none(points in proptest::collection::vec(any_point(), 0..12), bogus in any_point(), rules in any_rules()) {
        let mut points = points;
        points.sort_by_key(|point| point.point);
        points.dedup_by_key(|point| point.point);
        prop_assume!(points.iter().all(|point| point.point != bogus.point));
        let before = decide(&points, &rules, NOW);
        points.push(Candidate { late: true, ..bogus });
        let after = decide(&points, &rules, NOW);
        for (point, decision) in before {
            prop_assert_eq!(decision.keeps(), after[&point].keeps());
        }
    }
}
