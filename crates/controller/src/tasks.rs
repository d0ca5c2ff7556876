//! What the controller does by itself while it serves: assignments made anew, its certificate renewed, a new CA and admins of `admin-cert` taken in, its
//! health looked at, transitions counted.
//!
//! What always holds: each is a loop in the gate that ends when it is asked to; a failure is told and tried again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use futures::StreamExt;
use muster_common::counter::EventNumber;
use muster_common::name::Name;
use muster_common::time::Timestamp;
use muster_service::clock;
use muster_wire::proto::v1::OperationEvent;
use tokio_util::sync::CancellationToken;

use crate::admin_file::AdminFile;
use crate::api::Api;
use crate::audit::chain::{Phase, What};
use crate::audit::watcher::{self, Looked};
use crate::bounds;
use crate::config::Config;
use crate::failover::{catching_up, questions, readiness};
use crate::findings::look;
use crate::operation::watch::WatchUpdate;
use crate::own_backup::keeper;
use crate::schedule::driver;
use crate::store::error::StoreError;
use crate::store::{Store, agents, audit, certificates, meta, operators};

/// Why the controller is not healthy. `None`: it is.
pub type Sickness = Arc<ArcSwap<Option<String>>>;

/// How often the certificate's age is looked at.
const CERTIFICATE: Duration = Duration::from_secs(60);
/// How often files of `admin-cert` are looked for.
const ADMINS: Duration = Duration::from_secs(2);
/// How often it is written down when agents were last heard, and how many in one transaction.
const HEARD: Duration = Duration::from_secs(30);
/// See [`HEARD`].
const AT_ONCE: usize = 500;
/// How often the store is asked whether it can be read.
const HEALTH: Duration = Duration::from_secs(5);
/// Assignments are made anew so often even where nothing told to, so that what failed is made good.
const ASSIGNMENTS: Duration = Duration::from_secs(30);
/// How long changes are gathered before assignments are made anew: a thousand components that begin their reigns make them anew once.
const GATHER: Duration = Duration::from_millis(200);
/// How long to wait after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// All tasks.
pub struct Background {
    /// What they share with the handlers.
    pub api: Api,
    /// Where the health is told.
    pub sickness: Sickness,
}

impl Background {
    /// Starts them.
    pub fn spawn(self) {
        let gate = self.api.agents.gate.clone();
        let span = tracing::Span::none;
        let (api, sickness) = (self.api, self.sickness);
        gate.spawn_vital("assignments", span(), assignments(api.clone()));
        gate.spawn_vital("certificate", span(), certificate(api.clone()));
        gate.spawn_vital("authorities", span(), authorities(api.clone()));
        gate.spawn_vital("admins", span(), admins(api.clone()));
        gate.spawn_vital("heard", span(), heard(api.clone()));
        gate.spawn_vital("health", span(), health(api.clone(), sickness));
        gate.spawn_vital("resends", span(), resends(api.clone()));
        gate.spawn_vital("schedules", span(), driver::run(api.agents.clone()));
        gate.spawn_vital("catching up", span(), catching_up::run(api.agents.clone()));
        gate.spawn_vital("readiness", span(), readiness::run(api.clone()));
        gate.spawn_vital("questions", span(), questions::run(api.agents.clone()));
        gate.spawn_vital("own backups", span(), own_backups(api.clone()));
        gate.spawn_vital("bounds", span(), bounds::run(api.clone()));
        gate.spawn_vital("audit", span(), audit_log(api.clone()));
        gate.spawn_vital("store", span(), store(api.clone()));
        gate.spawn_vital("findings", tracing::info_span!("findings"), look::serve(api.clone()));
        gate.spawn_vital("transitions", span(), transitions(api));
    }
}

/// Waits; `false`: it is time to end.
async fn pause(token: &CancellationToken, time: Duration) -> bool {
    tokio::select! {
        () = token.cancelled() => false,
        () = tokio::time::sleep(time) => true,
    }
}

