//! What of `RecoveryService` and `OperationService` decides who may write: requests are read here, and preflights shown.

use std::collections::BTreeMap;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::Name;
use muster_failover::loss::Loss;
use muster_failover::proof::Statement;
use muster_wire::convert::{duration_from_proto, duration_to_proto, name_from_proto, optional_name_from_proto};
use muster_wire::proto::v1::{
    AdoptRequest, AdoptResponse, FailoverRequest, FenceRequest, LossBound, MachineStatement, MachineWord, ManageRequest, PreflightCheck,
    PreflightRequest, PreflightResponse, RejoinRequest, SwitchoverRequest, UnfenceRequest,
};
use tonic::{Request, Response, Status};

use super::recovery::asked;
use super::{Api, digest, request_id, some_duration, status, subject_of};
use crate::failover::catching_up;
use crate::operation::asked::{AskedMove, Move, What};
use crate::operation::done::loss_to_proto;
use crate::operation::moves::preflight::{Check, Preflight};
use crate::operation::moves::task::Approval;
use muster_wire::proto::v1::Operation;

/// The most words of one request.
const MOST_WORDS: usize = 100;

/// A request that decides who may write.
pub(super) trait Wanted: prost::Message {
    /// Takes the request id out: the digest is of the rest.
    fn take_id(&mut self) -> String;
    /// What is wanted, with what is stated.
    ///
    /// # Errors
    /// Where a field makes no sense.
    fn read(&self) -> Result<AskedMove, Fault>;
}

impl Api {
    /// Starts an operation that decides who may write.
    pub(super) async fn start_move<T: Wanted>(&self, request: Request<T>) -> Result<Operation, Status> {
        let caller = subject_of(&request)?;
        super::recovery::asked_failpoint()?;
        let mut message = request.into_inner();
        let read = (|| {
            let id = request_id(&message.take_id())?;
            let wanted = message.read()?;
            self.must_exist(wanted.component.as_str(), "")?;
            Ok(asked(caller, id, digest(&message), None, What::Move(wanted)))
        })();
        self.start(read.map_err(status)?).await
    }

    /// Believes a later reign, by a person's word about those that are silent.
    pub(super) async fn believe(&self, message: AdoptRequest, by: &str) -> Result<AdoptResponse, Fault> {
        self.must_exist(&message.component, "")?;
        let component = name_from_proto(&message.component, "component")?;
        if message.off.len() > MOST_WORDS {
            return Err(Fault::refused(
                ErrorKind::ResourceExhausted,
                format!("off: {} of them; {MOST_WORDS} is the bound", message.off.len()),
            )
            .hint("one for each machine"));
        }
        let off = message.off.iter().map(|name| name_from_proto(name, "off")).collect::<Result<_, _>>()?;
        let record = catching_up::adopt(&self.agents, &component, &off).await?;
        tracing::warn!(by, %component, ?off, "a later reign was believed by a person's word");
        Ok(AdoptResponse { writer: record.reign.writer.to_string(), epoch: record.reign.epoch.0 })
    }

    pub(super) async fn look_before(&self, request: Request<PreflightRequest>) -> Result<Response<PreflightResponse>, Status> {
        let message = request.into_inner();
        let read = (|| {
            self.must_exist(&message.component, &message.to)?;
            Ok((name_from_proto(&message.component, "component")?, optional_name_from_proto(&message.to, "to")?))
        })();
        let (component, to) = read.map_err(status)?;
        let found = self.agents.operations.preflight(&component, to.as_ref()).await.map_err(status)?;
        let mut shown = shown(&found);
        let routes = self.route_checks(&component).await.map_err(status)?;
        shown.ready &= routes.iter().all(|check| check.ok || !check.blocks);
        shown.checks.extend(routes);
        Ok(Response::new(shown))
    }
}

fn shown(found: &Preflight) -> PreflightResponse {
    let to = found.to.as_ref().map(ToString::to_string).unwrap_or_default();
    PreflightResponse {
        checks: found.checks.iter().map(shown_check).collect(),
        ready: found.is_ready(),
        loss: found.loss.as_ref().map(|(loss, _)| loss_to_proto(loss)),
        loss_evidence: found.loss.as_ref().map(|(_, evidence)| evidence.clone()).unwrap_or_default(),
        plan: [
            "the writer is stopped, with a limit".to_owned(),
            format!("{to} replays all that it left, else the writer starts again"),
            format!("{to} pledges to stand ready"),
            "the next reign is journaled: from here it only goes on".to_owned(),
            "everyone who may have written signs that it writes no more".to_owned(),
            format!("{to} checks that itself and takes writes"),
            "the others follow it".to_owned(),
        ]
        .into(),
        to,
    }
}

