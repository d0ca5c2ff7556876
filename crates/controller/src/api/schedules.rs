//! `InventoryService.ListSchedules`: what schedules did last and do next.

use std::collections::BTreeMap;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::Name;
use muster_wire::page;
use muster_wire::proto::v1::resource::Spec;
use muster_wire::proto::v1::{ListSchedulesRequest, ListSchedulesResponse, Operation, ScheduleStatus};

use super::Api;
use crate::inventory::Kind;
use crate::schedule::lane::Lane;
use crate::schedule::show;
use crate::store::lanes;

const LIST: &str = "InventoryService.ListSchedules";

impl Api {
    pub(super) async fn schedules_page(&self, message: ListSchedulesRequest) -> Result<ListSchedulesResponse, Fault> {
        let declared = self.agents.assigner.declared();
        if !message.schedule.is_empty() {
            declared.find(Kind::Schedule, &message.schedule)?;
        }
        if !message.component.is_empty() {
            declared.component(&message.component)?;
        }
        let size = page::size(message.page_size, 100, 1_000);
        let after = page::decode(LIST, &message.page_token)?;
        let kept = self.lanes().await?;
        let now = self.agents.clock.now();
        let wanted = |given: &str, name: &str| given.is_empty() || given == name;
        let mut rows = BTreeMap::new();
        for (_, name, resource) in declared.iter().filter(|(_, name, _)| wanted(&message.schedule, name.as_str())) {
            let Some(Spec::Schedule(spec)) = &resource.spec else { continue };
            for component in spec.components.iter().filter(|component| wanted(&message.component, component)) {
                // A space sorts before all that names have.
                let place = format!("{name} {component}");
                if after.as_ref().is_none_or(|after| place > *after) {
                    rows.insert(place, (name, spec, component, kept.get(&(resource.id.clone(), component.clone()))));
                }
            }
        }
        let more = rows.len() > size;
        let mut schedules = Vec::with_capacity(rows.len().min(size));
        let mut next_page_token = String::new();
        for (place, (name, spec, component, lane)) in rows.into_iter().take(size) {
            schedules.push(self.schedule_status((name, spec), component, lane, now).await?);
            if more {
                next_page_token = page::encode(LIST, &place);
            }
        }
        Ok(ListSchedulesResponse { schedules, next_page_token })
    }

    async fn schedule_status(
        &self,
        (name, spec): (&Name, &muster_wire::proto::v1::ScheduleSpec),
        component: &str,
        lane: Option<&Lane>,
        now: muster_common::time::Timestamp,
    ) -> Result<ScheduleStatus, Fault> {
        let last = match lane.and_then(|lane| lane.last) {
            None => None,
            Some(last) => self.operation_that_is_kept(&last.operation.to_string()).await?,
        };
        let pause = component.parse().ok().and_then(|component: Name| self.agents.pauses.of(&component, now));
        Ok(show::status((name.as_str(), spec), component, lane, last, pause.as_ref(), now))
    }

    async fn operation_that_is_kept(&self, id: &str) -> Result<Option<Operation>, Fault> {
        match self.agents.operations.get(id).await {
            Ok(operation) => Ok(Some(operation)),
            Err(fault) if fault.kind == ErrorKind::NotFound => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    async fn lanes(&self) -> Result<BTreeMap<(String, String), Lane>, Fault> {
        let mut read = self.agents.store.read().await?;
        let lanes = lanes::all(&mut read).await?;
        Ok(lanes.into_iter().map(|lane| ((lane.schedule.clone(), lane.component.to_string()), lane)).collect())
    }
}