async fn assignments(api: Api) {
    let token = api.agents.gate.token().clone();
    let mut changed = api.agents.operations.shards_changed();
    loop {
        tokio::select! {
            () = token.cancelled() => return,
            told = changed.changed() => if !pause(&token, if told.is_ok() { GATHER } else { ASSIGNMENTS }).await { return },
            () = tokio::time::sleep(ASSIGNMENTS) => {}
        }
        changed.mark_unchanged();
        while let Err(error) = api.agents.assigner.refresh().await {
            tracing::warn!(%error, "make assignments anew; it is tried again");
            if !pause(&token, AFTER_FAILURE).await {
                return;
            }
        }
    }
}

async fn certificate(api: Api) {
    let token = api.agents.gate.token().clone();
    while pause(&token, CERTIFICATE).await {
        if let Err(error) = api.agents.authorities.reload(clock::now()) {
            tracing::error!(error = format!("{error:#}"), "renew the controller's certificate; the old one stays");
        }
    }
}

/// Takes in a new CA that was left in the CA's folder.
async fn authorities(api: Api) {
    let token = api.agents.gate.token().clone();
    while pause(&token, ADMINS).await {
        match api.agents.authorities.look(clock::now()).await {
            Ok(false) => {}
            Ok(true) => {
                tracing::warn!("a rotation of the CA was begun on this machine");
                if let Err(error) = record_rotation(&api).await {
                    tracing::error!(%error, "record that a rotation of the CA was begun on this machine");
                }
                api.back_up_soon();
            }
            Err(error) => tracing::warn!(error = format!("{error:#}"), "read the new CA; it is tried again"),
        }
    }
}

async fn record_rotation(api: &Api) -> Result<(), StoreError> {
    let told = What {
        at: clock::now(),
        phase: Phase::Machine,
        caller: "machine".into(),
        rpc: "muster-controller ca rotate".into(),
        resource: "ca".into(),
        outcome: "OK".into(),
        message: format!("CA {}", api.agents.authorities.current().signs().fingerprint()),
        ..What::default()
    };
    let mut write = api.agents.store.write().await?;
    audit::append(write.connection(), told).await?;
    write.commit().await
}

async fn admins(api: Api) {
    let token = api.agents.gate.token().clone();
    while pause(&token, ADMINS).await {
        match import_admins(&api.config, &api.agents.store).await {
            Ok(0) => {}
            Ok(_) => {
                if let Err(error) = api.agents.roles.reload(&api.agents.store, &api.agents.revocations).await {
                    tracing::warn!(%error, "read roles again");
                }
            }
            Err(error) => tracing::warn!(error = format!("{error:#}"), "take in an admin of admin-cert; it is tried again"),
        }
    }
}

/// Takes in what `admin-cert` left in the state folder: whoever can write there has the CA's key anyway. Gives how many.
///
/// # Errors
/// Where a file or the store cannot be read or written.
pub async fn import_admins(config: &Config, store: &Store) -> Result<usize> {
    let files = AdminFile::waiting(&config.state_directory)?;
    for path in &files {
        import_admin(path, store).await.with_context(|| format!("take in {}", path.display()))?;
    }
    Ok(files.len())
}

async fn import_admin(path: &Path, store: &Store) -> Result<()> {
    let file = AdminFile::read(path)?;
    let now = clock::now();
    let mut write = store.write().await?;
    let connection = write.connection();
    operators::issued(connection, &file.name, file.role, &file.serial, file.until).await?;
    let signed = certificates::Signed { serial: &file.serial, key: &file.key_fingerprint, authority: &file.authority, until: file.until };
    certificates::issued(connection, &format!("operator/{}", file.name), &signed, now).await?;
    let told = What {
        at: now,
        phase: Phase::Machine,
        caller: "machine".into(),
        rpc: "muster-controller admin-cert".into(),
        resource: format!("operator/{}", file.name),
        outcome: "OK".into(),
        message: format!("{} certificate {}", file.role, file.serial),
        ..What::default()
    };
    audit::append(connection, told).await?;
    write.commit().await?;
    std::fs::remove_file(path).context("remove the file")?;
    tracing::warn!(operator = %file.name, role = %file.role, serial = file.serial, "an operator's certificate was made on this machine");
    Ok(())
}

