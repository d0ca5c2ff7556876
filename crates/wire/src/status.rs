//! A fault as a gRPC status and back: the one place where kinds are mapped to codes.
//!
//! A status carries two details: `google.rpc.ErrorInfo` (reason: the kind; metadata: effect and hint), which any client can
//! read, and the whole `muster.v1.Fault`, which ours read. What always holds: the details fit into HTTP/2 trailers.

use std::collections::HashMap;
use std::error::Error;

use muster_common::fault::{Effect, ErrorKind, Fault};
use prost::Message;
use tonic::{Code, Status};
use tonic_types::pb;

use crate::convert::{fault_from_proto, fault_to_proto};
use crate::proto::v1;

/// `google.rpc.ErrorInfo.domain` of all our errors.
pub const DOMAIN: &str = "muster.v1";

const FAULT_URL: &str = "type.googleapis.com/muster.v1.Fault";
const INFO_URL: &str = "type.googleapis.com/google.rpc.ErrorInfo";

// Trailers of 16 KiB are what every HTTP/2 peer takes by default (h2's max_header_list_size). The message stands in them
// three times, once percent-encoded; the hint twice; the details in base64.
const MAX_MESSAGE: usize = 1_000;
const MAX_HINT: usize = 1_000;
const MAX_EVIDENCE: usize = 3_000;

/// The gRPC code of a kind.
#[must_use]
pub const fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::PermissionDenied => Code::PermissionDenied,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::Conflict => Code::Aborted,
        ErrorKind::FailedPrecondition | ErrorKind::Incompatible => Code::FailedPrecondition,
        ErrorKind::OutOfRange => Code::OutOfRange,
        ErrorKind::ResourceExhausted => Code::ResourceExhausted,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Stalled => Code::DeadlineExceeded,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::NotAvailable => Code::Unimplemented,
        ErrorKind::DataLoss => Code::DataLoss,
        ErrorKind::Internal => Code::Internal,
    }
}

/// The kind as clients read it in `google.rpc.ErrorInfo.reason`: `FAILED_PRECONDITION`.
#[must_use]
pub fn reason(kind: ErrorKind) -> &'static str {
    let name = crate::convert::error_kind_to_proto(kind).as_str_name();
    name.strip_prefix("ERROR_KIND_").unwrap_or(name)
}

/// The status that tells a fault. What is too long for trailers is cut and ends in `…`.
#[must_use]
pub fn status(fault: Fault) -> Status {
    let fault = bounded(fault);
    let code = code(fault.kind);
    let info = pb::ErrorInfo {
        reason: reason(fault.kind).to_owned(),
        domain: DOMAIN.to_owned(),
        metadata: HashMap::from([("effect".to_owned(), effect_word(fault.effect).to_owned()), ("hint".to_owned(), fault.hint.clone())]),
    };
    let details = pb::Status {
        code: code.into(),
        message: fault.message.clone(),
        details: vec![
            prost_types::Any { type_url: INFO_URL.to_owned(), value: info.encode_to_vec() },
            prost_types::Any { type_url: FAULT_URL.to_owned(), value: fault_to_proto(&fault).encode_to_vec() },
        ],
    };
    Status::with_details(code, fault.message, details.encode_to_vec().into())
}

/// The fault that a status tells. One that is not ours (a proxy's, a broken connection's) is judged by its code.
#[must_use]
pub fn fault(status: &Status) -> Fault {
    if let Some(fault) = carried(status) {
        return fault;
    }
    let (kind, effect) = if is_of_transport(status) {
        let effect = if never_connected(status) { Effect::None } else { Effect::Unknown };
        (ErrorKind::Unavailable, effect)
    } else {
        foreign(status.code())
    };
    let mut told = Fault { kind, effect, message: status.message().to_owned(), evidence: Vec::new(), hint: String::new() };
    let mut source = status.source();
    while let Some(error) = source {
        let text = error.to_string();
        if !text.is_empty() && !told.evidence.contains(&text) && told.evidence.len() < 8 {
            told.evidence.push(text);
        }
        source = error.source();
    }
    told
}

/// The kind and effect of a status that carries no fault of ours.
fn foreign(code: Code) -> (ErrorKind, Effect) {
    match code {
        Code::InvalidArgument => (ErrorKind::InvalidArgument, Effect::None),
        Code::Unauthenticated => (ErrorKind::Unauthenticated, Effect::None),
        Code::PermissionDenied => (ErrorKind::PermissionDenied, Effect::None),
        Code::NotFound => (ErrorKind::NotFound, Effect::None),
        Code::AlreadyExists => (ErrorKind::AlreadyExists, Effect::None),
        Code::Aborted => (ErrorKind::Conflict, Effect::None),
        Code::FailedPrecondition => (ErrorKind::FailedPrecondition, Effect::None),
        Code::OutOfRange => (ErrorKind::OutOfRange, Effect::None),
        Code::ResourceExhausted => (ErrorKind::ResourceExhausted, Effect::Unknown),
        Code::Unimplemented => (ErrorKind::NotAvailable, Effect::None),
        Code::Unavailable => (ErrorKind::Unavailable, Effect::Unknown),
        Code::DeadlineExceeded => (ErrorKind::Stalled, Effect::Unknown),
        Code::Cancelled => (ErrorKind::Cancelled, Effect::Unknown),
        Code::DataLoss => (ErrorKind::DataLoss, Effect::Unknown),
        Code::Ok | Code::Unknown | Code::Internal => (ErrorKind::Internal, Effect::Unknown),
    }
}

