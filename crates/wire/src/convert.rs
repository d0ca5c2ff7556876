//! The vocabulary of `common` to protobuf and back: faults, instants, durations, names, ids, positions.
//!
//! What comes from outside is checked here once and refused with the field's name; nothing is guessed. What engines know
//! (observations, outcomes) is converted where engines are known.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use muster_common::fault::{Effect, ErrorKind, Fault};
use muster_common::name::Name;
use muster_common::position::{Fork, Lsn, PostgresPosition};
use muster_common::time::Timestamp;

use crate::proto::v1;

/// A value that a field must hold, in the one form of such refusals.
pub(crate) fn refused(field: &str, reason: impl Display) -> Fault {
    Fault::refused(ErrorKind::InvalidArgument, format!("{field}: {reason}"))
        .hint(format!("correct {field} and ask again; nothing was done"))
}

/// What a field that must be given holds.
///
/// # Errors
/// Where it is absent.
pub fn required<T>(value: Option<T>, field: &str) -> Result<T, Fault> {
    value.ok_or_else(|| refused(field, "is missing"))
}

/// A name as text.
///
/// # Errors
/// Where it is no name; the text says which field and what was expected.
pub fn name_from_proto(text: &str, field: &str) -> Result<Name, Fault> {
    text.parse().map_err(|error| refused(field, error))
}

/// A name that may be absent, which is an empty text.
///
/// # Errors
/// As [`name_from_proto`].
pub fn optional_name_from_proto(text: &str, field: &str) -> Result<Option<Name>, Fault> {
    if text.is_empty() { Ok(None) } else { name_from_proto(text, field).map(Some) }
}

/// An id as 32 hexadecimal digits.
///
/// # Errors
/// Where it is no id; the text says which field and what was expected.
pub fn id_from_proto<T: FromStr<Err: Display>>(text: &str, field: &str) -> Result<T, Fault> {
    text.parse().map_err(|error| refused(field, error))
}

/// An id that may be absent, which is an empty text.
///
/// # Errors
/// As [`id_from_proto`].
pub fn optional_id_from_proto<T: FromStr<Err: Display>>(text: &str, field: &str) -> Result<Option<T>, Fault> {
    if text.is_empty() { Ok(None) } else { id_from_proto(text, field).map(Some) }
}

/// An instant, exact to the microsecond.
#[must_use]
pub fn timestamp_to_proto(at: Timestamp) -> prost_types::Timestamp {
    let nanos = at.0.rem_euclid(1_000_000) * 1_000;
    prost_types::Timestamp { seconds: at.0.div_euclid(1_000_000), nanos: i32::try_from(nanos).unwrap_or(0) }
}

/// An instant; what is finer than a microsecond is cut off.
///
/// # Errors
/// Where it lies outside of the years 1 to 9999 (`google/protobuf/timestamp.proto`).
pub fn timestamp_from_proto(at: &prost_types::Timestamp, field: &str) -> Result<Timestamp, Fault> {
    const YEARS_1_TO_9999: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
    if !YEARS_1_TO_9999.contains(&at.seconds) || !(0..1_000_000_000).contains(&at.nanos) {
        return Err(refused(field, "is no instant of the years 1 to 9999"));
    }
    Ok(Timestamp(at.seconds * 1_000_000 + i64::from(at.nanos / 1_000)))
}

/// A duration. More than 10,000 years, the most that protobuf allows, is shown as that.
#[must_use]
pub fn duration_to_proto(duration: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(MAX_DURATION_SECONDS).min(MAX_DURATION_SECONDS);
    prost_types::Duration { seconds, nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0) }
}

/// `google/protobuf/duration.proto`: 10,000 years.
const MAX_DURATION_SECONDS: i64 = 315_576_000_000;

/// A duration that is not negative.
///
/// # Errors
/// Where it is negative, longer than 10,000 years, or its two parts do not fit each other.
pub fn duration_from_proto(duration: &prost_types::Duration, field: &str) -> Result<Duration, Fault> {
    if !(0..=MAX_DURATION_SECONDS).contains(&duration.seconds) || !(0..1_000_000_000).contains(&duration.nanos) {
        return Err(refused(field, "is no duration from 0 to 10,000 years"));
    }
    Ok(Duration::new(duration.seconds.unsigned_abs(), duration.nanos.unsigned_abs()))
}

/// A PostgreSQL position.
#[must_use]
pub fn postgres_position_to_proto(position: &PostgresPosition) -> v1::PostgresPosition {
    v1::PostgresPosition {
        system_id: position.system_id,
        timeline: position.timeline,
        history: position.history.iter().map(|fork| v1::TimelineFork { timeline: fork.timeline, at_lsn: fork.at.0 }).collect(),
        lsn: position.lsn.0,
    }
}

