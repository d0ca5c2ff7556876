//! `StatusService.Diagnose`: what a support bundle holds of the controller. What always holds: nothing secret is in it; files of secrets are
//! named, never read, and what looks like a secret all the same is blacked out.

use std::collections::HashMap;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::redact::redact;
use muster_common::size::Size;
use muster_service::clock;
use muster_wire::proto::v1::DiagnoseResponse;
use prometheus::{Encoder, TextEncoder};

use super::Api;

impl Api {
    pub(super) fn diagnose(&self) -> Result<DiagnoseResponse, Fault> {
        let mut metrics = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut metrics)
            .map_err(|error| Fault::refused(ErrorKind::Internal, format!("encode metrics: {error}")).hint("report this as a defect"))?;
        Ok(DiagnoseResponse {
            configuration: redact(&format!("{:#?}\n", self.config)),
            metrics: redact(&String::from_utf8_lossy(&metrics)),
            facts: self.facts(),
        })
    }

    fn facts(&self) -> HashMap<String, String> {
        let system = rustix::system::uname();
        let mut facts = HashMap::from([
            ("build".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("system".to_owned(), format!("{} {}", system.sysname().to_string_lossy(), system.release().to_string_lossy())),
            ("machine".to_owned(), system.machine().to_string_lossy().into_owned()),
            ("host".to_owned(), system.nodename().to_string_lossy().into_owned()),
            ("process".to_owned(), std::process::id().to_string()),
            ("seconds_up".to_owned(), clock::now().since(self.started).as_secs().to_string()),
            ("term".to_owned(), self.agents.store.term().to_string()),
            ("store_id".to_owned(), self.agents.store.store_id().to_string()),
            ("endpoints".to_owned(), self.config.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        ]);
        if let Ok(stat) = rustix::fs::statvfs(&self.config.state_directory) {
            let bytes = |blocks: u64| Size(blocks.saturating_mul(stat.f_frsize));
            facts.insert("disk".to_owned(), format!("{} of {} free", bytes(stat.f_bavail), bytes(stat.f_blocks)));
        }
        facts
    }
}