fn carried(status: &Status) -> Option<Fault> {
    let details = pb::Status::decode(status.details()).ok()?;
    let any = details.details.iter().find(|any| any.type_url == FAULT_URL)?;
    v1::Fault::decode(any.value.as_slice()).ok().map(|fault| fault_from_proto(&fault))
}

/// A connection that broke is told by tonic as `Unknown`, `Internal` or `Cancelled` with the transport's error as its source.
fn is_of_transport(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled) && status.source().is_some()
}

fn never_connected(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

fn effect_word(effect: Effect) -> &'static str {
    match effect {
        Effect::None => "none",
        Effect::Unknown => "unknown",
        Effect::Done => "done",
    }
}

fn bounded(mut fault: Fault) -> Fault {
    cut(&mut fault.message, MAX_MESSAGE);
    cut(&mut fault.hint, MAX_HINT);
    let mut left = MAX_EVIDENCE;
    fault.evidence.retain_mut(|seen| {
        cut(seen, left);
        left = left.saturating_sub(seen.len() + 8);
        !seen.is_empty()
    });
    fault
}

fn cut(text: &mut String, most: usize) {
    if text.len() <= most {
        return;
    }
    let room = most.saturating_sub('…'.len_utf8());
    let end = (0..=room).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.truncate(end);
    if most >= '…'.len_utf8() {
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt;

    use super::*;

    const KINDS: [ErrorKind; 16] = [
        ErrorKind::InvalidArgument,
        ErrorKind::Unauthenticated,
        ErrorKind::PermissionDenied,
        ErrorKind::NotFound,
        ErrorKind::AlreadyExists,
        ErrorKind::Conflict,
        ErrorKind::FailedPrecondition,
        ErrorKind::OutOfRange,
        ErrorKind::ResourceExhausted,
        ErrorKind::Unavailable,
        ErrorKind::Stalled,
        ErrorKind::Cancelled,
        ErrorKind::NotAvailable,
        ErrorKind::Incompatible,
        ErrorKind::DataLoss,
        ErrorKind::Internal,
    ];

    #[test]
    fn every_kind_and_effect_goes_through_a_status_and_back() {
        for kind in KINDS {
            for effect in [Effect::None, Effect::Unknown, Effect::Done] {
                let told = Fault::failed(kind, "back up orders-db: no").evidence("seen 2s ago").hint("do this").effect(effect);
                let status = status(told.clone());
                assert_eq!(status.code(), code(kind));
                assert_eq!(fault(&status), told);
            }
        }
    }

    #[test]
    fn a_client_that_knows_google_rpc_only_reads_kind_effect_and_hint() {
        let status = status(Fault::refused(ErrorKind::FailedPrecondition, "the server is down").hint("start it"));
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("FAILED_PRECONDITION", "muster.v1"));
        assert_eq!(info.metadata.get("effect").map(String::as_str), Some("none"));
        assert_eq!(info.metadata.get("hint").map(String::as_str), Some("start it"));
    }

    #[test]
    fn a_fault_of_megabytes_still_fits_into_trailers() {
        let mut huge = Fault::refused(ErrorKind::Internal, "ü".repeat(1 << 20)).hint("ö".repeat(1 << 20));
        huge.evidence = vec!["ä".repeat(10_000); 1_000];
        let status = status(huge);
        let trailers = status.message().len() * 3 + status.details().len() * 4 / 3;
        assert!(trailers < 14_000, "{trailers}");
        assert!(fault(&status).message.ends_with('…'));
    }

    #[test]
    fn a_status_that_is_not_ours_is_judged_by_its_code() {
        for (code, kind, effect) in [
            (Code::Unavailable, ErrorKind::Unavailable, Effect::Unknown),
            (Code::Unimplemented, ErrorKind::NotAvailable, Effect::None),
            (Code::Aborted, ErrorKind::Conflict, Effect::None),
            (Code::Unknown, ErrorKind::Internal, Effect::Unknown),
        ] {
            let fault = fault(&Status::new(code, "by a proxy"));
            assert_eq!((fault.kind, fault.effect, fault.message.as_str()), (kind, effect, "by a proxy"));
        }
    }

    #[test]
    fn a_broken_connection_is_unavailable_whatever_code_it_came_with() {
        let broken = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "connection reset");
        let told = fault(&Status::from_error(Box::new(broken)));
        assert_eq!((told.kind, told.effect), (ErrorKind::Unavailable, Effect::Unknown));
        assert_eq!(told.evidence, ["connection reset"]);
    }

    #[test]
    fn a_connection_that_never_was_changed_nothing() {
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "refused");
        let told = fault(&Status::from_error(Box::new(tonic::ConnectError(Box::new(refused)))));
        assert_eq!((told.kind, told.effect), (ErrorKind::Unavailable, Effect::None));
    }

    #[test]
    fn damaged_details_are_no_reason_to_panic() {
        for length in 0..64 {
            let status = Status::with_details(Code::Internal, "m", vec![0xff; length].into());
            assert_eq!(fault(&status).kind, ErrorKind::Internal);
        }
    }
}
