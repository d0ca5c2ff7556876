//! `OperationService`: operations are seen, awaited, stopped.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use muster_common::counter::EventNumber;
use muster_common::fault::{ErrorKind, Fault};
use muster_identity::caller::Caller;
use muster_service::clock;
use muster_wire::convert::{duration_from_proto, optional_name_from_proto};
use muster_wire::page;
use muster_wire::proto::v1::operation_service_server::OperationService;
use muster_wire::proto::v1::operation_service_watch_response::Update;
use muster_wire::proto::v1::{
    ApproveRequest, ApproveResponse, CancelRequest, CancelResponse, DiscardRequest, DiscardResponse, OperationServiceGetRequest,
    OperationServiceGetResponse, OperationServiceListRequest, OperationServiceListResponse, OperationServiceWatchRequest,
    OperationServiceWatchResponse, OperationState, RejectRequest, RejectResponse, ResolveRequest, ResolveResponse, RetryRequest,
    RetryResponse, WaitRequest, WaitResponse,
};
use tonic::{Request, Response, Status};

use super::moves::approval;
use super::recovery::asked;
use super::{Api, answer, caller_of, digest, request_id, status, subject_of};
use crate::operation::asked::{Asked, What};
use crate::operation::handle::ListFilter;
use crate::operation::watch::WatchUpdate;

const LIST: &str = "OperationService.List";
/// How long `Wait` waits where nothing is said, and at most.
const WAIT: Duration = Duration::from_secs(60);
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);
/// The longest word of an operator, in bytes.
const MOST_WORD: usize = 2_000;

#[tonic::async_trait]
impl OperationService for Api {
    type WatchStream = BoxStream<'static, Result<OperationServiceWatchResponse, Status>>;

    async fn get(&self, request: Request<OperationServiceGetRequest>) -> Result<Response<OperationServiceGetResponse>, Status> {
        let operation = self.agents.operations.get(&request.into_inner().id).await;
        answer(operation.map(|operation| OperationServiceGetResponse { operation: Some(operation) }))
    }

    async fn list(&self, request: Request<OperationServiceListRequest>) -> Result<Response<OperationServiceListResponse>, Status> {
        answer(self.operations_page(request.into_inner()).await)
    }

    async fn watch(&self, request: Request<OperationServiceWatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let caller = caller_of(&request)?;
        let message = request.into_inner();
        let id = (!message.id.is_empty()).then_some(message.id.as_str());
        let updates = self.agents.operations.watch(id, EventNumber(message.after_event)).await.map_err(status)?;
        let updates = updates.map(|update| update.map(told).map_err(status));
        Ok(Response::new(self.while_allowed(&caller, updates)))
    }

    async fn wait(&self, request: Request<WaitRequest>) -> Result<Response<WaitResponse>, Status> {
        let caller = caller_of(&request)?;
        let message = request.into_inner();
        let timeout = message.timeout.map(|timeout| duration_from_proto(&timeout, "timeout")).transpose().map_err(status)?;
        let timeout = timeout.unwrap_or(WAIT).min(LONGEST_WAIT);
        tokio::select! {
            why = self.no_longer_allowed(caller) => Err(status(why)),
            waited = self.agents.operations.wait(&message.id, timeout) => {
                answer(waited.map(|(operation, ended)| WaitResponse { operation: Some(operation), ended }))
            }
        }
    }

    async fn cancel(&self, request: Request<CancelRequest>) -> Result<Response<CancelResponse>, Status> {
        let caller = subject_of(&request)?;
        let message = request.into_inner();
        bounded(&message.reason, "reason").map_err(status)?;
        let operations = self.agents.operations.clone();
        let operation = self.detached("cancel", async move { operations.cancel(&message.id, &caller, &message.reason).await }).await?;
        Ok(Response::new(CancelResponse { operation: Some(operation) }))
    }

    async fn resolve(&self, request: Request<ResolveRequest>) -> Result<Response<ResolveResponse>, Status> {
        let caller = subject_of(&request)?;
        let message = request.into_inner();
        bounded(&message.word, "word").map_err(status)?;
        if message.word.trim().is_empty() {
            return Err(status(
                Fault::refused(ErrorKind::InvalidArgument, "word: missing; a resolve records what you know")
                    .hint("say how you know what became of it: `muster resolve OP --succeeded --word \"…\"`"),
            ));
        }
        let operations = self.agents.operations.clone();
        let resolved = async move { operations.resolve(&message.id, &caller, message.succeeded, &message.word).await };
        let operation = self.detached("resolve", resolved).await?;
        Ok(Response::new(ResolveResponse { operation: Some(operation) }))
    }

    async fn approve(&self, request: Request<ApproveRequest>) -> Result<Response<ApproveResponse>, Status> {
        let caller = subject_of(&request)?;
        let message = request.into_inner();
        let approval = approval(&message.words, message.accept_loss.as_ref()).map_err(status)?;
        let operations = self.agents.operations.clone();
        let approved = async move { operations.approve(&message.id, &caller, approval).await };
        let operation = self.detached("approve", approved).await?;
        Ok(Response::new(ApproveResponse { operation: Some(operation) }))
    }

