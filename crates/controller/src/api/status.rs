//! `StatusService`: the one page, now or whenever it changed, and who the caller is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::BoxStream;
use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::Name;
use muster_wire::convert::{duration_to_proto, timestamp_to_proto};
use muster_wire::proto::agent::v1::{LookClosely, SessionResponse, session_response::Message};
use muster_wire::proto::v1::status_service_server::StatusService;
use muster_wire::proto::v1::{
    DiagnoseRequest, DiagnoseResponse, ListFindingsRequest, ListFindingsResponse, ListHistoryRequest, ListHistoryResponse, StatusPage,
    StatusServiceGetRequest, StatusServiceGetResponse, StatusServiceWatchRequest, StatusServiceWatchResponse, WatchFindingsRequest,
    WatchFindingsResponse, WhoAmIRequest, WhoAmIResponse,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response, Status};

use super::status_page::without_ages;
use super::{Api, answer, caller_of, status, subject};

/// How often a watched page is made anew.
const EACH: Duration = Duration::from_secs(1);
/// A page that has not changed is sent again after so long, with its ages.
const AT_LEAST_EACH: Duration = Duration::from_secs(10);
/// How long agents look closely after each word of ours, and how often it is given while somebody watches.
const LOOK_FOR: Duration = Duration::from_secs(15);
const LOOK_EACH: Duration = Duration::from_secs(5);
/// The most watchers of the page at one time.
const MOST_WATCHERS: usize = 64;

/// The service: the handlers' context, and places for watchers.
#[derive(Clone, Debug)]
pub struct StatusPages {
    api: Api,
    places: Arc<Semaphore>,
}

impl StatusPages {
    /// The service of this context.
    #[must_use]
    pub fn new(api: Api) -> Self {
        Self { api, places: Arc::new(Semaphore::new(MOST_WATCHERS)) }
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, Status> {
        self.places.clone().try_acquire_owned().map_err(|_| {
            let full = format!("{MOST_WATCHERS} watch the page or the findings already");
            status(Fault::refused(ErrorKind::ResourceExhausted, full).hint("ask now and then instead"))
        })
    }
}

#[tonic::async_trait]
impl StatusService for StatusPages {
    type WatchStream = BoxStream<'static, Result<StatusServiceWatchResponse, Status>>;

    async fn get(&self, request: Request<StatusServiceGetRequest>) -> Result<Response<StatusServiceGetResponse>, Status> {
        let page = self.api.page(&request.into_inner().component).await;
        answer(page.map(|page| StatusServiceGetResponse { page: Some(page) }))
    }

    async fn watch(&self, request: Request<StatusServiceWatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let caller = caller_of(&request)?;
        let component = request.into_inner().component;
        let place = self.place()?;
        // What does not exist is told before the stream begins.
        let first = self.api.page(&component).await.map_err(status)?;
        let watcher = Watcher { api: self.api.clone(), component, first: Some(first), sent: None, looked: None, _place: place };
        let pages = futures::stream::unfold(watcher, |mut watcher| async move {
            let page = watcher.next().await.map_err(status);
            Some((page.map(|page| StatusServiceWatchResponse { page: Some(page) }), watcher))
        });
        Ok(Response::new(self.api.while_allowed(&caller, pages)))
    }

    type WatchFindingsStream = BoxStream<'static, Result<WatchFindingsResponse, Status>>;

    async fn list_findings(&self, request: Request<ListFindingsRequest>) -> Result<Response<ListFindingsResponse>, Status> {
        answer(self.api.findings_list(&request.into_inner()))
    }

    async fn watch_findings(&self, request: Request<WatchFindingsRequest>) -> Result<Response<Self::WatchFindingsStream>, Status> {
        let caller = caller_of(&request)?;
        let place = self.place()?;
        let events = self.api.findings_watch(request.into_inner()).await.map_err(status)?;
        let events = events.inspect(move |_| {
            // It holds its place for as long as it lives.
            let _place = &place;
        });
        Ok(Response::new(self.api.while_allowed(&caller, events)))
    }

    async fn diagnose(&self, _: Request<DiagnoseRequest>) -> Result<Response<DiagnoseResponse>, Status> {
        answer(self.api.diagnose())
    }

    async fn list_history(&self, request: Request<ListHistoryRequest>) -> Result<Response<ListHistoryResponse>, Status> {
        answer(self.api.history_page(request.into_inner()).await)
    }

    async fn who_am_i(&self, request: Request<WhoAmIRequest>) -> Result<Response<WhoAmIResponse>, Status> {
        let caller = caller_of(&request)?;
        Ok(Response::new(WhoAmIResponse {
            identity: subject(&caller.identity),
            role: caller.role.map(|role| role.to_string()).unwrap_or_default(),
            certificate_until: Some(timestamp_to_proto(caller.certificate.not_after)),
        }))
    }
}

/// One who watches. It is polled by its stream: nobody who does not read costs work.
struct Watcher {
    api: Api,
    component: String,
    first: Option<StatusPage>,
    sent: Option<(StatusPage, Instant)>,
    looked: Option<Instant>,
    _place: OwnedSemaphorePermit,
}

impl Watcher {
    async fn next(&mut self) -> Result<StatusPage, Fault> {
        loop {
            self.look_closely();
            let page = match self.first.take() {
                Some(page) => page,
                None => {
                    tokio::time::sleep(EACH).await;
                    self.api.page(&self.component).await?
                }
            };
            let bare = without_ages(&page);
            let news = self.sent.as_ref().is_none_or(|(sent, at)| *sent != bare || at.elapsed() >= AT_LEAST_EACH);
            if news {
                self.sent = Some((bare, Instant::now()));
                return Ok(page);
            }
        }
    }

    /// Asks the agents of what is watched to look at everything each second for a while.
    fn look_closely(&mut self) {
        if self.looked.is_some_and(|at| at.elapsed() < LOOK_EACH) {
            return;
        }
        self.looked = Some(Instant::now());
        let declared = self.api.agents.assigner.declared();
        let of_it = declared.instances().filter(|i| self.component.is_empty() || i.name.component.as_str() == self.component);
        let agents: std::collections::BTreeSet<Name> = of_it.map(|instance| instance.agent).collect();
        for agent in agents {
            let look = LookClosely { duration: Some(duration_to_proto(LOOK_FOR)) };
            self.api.agents.courier.send(&agent, SessionResponse { message: Some(Message::LookClosely(look)) });
        }
    }
}