/// The most forks of a timeline history that are taken: far more than any cluster was ever promoted.
const MAX_FORKS: usize = 10_000;

/// A PostgreSQL position.
///
/// # Errors
/// Where it names no timeline, its history does not lead up to its timeline, or it is too long.
pub fn postgres_position_from_proto(position: &v1::PostgresPosition) -> Result<PostgresPosition, Fault> {
    let history: Vec<Fork> =
        position.history.iter().map(|fork| Fork { timeline: fork.timeline, at: Lsn(fork.at_lsn) }).take(MAX_FORKS + 1).collect();
    if history.len() > MAX_FORKS {
        return Err(refused("position.history", format!("more than {MAX_FORKS} forks")));
    }
    let numbers = history.iter().map(|fork| fork.timeline).chain([position.timeline]);
    let grows = numbers.clone().zip(numbers.clone().skip(1)).all(|(older, newer)| older < newer);
    if !grows || numbers.min() == Some(0) {
        return Err(refused("position", "timelines must grow from 1 on up to the present one"));
    }
    Ok(PostgresPosition { system_id: position.system_id, timeline: position.timeline, history, lsn: Lsn(position.lsn) })
}

/// A fault.
#[must_use]
pub fn fault_to_proto(fault: &Fault) -> v1::Fault {
    v1::Fault {
        kind: error_kind_to_proto(fault.kind).into(),
        effect: effect_to_proto(fault.effect).into(),
        message: fault.message.clone(),
        evidence: fault.evidence.clone(),
        hint: fault.hint.clone(),
    }
}

/// A fault. A kind or an effect that this build does not know, as a newer peer may send, counts as internal and unknown.
#[must_use]
pub fn fault_from_proto(fault: &v1::Fault) -> Fault {
    Fault {
        kind: error_kind_from_proto(fault.kind()).unwrap_or(ErrorKind::Internal),
        effect: effect_from_proto(fault.effect()),
        message: fault.message.clone(),
        evidence: fault.evidence.clone(),
        hint: fault.hint.clone(),
    }
}

/// The kind of a fault.
#[must_use]
pub fn error_kind_to_proto(kind: ErrorKind) -> v1::ErrorKind {
    match kind {
        ErrorKind::InvalidArgument => v1::ErrorKind::InvalidArgument,
        ErrorKind::Unauthenticated => v1::ErrorKind::Unauthenticated,
        ErrorKind::PermissionDenied => v1::ErrorKind::PermissionDenied,
        ErrorKind::NotFound => v1::ErrorKind::NotFound,
        ErrorKind::AlreadyExists => v1::ErrorKind::AlreadyExists,
        ErrorKind::Conflict => v1::ErrorKind::Conflict,
        ErrorKind::FailedPrecondition => v1::ErrorKind::FailedPrecondition,
        ErrorKind::OutOfRange => v1::ErrorKind::OutOfRange,
        ErrorKind::ResourceExhausted => v1::ErrorKind::ResourceExhausted,
        ErrorKind::Unavailable => v1::ErrorKind::Unavailable,
        ErrorKind::Stalled => v1::ErrorKind::Stalled,
        ErrorKind::Cancelled => v1::ErrorKind::Cancelled,
        ErrorKind::NotAvailable => v1::ErrorKind::NotAvailable,
        ErrorKind::Incompatible => v1::ErrorKind::Incompatible,
        ErrorKind::DataLoss => v1::ErrorKind::DataLoss,
        ErrorKind::Internal => v1::ErrorKind::Internal,
    }
}

/// The kind of a fault; `None` of what is never sent.
#[must_use]
pub fn error_kind_from_proto(kind: v1::ErrorKind) -> Option<ErrorKind> {
    Some(match kind {
        v1::ErrorKind::Unspecified => return None,
        v1::ErrorKind::InvalidArgument => ErrorKind::InvalidArgument,
        v1::ErrorKind::Unauthenticated => ErrorKind::Unauthenticated,
        v1::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        v1::ErrorKind::NotFound => ErrorKind::NotFound,
        v1::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
        v1::ErrorKind::Conflict => ErrorKind::Conflict,
        v1::ErrorKind::FailedPrecondition => ErrorKind::FailedPrecondition,
        v1::ErrorKind::OutOfRange => ErrorKind::OutOfRange,
        v1::ErrorKind::ResourceExhausted => ErrorKind::ResourceExhausted,
        v1::ErrorKind::Unavailable => ErrorKind::Unavailable,
        v1::ErrorKind::Stalled => ErrorKind::Stalled,
        v1::ErrorKind::Cancelled => ErrorKind::Cancelled,
        v1::ErrorKind::NotAvailable => ErrorKind::NotAvailable,
        v1::ErrorKind::Incompatible => ErrorKind::Incompatible,
        v1::ErrorKind::DataLoss => ErrorKind::DataLoss,
        v1::ErrorKind::Internal => ErrorKind::Internal,
    })
}

