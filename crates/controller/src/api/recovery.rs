//! `RecoveryService`: backups and restores. Each call answers as soon as its operation is journaled.

use muster_common::fault::{ErrorKind, Fault};
use muster_service::trace::traceparent_of;
use muster_wire::convert::{name_from_proto, optional_name_from_proto};
use muster_wire::proto::v1::recovery_service_server::RecoveryService;
use muster_wire::proto::v1::restore_request::Target;
use muster_wire::proto::v1::{
    AdoptRequest, AdoptResponse, AdoptRouteRequest, AdoptRouteResponse, BackupRequest, BackupResponse, DumpScope, FailoverRequest,
    FailoverResponse, FailoverSiteRequest, FailoverSiteResponse, FenceRequest, FenceResponse, ManageRequest, ManageResponse, Operation,
    PointRouteRequest, PointRouteResponse, PreflightRequest, PreflightResponse, RejoinRequest, RejoinResponse, RestoreRequest,
    RestoreResponse, RunHookRequest, RunHookResponse, ShowRouteRequest, ShowRouteResponse, SwitchoverRequest, SwitchoverResponse,
    SwitchoverSiteRequest, SwitchoverSiteResponse, UnfenceRequest, UnfenceResponse, VerifyRequest, VerifyResponse,
};
use tonic::{Request, Response, Status};

use super::{Api, digest, request_id, some_duration, status, subject_of};
use crate::inventory::DeclaredInstance;
use crate::operation::asked::{Asked, AskedBackup, AskedHook, AskedRestore, AskedVerify, Place, Scope, What};

/// The longest label, in bytes.
const MOST_LABEL: usize = 200;
/// The most tablespaces that one request may place.
const MOST_TABLESPACES: usize = 1_000;

#[tonic::async_trait]
impl RecoveryService for Api {
    async fn backup(&self, request: Request<BackupRequest>) -> Result<Response<BackupResponse>, Status> {
        let caller = subject_of(&request)?;
        asked_failpoint()?;
        let mut message = request.into_inner();
        let asked = (|| {
            let request_id = request_id(&std::mem::take(&mut message.request_id))?;
            let digest = digest(&message);
            let stall_limit = some_duration(message.stall_limit, "stall_limit")?;
            Ok(asked(caller, request_id, digest, stall_limit, self.backup_of(message)?))
        })();
        let operation = self.start(asked.map_err(status)?).await?;
        Ok(Response::new(BackupResponse { operation: Some(operation) }))
    }

    async fn restore(&self, request: Request<RestoreRequest>) -> Result<Response<RestoreResponse>, Status> {
        let caller = subject_of(&request)?;
        asked_failpoint()?;
        let mut message = request.into_inner();
        let asked = (|| {
            let request_id = request_id(&std::mem::take(&mut message.request_id))?;
            let digest = digest(&message);
            let stall_limit = some_duration(message.stall_limit, "stall_limit")?;
            Ok(asked(caller, request_id, digest, stall_limit, self.restore_of(message)?))
        })();
        let operation = self.start(asked.map_err(status)?).await?;
        Ok(Response::new(RestoreResponse { operation: Some(operation) }))
    }

    async fn verify(&self, request: Request<VerifyRequest>) -> Result<Response<VerifyResponse>, Status> {
        let caller = subject_of(&request)?;
        asked_failpoint()?;
        let mut message = request.into_inner();
        let asked = (|| {
            let request_id = request_id(&std::mem::take(&mut message.request_id))?;
            let digest = digest(&message);
            let stall_limit = some_duration(message.stall_limit, "stall_limit")?;
            self.must_exist(&message.component, &message.instance)?;
            let what = What::Verify(AskedVerify {
                component: name_from_proto(&message.component, "component")?,
                instance: optional_name_from_proto(&message.instance, "instance")?,
                point: message.point,
            });
            Ok(asked(caller, request_id, digest, stall_limit, what))
        })();
        let operation = self.start(asked.map_err(status)?).await?;
        Ok(Response::new(VerifyResponse { operation: Some(operation) }))
    }

