//! `RepositoryService`: checks, prunes, holds, and which recovery points there are.

use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::PointId;
use muster_common::time::Timestamp;
use muster_wire::convert::{duration_from_proto, name_from_proto, optional_name_from_proto, required, timestamp_from_proto};
use muster_wire::page;
use muster_wire::proto::v1::repository_service_server::RepositoryService;
use muster_wire::proto::v1::{
    CheckRequest, CheckResponse, HoldRequest, HoldResponse, ListPointsRequest, ListPointsResponse, PruneRequest, PruneResponse,
    RecoveryPoint, ReleaseRequest, ReleaseResponse,
};
use tonic::{Request, Response, Status};

use super::recovery::asked;
use super::{Api, answer, digest, request_id, status, subject_of};
use crate::operation::asked::{AskedCheck, AskedHold, AskedPrune, What};
use crate::store::points;

const LIST: &str = "RepositoryService.ListPoints";

#[tonic::async_trait]
impl RepositoryService for Api {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let caller = subject_of(&request)?;
        let mut message = request.into_inner();
        let asked = (|| {
            let request_id = request_id(&std::mem::take(&mut message.request_id))?;
            let digest = digest(&message);
            self.must_exist(&message.component, &message.instance)?;
            if message.read_data_of > 0 && message.read_data_part >= message.read_data_of
                || message.read_data_of == 0 && message.read_data_part > 0
            {
                let told = format!("read_data: part {} of {} is none", message.read_data_part, message.read_data_of);
                return Err(Fault::refused(ErrorKind::InvalidArgument, told).hint("parts count from 0: 0 of 1 is all, 0 of 0 none"));
            }
            let what = What::Check(AskedCheck {
                component: name_from_proto(&message.component, "component")?,
                instance: optional_name_from_proto(&message.instance, "instance")?,
                read_data_part: message.read_data_part,
                read_data_of: message.read_data_of,
            });
            Ok(asked(caller, request_id, digest, None, what))
        })();
        let operation = self.start(asked.map_err(status)?).await?;
        Ok(Response::new(CheckResponse { operation: Some(operation) }))
    }

    async fn prune(&self, request: Request<PruneRequest>) -> Result<Response<PruneResponse>, Status> {
        let caller = subject_of(&request)?;
        let mut message = request.into_inner();
        let asked = (|| {
            let request_id = request_id(&std::mem::take(&mut message.request_id))?;
            let digest = digest(&message);
            self.must_exist(&message.component, &message.instance)?;
            let what = What::Prune(AskedPrune {
                component: name_from_proto(&message.component, "component")?,
                instance: optional_name_from_proto(&message.instance, "instance")?,
                dry_run: message.dry_run,
            });
            Ok(asked(caller, request_id, digest, None, what))
        })();
        let operation = self.start(asked.map_err(status)?).await?;
        Ok(Response::new(PruneResponse { operation: Some(operation) }))
    }

    async fn hold(&self, request: Request<HoldRequest>) -> Result<Response<HoldResponse>, Status> {
        let caller = subject_of(&request)?;
        let mut message = request.into_inner();
        let asked = (|| {
            let request_id = request_id(&std::mem::take(&mut message.request_id))?;
            let digest = digest(&message);
            self.must_exist(&message.component, "")?;
            let lasts = required(message.lasts.as_ref(), "lasts")?;
            let what = What::Hold(AskedHold {
                component: name_from_proto(&message.component, "component")?,
                point: message.point,
                lasts_seconds: Some(duration_from_proto(lasts, "lasts")?.as_secs()),
                reason: message.reason,
                holder: caller.clone(),
            });
            Ok(asked(caller, request_id, digest, None, what))
        })();
        let operation = self.start(asked.map_err(status)?).await?;
        Ok(Response::new(HoldResponse { operation: Some(operation) }))
    }

    async fn release(&self, request: Request<ReleaseRequest>) -> Result<Response<ReleaseResponse>, Status> {
        let caller = subject_of(&request)?;
        let mut message = request.into_inner();
        let asked = (|| {
            let request_id = request_id(&std::mem::take(&mut message.request_id))?;
            let digest = digest(&message);
            self.must_exist(&message.component, "")?;
            if message.point.is_empty() {
                return Err(Fault::refused(ErrorKind::InvalidArgument, "point: is missing").hint("name the point that is to be let go"));
            }
            let what = What::Hold(AskedHold {
                component: name_from_proto(&message.component, "component")?,
                point: message.point,
                lasts_seconds: None,
                reason: String::new(),
                holder: caller.clone(),
            });
            Ok(asked(caller, request_id, digest, None, what))
        })();
        let operation = self.start(asked.map_err(status)?).await?;
        Ok(Response::new(ReleaseResponse { operation: Some(operation) }))
    }

    async fn list_points(&self, request: Request<ListPointsRequest>) -> Result<Response<ListPointsResponse>, Status> {
        answer(self.points(request.into_inner()).await)
    }
}

impl Api {
    async fn points(&self, message: ListPointsRequest) -> Result<ListPointsResponse, Fault> {
        self.must_exist(&message.component, "")?;
        let component = name_from_proto(&message.component, "component")?;
        let size = page::size(message.page_size, 50, 500);
        let before = page::decode(LIST, &message.page_token)?.map(|cursor| place(&cursor)).transpose()?;
        let mut read = self.agents.store.read().await?;
        let limit = u32::try_from(size.saturating_add(1)).unwrap_or(u32::MAX);
        let mut rows = points::list(&mut read, &component, before, limit).await?;
        let more = rows.len() > size;
        rows.truncate(size);
        let next_page_token = match rows.last() {
            Some(last) if more => page::encode(LIST, &cursor(last)),
            Some(_) | None => String::new(),
        };
        Ok(ListPointsResponse { points: rows, next_page_token })
    }
}

fn cursor(point: &RecoveryPoint) -> String {
    let finished = point.finished_at.as_ref().and_then(|at| timestamp_from_proto(at, "finished_at").ok()).unwrap_or_default();
    format!("{}/{}", finished.0, point.id)
}

fn place(cursor: &str) -> Result<(Timestamp, PointId), Fault> {
    let parsed = || {
        let (finished, id) = cursor.split_once('/')?;
        Some((Timestamp(finished.parse().ok()?), id.parse().ok()?))
    };
    parsed().ok_or_else(|| Fault::refused(ErrorKind::InvalidArgument, "page_token: it cannot be read").hint("ask for the first page again"))
}
