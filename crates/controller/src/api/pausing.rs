//! `InventoryService.Pause` and `Resume`: automation and schedules off for a while, by a person's word.

use muster_common::fault::Fault;
use muster_common::name::Name;
use muster_wire::convert::name_from_proto;
use muster_wire::proto::v1::{PauseRequest, PauseResponse, ResumeRequest, ResumeResponse};

use super::{Api, some_duration};
use crate::schedule::pause::{Pause, Scope};

impl Api {
    pub(super) async fn begin_pause(&self, message: PauseRequest, by: &str) -> Result<PauseResponse, Fault> {
        let scope = match message.component.as_str() {
            "" => Scope::All,
            text => {
                self.agents.assigner.declared().component(text)?;
                Scope::Component(name_from_proto(text, "component")?)
            }
        };
        let pause = Pause::begin(scope, some_duration(message.duration, "duration")?, &message.reason, by, self.agents.clock.now())?;
        self.agents.pauses.begin(&self.agents.store, &pause).await?;
        tracing::warn!(by, component = pause.scope.as_str(), reason = pause.reason, "automation and schedules are paused");
        Ok(PauseResponse { pause: Some(pause.to_proto()) })
    }

    /// What is no longer declared can be resumed all the same.
    pub(super) async fn end_pause(&self, message: ResumeRequest, by: &str) -> Result<ResumeResponse, Fault> {
        let component: Option<Name> = match message.component.as_str() {
            "" => None,
            text => Some(name_from_proto(text, "component")?),
        };
        let scope = component.clone().map_or(Scope::All, Scope::Component);
        let now = self.agents.clock.now();
        let ended = self.agents.pauses.end(&self.agents.store, &scope, now).await?;
        if ended.is_none()
            && let Some(name) = &component
        {
            self.agents.assigner.declared().component(name.as_str())?;
        }
        let remaining = component.and_then(|component| self.agents.pauses.of(&component, now));
        tracing::info!(by, component = scope.as_str(), was_paused = ended.is_some(), "automation and schedules go on");
        Ok(ResumeResponse { ended: ended.map(|pause| pause.to_proto()), remaining: remaining.map(|pause| pause.to_proto()) })
    }
}