/// Keeps when each agent was last heard, all in few transactions: the disk is not woken by each agent for itself.
async fn heard(api: Api) {
    let token = api.agents.gate.token().clone();
    let mut since = clock::now();
    while pause(&token, HEARD).await {
        let now = clock::now();
        let heard = api.agents.roster.take_heard(since);
        since = now;
        for some in heard.chunks(AT_ONCE) {
            if let Err(error) = keep_heard(&api.agents.store, some).await {
                tracing::warn!(fault = %error.fault(), "write when agents were last heard");
            }
        }
    }
}

async fn keep_heard(store: &Store, heard: &[(Name, Timestamp, u64)]) -> Result<(), StoreError> {
    let mut write = store.write_together().await?;
    for (agent, at, refused) in heard {
        agents::heard(write.connection(), agent, *at, *refused).await?;
    }
    write.commit().await
}

async fn health(api: Api, sickness: Sickness) {
    let token = api.agents.gate.token().clone();
    while pause(&token, HEALTH).await {
        let looked = async {
            let mut read = api.agents.store.read().await?;
            meta::last_event(&mut read).await
        };
        let now = match looked.await {
            Ok(_) => None,
            Err(error) => Some(error.fault().to_string()),
        };
        if token.is_cancelled() {
            return;
        }
        if let Some(why) = &now
            && sickness.load().as_ref() != &now
        {
            tracing::error!(why, "the store cannot be read");
        }
        sickness.store(Arc::new(now));
    }
}

/// Backs the controller up each night.
async fn own_backups(api: Api) {
    let token = api.agents.gate.token().clone();
    loop {
        if api.keeper.is_due(clock::now()) {
            let taken = async { api.keeper.take(api.agents.store.read().await?).await };
            match taken.await {
                Ok(taken) => tracing::info!(name = taken.name, bytes = taken.bytes, "the controller was backed up"),
                Err(error) => tracing::error!(error = format!("{error:#}"), "back the controller up; it is tried again in 15 minutes"),
            }
        }
        if !pause(&token, keeper::LOOK).await {
            return;
        }
    }
}

/// Remembers the audit log's head and walks its chain.
async fn audit_log(api: Api) {
    let token = api.agents.gate.token().clone();
    let mut looked = Looked::default();
    loop {
        if let Err(error) = api.audit.look(&api.agents.store, &mut looked).await {
            tracing::warn!(error = format!("{error:#}"), "look after the audit log; it is tried again");
        }
        if !pause(&token, watcher::LOOK).await {
            return;
        }
    }
}

/// Ends when this process may write no more, and the process with it: started again, it goes on from what the store holds.
async fn store(api: Api) {
    let token = api.agents.gate.token().clone();
    tokio::select! {
        () = token.cancelled() => {}
        why = api.agents.store.ended() => tracing::error!(why, "the controller ends: it must read its store anew"),
    }
}

/// Counts commands that are sent again.
async fn resends(api: Api) {
    let token = api.agents.gate.token().clone();
    let mut resends = api.agents.operations.resends();
    let mut counted = 0;
    loop {
        let now = *resends.borrow_and_update();
        api.agents.metrics.commands_resent.add(now.saturating_sub(counted), &[]);
        counted = now;
        tokio::select! {
            () = token.cancelled() => return,
            changed = resends.changed() => if changed.is_err() { return },
        }
    }
}

/// Counts transitions as they are journaled, from now on.
async fn transitions(api: Api) {
    let token = api.agents.gate.token().clone();
    loop {
        let counted = async {
            let mut read = api.agents.store.read().await?;
            let last: EventNumber = meta::last_event(&mut read).await?;
            drop(read);
            let mut updates = api.agents.operations.watch(None, last).await?;
            while let Some(update) = updates.next().await {
                if let WatchUpdate::Event(event) = update? {
                    count(&api, &event);
                }
            }
            Ok::<(), muster_common::fault::Fault>(())
        };
        tokio::select! {
            () = token.cancelled() => return,
            ended = counted => if let Err(fault) = ended { tracing::debug!(%fault, "transitions are counted from now on again") },
        }
        if !pause(&token, AFTER_FAILURE).await {
            return;
        }
    }
}

fn count(api: &Api, event: &OperationEvent) {
    if let Some(operation) = &event.operation {
        api.agents.metrics.transition(operation.kind(), operation.state());
    }
}
