//! What of `RecoveryService` moves a site as a whole: requests are read here.

use muster_common::fault::Fault;
use muster_failover::proof::Statement;
use muster_wire::convert::{name_from_proto, optional_name_from_proto};
use muster_wire::proto::v1::{FailoverSiteRequest, MachineStatement, Operation, SiteFailure, SwitchoverSiteRequest};
use tonic::{Request, Status};

use super::moves::approval;
use super::recovery::{asked, asked_failpoint};
use super::{Api, digest, request_id, some_duration, status, subject_of};
use crate::operation::asked::{AskedSite, What};
use crate::operation::sites::task::{How, OnFailure};

/// A request that moves a site.
pub(super) trait Wanted: prost::Message {
    /// Takes the request id out: the digest is of the rest.
    fn take_id(&mut self) -> String;
    /// What is wanted.
    ///
    /// # Errors
    /// Where a field makes no sense.
    fn read(&self) -> Result<AskedSite, Fault>;
}

impl Api {
    /// Starts an operation that moves a site.
    pub(super) async fn start_site<T: Wanted>(&self, request: Request<T>) -> Result<Operation, Status> {
        let caller = subject_of(&request)?;
        asked_failpoint()?;
        let mut message = request.into_inner();
        let read = (|| {
            let id = request_id(&message.take_id())?;
            Ok(asked(caller, id, digest(&message), None, What::Site(message.read()?)))
        })();
        self.start(read.map_err(status)?).await
    }
}

fn on_failure(wanted: SiteFailure, usually: OnFailure) -> OnFailure {
    match wanted {
        SiteFailure::Unspecified => usually,
        SiteFailure::Stop => OnFailure::Stop,
        SiteFailure::GoOn => OnFailure::GoOn,
    }
}

impl Wanted for SwitchoverSiteRequest {
    fn take_id(&mut self) -> String {
        std::mem::take(&mut self.request_id)
    }

    fn read(&self) -> Result<AskedSite, Fault> {
        Ok(AskedSite {
            site: name_from_proto(&self.site, "site")?,
            to_site: optional_name_from_proto(&self.to_site, "to_site")?,
            how: How::Switchover { stop_limit: some_duration(self.stop_limit, "stop_limit")? },
            on_failure: on_failure(self.on_failure(), OnFailure::Stop),
            at_once: self.at_once,
        })
    }
}

impl Wanted for FailoverSiteRequest {
    fn take_id(&mut self) -> String {
        std::mem::take(&mut self.request_id)
    }

    fn read(&self) -> Result<AskedSite, Fault> {
        let states = match self.states() {
            MachineStatement::Unspecified => None,
            MachineStatement::Off => Some(Statement::MachineOff),
            MachineStatement::Fenced => Some(Statement::FencedThere),
        };
        Ok(AskedSite {
            site: name_from_proto(&self.site, "site")?,
            to_site: optional_name_from_proto(&self.to_site, "to_site")?,
            how: How::Failover { states, ceiling: approval(&[], self.accept_loss.as_ref())?.ceiling },
            on_failure: on_failure(self.on_failure(), OnFailure::GoOn),
            at_once: self.at_once,
        })
    }
}