    async fn run_hook(&self, request: Request<RunHookRequest>) -> Result<Response<RunHookResponse>, Status> {
        let caller = subject_of(&request)?;
        asked_failpoint()?;
        let mut message = request.into_inner();
        let asked = (|| {
            let request_id = request_id(&std::mem::take(&mut message.request_id))?;
            let digest = digest(&message);
            Ok(asked(caller, request_id, digest, None, What::Hook(self.hook_of(&message)?)))
        })();
        let operation = self.start(asked.map_err(status)?).await?;
        Ok(Response::new(RunHookResponse { operation: Some(operation) }))
    }

    async fn manage(&self, request: Request<ManageRequest>) -> Result<Response<ManageResponse>, Status> {
        Ok(Response::new(ManageResponse { operation: Some(self.start_move(request).await?) }))
    }

    async fn switchover(&self, request: Request<SwitchoverRequest>) -> Result<Response<SwitchoverResponse>, Status> {
        Ok(Response::new(SwitchoverResponse { operation: Some(self.start_move(request).await?) }))
    }

    async fn failover(&self, request: Request<FailoverRequest>) -> Result<Response<FailoverResponse>, Status> {
        Ok(Response::new(FailoverResponse { operation: Some(self.start_move(request).await?) }))
    }

    async fn switchover_site(&self, request: Request<SwitchoverSiteRequest>) -> Result<Response<SwitchoverSiteResponse>, Status> {
        Ok(Response::new(SwitchoverSiteResponse { operation: Some(self.start_site(request).await?) }))
    }

    async fn failover_site(&self, request: Request<FailoverSiteRequest>) -> Result<Response<FailoverSiteResponse>, Status> {
        Ok(Response::new(FailoverSiteResponse { operation: Some(self.start_site(request).await?) }))
    }

    async fn fence(&self, request: Request<FenceRequest>) -> Result<Response<FenceResponse>, Status> {
        Ok(Response::new(FenceResponse { operation: Some(self.start_move(request).await?) }))
    }

    async fn unfence(&self, request: Request<UnfenceRequest>) -> Result<Response<UnfenceResponse>, Status> {
        Ok(Response::new(UnfenceResponse { operation: Some(self.start_move(request).await?) }))
    }

    async fn rejoin(&self, request: Request<RejoinRequest>) -> Result<Response<RejoinResponse>, Status> {
        Ok(Response::new(RejoinResponse { operation: Some(self.start_move(request).await?) }))
    }