    async fn reject(&self, request: Request<RejectRequest>) -> Result<Response<RejectResponse>, Status> {
        let caller = subject_of(&request)?;
        let message = request.into_inner();
        bounded(&message.reason, "reason").map_err(status)?;
        let operations = self.agents.operations.clone();
        let rejected = async move { operations.cancel(&message.id, &caller, &format!("not approved: {}", message.reason)).await };
        let operation = self.detached("reject", rejected).await?;
        Ok(Response::new(RejectResponse { operation: Some(operation) }))
    }

    async fn discard(&self, request: Request<DiscardRequest>) -> Result<Response<DiscardResponse>, Status> {
        let caller = subject_of(&request)?;
        let mut message = request.into_inner();
        let request_id = request_id(&std::mem::take(&mut message.request_id)).map_err(status)?;
        let digest = digest(&message);
        let operation = self.start(asked(caller, request_id, digest, None, What::Discard { restore: message.id })).await?;
        Ok(Response::new(DiscardResponse { operation: Some(operation) }))
    }

    async fn retry(&self, request: Request<RetryRequest>) -> Result<Response<RetryResponse>, Status> {
        let caller = subject_of(&request)?;
        let mut message = request.into_inner();
        let request_id = request_id(&std::mem::take(&mut message.request_id)).map_err(status)?;
        let digest = digest(&message);
        let again = self.agents.operations.again(&message.id, &caller, &message.consent).await;
        let (what, stall_limit, cause) = again.map_err(status)?;
        let asked = Asked { cause, ..asked(caller, request_id, digest, Some(stall_limit), what) };
        let operation = self.start(asked).await?;
        Ok(Response::new(RetryResponse { operation: Some(operation) }))
    }
}

impl Api {
    async fn operations_page(&self, message: OperationServiceListRequest) -> Result<OperationServiceListResponse, Fault> {
        let state = OperationState::try_from(message.state)
            .map_err(|_| Fault::refused(ErrorKind::InvalidArgument, "state: of a newer version").hint("upgrade the controller"))?;
        let before = page::decode(LIST, &message.page_token)?.map(|cursor| cursor.parse()).transpose();
        let before = before
            .map_err(|_| Fault::refused(ErrorKind::InvalidArgument, "page_token: it cannot be read").hint("ask for the first page"))?;
        let component = optional_name_from_proto(&message.component, "component")?;
        let filter = ListFilter { component, state, running: message.running, before };
        let size = page::size(message.page_size, 50, 500);
        let (operations, next) = self.agents.operations.list(filter, u32::try_from(size).unwrap_or(u32::MAX)).await?;
        let next_page_token = next.map(|next| page::encode(LIST, &next.to_string())).unwrap_or_default();
        Ok(OperationServiceListResponse { operations, next_page_token })
    }

    /// A stream that ends when the controller stops, as unavailable, so that its client goes on elsewhere; or when its caller's certificate
    /// is revoked or ends.
    pub(super) fn while_allowed<T: Send + 'static>(
        &self,
        caller: &Caller,
        stream: impl futures::Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> BoxStream<'static, Result<T, Status>> {
        let why = Arc::new(OnceLock::new());
        let (api, caller, told) = (self.clone(), caller.clone(), why.clone());
        let over = async move {
            // It is set once: the stream ends with it.
            drop(told.set(api.no_longer_allowed(caller).await));
        };
        let last = futures::stream::once(async move { why.get().cloned().map(|why| Err(status(why))) }).filter_map(std::future::ready);
        stream.take_until(over).chain(last).boxed()
    }

    /// Waits until a call of this caller has to end, and tells why.
    async fn no_longer_allowed(&self, caller: Caller) -> Fault {
        let certificate = &caller.certificate;
        let life = certificate.not_after.since(clock::now());
        let unauthenticated = |why: &str| Fault::refused(ErrorKind::Unauthenticated, format!("the certificate of {caller} {why}"));
        tokio::select! {
            () = self.stopping.cancelled() => Fault::refused(ErrorKind::Unavailable, "the controller is stopping").hint("ask again in a few seconds"),
            () = self.agents.revocations.until_revoked(certificate) => unauthenticated("is revoked").hint("ask an admin"),
            () = tokio::time::sleep(life) => unauthenticated("has ended").hint("call again with a newer one"),
        }
    }
}

fn told(update: WatchUpdate) -> OperationServiceWatchResponse {
    OperationServiceWatchResponse {
        update: Some(match update {
            WatchUpdate::Event(event) => Update::Event(*event),
            WatchUpdate::Progress(progress) => Update::Progress(progress),
        }),
    }
}

fn bounded(text: &str, field: &str) -> Result<(), Fault> {
    if text.len() <= MOST_WORD {
        return Ok(());
    }
    Err(Fault::refused(ErrorKind::InvalidArgument, format!("{field}: {} bytes; {MOST_WORD} is the bound", text.len()))
        .hint("say it shorter"))
}