fn shown_check(check: &Check) -> PreflightCheck {
    PreflightCheck {
        name: check.name.clone(),
        instance: check.instance.as_ref().map(ToString::to_string).unwrap_or_default(),
        ok: check.ok,
        blocks: check.blocks,
        evidence: check.evidence.clone(),
        age: check.age.map(duration_to_proto),
        lifted_by: check.lifted_by.clone(),
    }
}

/// What is stated of machines, and what may be lost.
///
/// # Errors
/// Where a word is about nobody, or states nothing.
pub(super) fn approval(words: &[MachineWord], ceiling: Option<&LossBound>) -> Result<Approval, Fault> {
    if words.len() > MOST_WORDS {
        return Err(Fault::refused(ErrorKind::ResourceExhausted, format!("words: {} of them; {MOST_WORDS} is the bound", words.len()))
            .hint("one for each machine"));
    }
    let mut stated = BTreeMap::new();
    for word in words {
        let states = match word.states() {
            MachineStatement::Off => Statement::MachineOff,
            MachineStatement::Fenced => Statement::FencedThere,
            MachineStatement::Unspecified => {
                return Err(Fault::refused(ErrorKind::InvalidArgument, format!("words: nothing is stated of {:?}", word.instance))
                    .hint("INSTANCE=off where its machine is off, INSTANCE=fenced where `muster-agent fence` was run on it"));
            }
        };
        stated.insert(name_from_proto(&word.instance, "words.instance")?, states);
    }
    let ceiling = match ceiling {
        Some(bound) => Some(Loss {
            bytes: bound.bytes,
            time: bound.time.as_ref().map(|time| duration_from_proto(time, "accept_loss.time")).transpose()?,
        }),
        None => None,
    };
    Ok(Approval { words: stated, ceiling })
}

fn wanted(component: &str, what: Move) -> Result<AskedMove, Fault> {
    Ok(AskedMove { component: name_from_proto(component, "component")?, what, approval: Approval::default() })
}

fn named(name: &str, field: &str) -> Result<Name, Fault> {
    name_from_proto(name, field)
}

impl Wanted for ManageRequest {
    fn take_id(&mut self) -> String {
        std::mem::take(&mut self.request_id)
    }

    fn read(&self) -> Result<AskedMove, Fault> {
        wanted(&self.component, Move::Manage { writer: named(&self.writer, "writer")? })
    }
}

impl Wanted for SwitchoverRequest {
    fn take_id(&mut self) -> String {
        std::mem::take(&mut self.request_id)
    }

    fn read(&self) -> Result<AskedMove, Fault> {
        let stop_limit = some_duration(self.stop_limit, "stop_limit")?;
        wanted(&self.component, Move::Switchover { to: named(&self.to, "to")?, stop_limit })
    }
}

impl Wanted for FailoverRequest {
    fn take_id(&mut self) -> String {
        std::mem::take(&mut self.request_id)
    }

    fn read(&self) -> Result<AskedMove, Fault> {
        let asked = wanted(&self.component, Move::Failover { to: optional_name_from_proto(&self.to, "to")? })?;
        Ok(AskedMove { approval: approval(&self.words, self.accept_loss.as_ref())?, ..asked })
    }
}

impl Wanted for FenceRequest {
    fn take_id(&mut self) -> String {
        std::mem::take(&mut self.request_id)
    }

    fn read(&self) -> Result<AskedMove, Fault> {
        wanted(&self.component, Move::Fence { instance: optional_name_from_proto(&self.instance, "instance")? })
    }
}

impl Wanted for UnfenceRequest {
    fn take_id(&mut self) -> String {
        std::mem::take(&mut self.request_id)
    }

    fn read(&self) -> Result<AskedMove, Fault> {
        let instance = optional_name_from_proto(&self.instance, "instance")?;
        let asked = wanted(&self.component, Move::Unfence { instance, by_itself: false })?;
        Ok(AskedMove { approval: approval(&self.words, None)?, ..asked })
    }
}

impl Wanted for RejoinRequest {
    fn take_id(&mut self) -> String {
        std::mem::take(&mut self.request_id)
    }

    fn read(&self) -> Result<AskedMove, Fault> {
        wanted(&self.component, Move::Rejoin { instance: named(&self.instance, "instance")? })
    }
}