fn effect_to_proto(effect: Effect) -> v1::Effect {
    match effect {
        Effect::None => v1::Effect::None,
        Effect::Unknown => v1::Effect::Unknown,
        Effect::Done => v1::Effect::Done,
    }
}

fn effect_from_proto(effect: v1::Effect) -> Effect {
    match effect {
        v1::Effect::None => Effect::None,
        v1::Effect::Unspecified | v1::Effect::Unknown => Effect::Unknown,
        v1::Effect::Done => Effect::Done,
    }
}

#[cfg(test)]
mod tests {
    use muster_common::id::PointId;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_error_kind_goes_both_ways() {
        let mut seen = 0;
        for number in 1..=i32::from(u8::MAX) {
            if let Ok(proto) = v1::ErrorKind::try_from(number) {
                let kind = error_kind_from_proto(proto).unwrap();
                assert_eq!(error_kind_to_proto(kind), proto);
                seen += 1;
            }
        }
        assert_eq!(seen, 16);
        assert_eq!(error_kind_from_proto(v1::ErrorKind::Unspecified), None);
    }

    #[test]
    fn a_fault_goes_both_ways_and_one_of_a_newer_peer_is_internal_and_unknown() {
        for effect in [Effect::None, Effect::Unknown, Effect::Done] {
            let fault = Fault::failed(ErrorKind::Stalled, "no byte moved").evidence("for 15 min").hint("look").effect(effect);
            assert_eq!(fault_from_proto(&fault_to_proto(&fault)), fault);
        }
        let newer = v1::Fault { kind: 999, effect: 999, message: "m".into(), ..v1::Fault::default() };
        let read = fault_from_proto(&newer);
        assert_eq!((read.kind, read.effect), (ErrorKind::Internal, Effect::Unknown));
    }

    #[test]
    fn what_is_no_name_id_instant_or_duration_is_refused_with_its_field() {
        let texts = [
            name_from_proto("Orders DB", "component").unwrap_err(),
            id_from_proto::<PointId>("xyz", "component").unwrap_err(),
            timestamp_from_proto(&prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }, "component").unwrap_err(),
            timestamp_from_proto(&prost_types::Timestamp { seconds: 0, nanos: -1 }, "component").unwrap_err(),
            duration_from_proto(&prost_types::Duration { seconds: -1, nanos: 0 }, "component").unwrap_err(),
            duration_from_proto(&prost_types::Duration { seconds: i64::MAX, nanos: 0 }, "component").unwrap_err(),
            required::<()>(None, "component").unwrap_err(),
        ];
        for fault in texts {
            assert_eq!((fault.kind, fault.effect), (ErrorKind::InvalidArgument, Effect::None));
            assert!(fault.message.starts_with("component: "), "{fault}");
        }
        assert_eq!(optional_name_from_proto("", "instance"), Ok(None));
        assert_eq!(optional_id_from_proto::<PointId>("", "point"), Ok(None));
    }

    #[test]
    fn a_position_whose_history_does_not_lead_to_its_timeline_is_refused() {
        let fork = |timeline| v1::TimelineFork { timeline, at_lsn: 5 };
        let at = |timeline, history| v1::PostgresPosition { system_id: 1, timeline, history, lsn: 9 };
        assert!(postgres_position_from_proto(&at(3, vec![fork(1), fork(2)])).is_ok());
        for bad in [at(0, vec![]), at(1, vec![fork(1)]), at(3, vec![fork(2), fork(1)]), at(2, vec![fork(0)])] {
            assert!(postgres_position_from_proto(&bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn instants_and_durations_go_both_ways(micros in -62_135_596_800_000_000_i64..=253_402_300_799_999_999, seconds in 0_u64..=315_576_000_000, nanos in 0_u32..1_000_000_000) {
            let at = Timestamp(micros);
            prop_assert_eq!(timestamp_from_proto(&timestamp_to_proto(at), "at"), Ok(at));
            let duration = Duration::new(seconds, nanos);
            prop_assert_eq!(duration_from_proto(&duration_to_proto(duration), "for"), Ok(duration));
        }
    }
}
