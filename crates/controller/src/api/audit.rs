//! `AuditService`: the audit log listed and walked. It changes nothing.

use muster_common::fault::{ErrorKind, Fault};
use muster_wire::convert::{timestamp_from_proto, timestamp_to_proto};
use muster_wire::page;
use muster_wire::proto::v1::audit_service_server::AuditService;
use muster_wire::proto::v1::{
    AuditEntry, AuditPhase, AuditServiceListRequest, AuditServiceListResponse, AuditServiceVerifyRequest, AuditServiceVerifyResponse,
};
use tonic::{Request, Response, Status};

use super::{Api, answer};
use crate::audit::chain::{Entry, Known, Phase, Verdict};
use crate::store::audit::{self, Filter};

const LIST: &str = "AuditService.List";
/// The longest text to look for, in bytes.
const MOST_TEXT: usize = 200;

#[tonic::async_trait]
impl AuditService for Api {
    async fn list(&self, request: Request<AuditServiceListRequest>) -> Result<Response<AuditServiceListResponse>, Status> {
        answer(self.audit_page(request.into_inner()).await)
    }

    async fn verify(&self, request: Request<AuditServiceVerifyRequest>) -> Result<Response<AuditServiceVerifyResponse>, Status> {
        answer(self.audit_verdict(request.into_inner()).await)
    }
}

impl Api {
    async fn audit_page(&self, message: AuditServiceListRequest) -> Result<AuditServiceListResponse, Fault> {
        for (field, text) in [("caller", &message.caller), ("resource", &message.resource)] {
            if text.len() > MOST_TEXT {
                return Err(Fault::refused(ErrorKind::InvalidArgument, format!("{field}: more than {MOST_TEXT} bytes"))
                    .hint("give a part of what `muster audit list` shows"));
            }
        }
        let since = message.since.as_ref().map(|since| timestamp_from_proto(since, "since")).transpose()?;
        let before = page::decode(LIST, &message.page_token)?.map(|token| token.parse::<u64>()).transpose().map_err(|_| {
            Fault::refused(ErrorKind::InvalidArgument, "page_token: it is none of this list").hint("begin again without one")
        })?;
        let size = page::size(message.page_size, 100, 1_000);
        let filter = Filter { since, caller: message.caller, resource: message.resource, every: message.every, before };
        let mut read = self.agents.store.read().await?;
        let mut entries = audit::list(&mut read, &filter, u32::try_from(size.saturating_add(1)).unwrap_or(u32::MAX)).await?;
        let more = entries.len() > size;
        entries.truncate(size);
        let next_page_token = match entries.last() {
            Some(last) if more => page::encode(LIST, &last.number.to_string()),
            Some(_) | None => String::new(),
        };
        Ok(AuditServiceListResponse { entries: entries.into_iter().map(shown).collect(), next_page_token })
    }

    async fn audit_verdict(&self, message: AuditServiceVerifyRequest) -> Result<AuditServiceVerifyResponse, Fault> {
        let hash = message.known_hash.to_ascii_lowercase();
        let good = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        let known = match (message.known_number, hash.is_empty()) {
            (0, true) => Vec::new(),
            (1.., false) if good => vec![Known { number: message.known_number, hash, by: "you".into() }],
            (0, false) | (1.., _) => {
                return Err(Fault::refused(
                    ErrorKind::InvalidArgument,
                    "known_number and known_hash: expected both or none, and 64 digits",
                )
                .hint("give them as `muster audit verify` printed them: `--known NUMBER:HASH`"));
            }
        };
        let verdict = self.audit.verify(&self.agents.store, known).await.map_err(|error| {
            Fault::failed(ErrorKind::Unavailable, format!("walk the audit log: {error:#}")).hint("look at the controller's store and log")
        })?;
        Ok(match verdict {
            Verdict::Whole(ends) => {
                AuditServiceVerifyResponse { whole: true, number: ends.first, last: ends.last, head: ends.head, problem: String::new() }
            }
            Verdict::Broken { number, why } => {
                AuditServiceVerifyResponse { whole: false, number, last: 0, head: String::new(), problem: why }
            }
        })
    }
}

fn shown(entry: Entry) -> AuditEntry {
    let what = entry.what;
    let phase = match what.phase {
        Phase::Asked => AuditPhase::Asked,
        Phase::Answered => AuditPhase::Answered,
        Phase::Refused => AuditPhase::Refused,
        Phase::Machine => AuditPhase::Machine,
        Phase::Forgotten => AuditPhase::Forgotten,
    };
    AuditEntry {
        number: entry.number,
        at: Some(timestamp_to_proto(what.at)),
        phase: phase.into(),
        caller: what.caller,
        role: what.role,
        peer: what.peer,
        rpc: what.rpc,
        resource: what.resource,
        request_id: what.request_id,
        digest: what.digest,
        answers: what.answers,
        outcome: what.outcome,
        code: what.code,
        message: what.message,
        operation_id: what.operation,
        left_out: what.left_out,
        hash: entry.hash,
    }
}