    async fn show_route(&self, request: Request<ShowRouteRequest>) -> Result<Response<ShowRouteResponse>, Status> {
        Api::show_route(self, request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn adopt_route(&self, request: Request<AdoptRouteRequest>) -> Result<Response<AdoptRouteResponse>, Status> {
        let caller = subject_of(&request)?;
        let (api, message) = (self.clone(), request.into_inner());
        self.detached("adopt route", async move { Api::adopt_route(&api, message, &caller).await }).await.map(Response::new)
    }

    async fn point_route(&self, request: Request<PointRouteRequest>) -> Result<Response<PointRouteResponse>, Status> {
        let caller = subject_of(&request)?;
        let (api, message) = (self.clone(), request.into_inner());
        self.detached("point route", async move { Api::point_route(&api, message, &caller).await }).await.map(Response::new)
    }

    async fn adopt(&self, request: Request<AdoptRequest>) -> Result<Response<AdoptResponse>, Status> {
        let caller = subject_of(&request)?;
        let (api, message) = (self.clone(), request.into_inner());
        self.detached("adopt", async move { api.believe(message, &caller).await }).await.map(Response::new)
    }

    async fn preflight(&self, request: Request<PreflightRequest>) -> Result<Response<PreflightResponse>, Status> {
        self.look_before(request).await
    }
}

/// Stop 1 of the spine: the call is allowed and nothing is journaled yet.
pub(super) fn asked_failpoint() -> Result<(), Status> {
    muster_failpoint::hit("controller.stop1.asked")
        .map_err(|injected| status(Fault::refused(ErrorKind::Unavailable, injected.to_string()).hint("a test asked for it")))
}

/// A request as operations take it.
pub(super) fn asked(
    caller: String,
    request_id: Option<String>,
    digest: String,
    stall_limit: Option<std::time::Duration>,
    what: What,
) -> Asked {
    let traceparent = traceparent_of(&tracing::Span::current()).unwrap_or_default();
    Asked { cause: caller.clone(), caller, request_id, digest, parent: None, stall_limit, traceparent, run: None, what }
}

impl Api {
    /// Starts an operation, whatever becomes of the call.
    pub(super) async fn start(&self, asked: Asked) -> Result<Operation, Status> {
        let operations = self.agents.operations.clone();
        self.detached("accept an operation", async move { operations.start(asked).await }).await
    }

    /// Refuses names that do not exist with the nearest that do.
    pub(super) fn must_exist(&self, component: &str, instance: &str) -> Result<(), Fault> {
        let declared = self.agents.assigner.declared();
        declared.component(component)?;
        if !instance.is_empty() {
            declared.instance(component, instance)?;
        }
        Ok(())
    }

    fn backup_of(&self, message: BackupRequest) -> Result<What, Fault> {
        self.must_exist(&message.component, &message.instance)?;
        if message.label.len() > MOST_LABEL || message.label.chars().any(char::is_control) {
            return Err(Fault::refused(
                ErrorKind::InvalidArgument,
                format!("label: expected at most {MOST_LABEL} bytes without control characters"),
            )
            .hint("give a shorter label"));
        }
        if message.compression_level > 19 {
            return Err(Fault::refused(
                ErrorKind::InvalidArgument,
                format!("compression_level: {} is none; expected 1 to 19", message.compression_level),
            )
            .hint("leave it out for 1"));
        }
        Ok(What::Backup(AskedBackup {
            component: name_from_proto(&message.component, "component")?,
            instance: optional_name_from_proto(&message.instance, "instance")?,
            label: message.label,
            compression_level: message.compression_level,
            slow_checkpoint: message.slow_checkpoint,
            dump: message.dump.map(scope_of).transpose()?,
        }))
    }

    /// The one instance that is meant.
    fn hook_of(&self, message: &RunHookRequest) -> Result<AskedHook, Fault> {
        self.must_exist_where_given(&message.component, &message.instance)?;
        let agent = optional_name_from_proto(&message.agent, "agent")?;
        let declared = self.agents.assigner.declared();
        let meant = |instance: &DeclaredInstance<'_>| {
            agent.as_ref().is_none_or(|agent| instance.agent == *agent)
                && (message.component.is_empty() || instance.name.component.as_str() == message.component)
                && (message.instance.is_empty() || instance.name.instance.as_str() == message.instance)
        };
        let found: Vec<_> = declared.instances().filter(meant).map(|instance| instance.name).collect();
        let hook = name_from_proto(&message.hook, "hook")?;
        match found.as_slice() {
            [name] => Ok(AskedHook { component: name.component.clone(), instance: name.instance.clone(), hook }),
            [] => {
                let told = format!("run hook {hook}: no declared instance is kept by agent {:?}", message.agent);
                Err(Fault::refused(ErrorKind::NotFound, told)
                    .hint("a hook is run for an instance that its agent keeps: `muster agents` and `muster get components` list them"))
            }
            many => {
                let names: Vec<String> = many.iter().take(10).map(ToString::to_string).collect();
                Err(Fault::refused(ErrorKind::InvalidArgument, format!("run hook {hook}: more than one instance could be meant"))
                    .evidence(names.join(", "))
                    .hint("name one: --component NAME, and --instance NAME where one agent keeps several of it"))
            }
        }
    }

    fn must_exist_where_given(&self, component: &str, instance: &str) -> Result<(), Fault> {
        match component.is_empty() {
            true => Ok(()),
            false => self.must_exist(component, instance),
        }
    }

    fn restore_of(&self, message: RestoreRequest) -> Result<What, Fault> {
        self.must_exist(&message.component, "")?;
        if message.instance.is_empty() {
            return Err(Fault::refused(ErrorKind::InvalidArgument, "instance: missing; a restore names whose agent does it")
                .hint(format!("`muster describe component {}` shows the instances", message.component)));
        }
        self.must_exist(&message.component, &message.instance)?;
        if message.tablespaces.len() > MOST_TABLESPACES {
            return Err(Fault::refused(
                ErrorKind::ResourceExhausted,
                format!("tablespaces: {} of them; {MOST_TABLESPACES} is the bound", message.tablespaces.len()),
            )
            .hint("restore beside, and move tablespaces then"));
        }
        for (oid, directory) in &message.tablespaces {
            absolute(directory, &format!("tablespaces[{oid}]"))?;
        }
        let place = match message.target {
            None => {
                return Err(Fault::refused(ErrorKind::InvalidArgument, "target: missing; a restore says where to")
                    .hint("give one of empty, in_place, beside"));
            }
            Some(Target::Empty(())) => Place::Empty,
            Some(Target::InPlace(())) => Place::InPlace,
            Some(Target::Beside(beside)) => {
                absolute(&beside.directory, "beside.directory")?;
                let port = u16::try_from(beside.port).map_err(|_| {
                    Fault::refused(ErrorKind::InvalidArgument, format!("beside.port: {} is no TCP port", beside.port))
                        .hint("give 1 to 65535, or 0")
                })?;
                Place::Beside { directory: beside.directory, port }
            }
            Some(Target::Database(database)) => {
                if database.name.is_empty() || message.point.is_empty() {
                    let told = "database: name and point are needed; the newest point is never a logical one";
                    return Err(
                        Fault::refused(ErrorKind::InvalidArgument, told).hint(format!("`muster points {}` lists them", message.component))
                    );
                }
                Place::Database { name: database.name, from: database.from }
            }
        };
        Ok(What::Restore(AskedRestore {
            component: name_from_proto(&message.component, "component")?,
            instance: name_from_proto(&message.instance, "instance")?,
            point: message.point,
            place,
            dry_run: message.dry_run,
            consent: message.consent,
            tablespaces: message.tablespaces.into_iter().collect(),
            keep_old: some_duration(message.keep_old, "keep_old")?,
            no_start: message.no_start,
        }))
    }
}

/// The most names of one kind in a scope, and the longest of them in bytes.
const MOST_NAMES: usize = 1_000;
const MOST_NAME: usize = 500;

fn scope_of(scope: DumpScope) -> Result<Scope, Fault> {
    let refused = |what: String, hint: &str| Err(Fault::refused(ErrorKind::InvalidArgument, what).hint(hint));
    for (field, names) in [("databases", &scope.databases), ("schemas", &scope.schemas), ("tables", &scope.tables)] {
        let bad = names.iter().any(|name| name.is_empty() || name.len() > MOST_NAME || name.chars().any(char::is_control));
        if bad || names.len() > MOST_NAMES {
            return refused(format!("dump.{field}: expected at most {MOST_NAMES} names of 1 to {MOST_NAME} bytes"), "correct the names");
        }
    }
    if scope.databases.len() != 1 && !(scope.schemas.is_empty() && scope.tables.is_empty()) {
        return refused("dump: schemas and tables are of one database, which has to be named".into(), "name one database");
    }
    Ok(Scope { databases: scope.databases, schemas: scope.schemas, tables: scope.tables })
}

fn absolute(path: &str, field: &str) -> Result<(), Fault> {
    if path.starts_with('/') && path.len() <= 4_096 && !path.split('/').any(|part| part == "..") && !path.contains('\0') {
        return Ok(());
    }
    let shown: String = path.chars().take(120).collect();
    Err(Fault::refused(ErrorKind::InvalidArgument, format!("{field}: {shown:?} is no absolute path without .. parts"))
        .hint("give a path from the root"))
}
