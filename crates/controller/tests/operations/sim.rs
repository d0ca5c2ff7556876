//! A controller's operations on a real store file, life after life, and the requests that the tests make.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use muster_common::name::Name;
use muster_common::time::Timestamp;
use muster_controller::agents::courier::Courier;
use muster_controller::agents::observations::Observations;
use muster_controller::operation::asked::{Asked, AskedBackup, AskedCheck, AskedRestore, AskedVerify, Place as Where, What};
use muster_controller::operation::handle::Operations;
use muster_controller::store::error::StoreError;
use muster_controller::store::resources::{self, Declared};
use muster_controller::store::{Store, shards};
use muster_service::tasks::TaskGate;
use muster_wire::proto::agent::v1::ObservationReport;
use muster_wire::proto::v1::{self, OperationState, resource};
use tokio_util::sync::CancellationToken;

pub const ISTANBUL: &str = "istanbul-db1";
pub const ANKARA: &str = "ankara-db1";

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Polls a condition, with a bound.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// One life of a controller.
pub struct Controller {
    pub operations: Operations,
    pub store: Store,
    pub courier: Courier,
    pub observations: Observations,
    gate: TaskGate,
}

impl Controller {
    pub async fn open(folder: &Path) -> Self {
        let path = folder.join("muster.db");
        // The life before may still be letting go of the file.
        let store = until("the store opens", async || match Store::open(&path).await {
            Ok(store) => Some(store),
            Err(StoreError::Locked { .. }) => None,
            Err(error) => panic!("{error}"),
        })
        .await;
        declare(&store).await;
        let (courier, observations) = (Courier::default(), Observations::default());
        let gate = TaskGate::new(CancellationToken::new());
        let operations = Operations::open(store.clone(), courier.clone(), observations.clone(), gate.clone()).await.unwrap();
        Self { operations, store, courier, observations, gate }
    }

    /// A life that ends in order; drivers are cut where they wait.
    pub async fn stop(self) {
        self.gate.close(Duration::from_secs(5)).await.unwrap();
        self.store.close().await;
    }

    pub fn failure(&self) -> Option<String> {
        self.gate.failure()
    }

    /// `istanbul` was seen to write, `ankara` to follow.
    pub fn observe(&self) {
        self.see("istanbul", ISTANBUL, v1::InstanceRole::ReadWrite);
        self.see("ankara", ANKARA, v1::InstanceRole::Standby);
    }

    pub fn see(&self, instance: &str, agent: &str, role: v1::InstanceRole) {
        self.see_with(instance, agent, role, Vec::new());
    }

    pub fn see_with(&self, instance: &str, agent: &str, role: v1::InstanceRole, conditions: Vec<v1::Condition>) {
        let observation = v1::Observation { role: role.into(), full: true, conditions, ..v1::Observation::default() };
        let report = ObservationReport { observation: Some(observation), ..ObservationReport::default() };
        self.observations.record(format!("orders-db/{instance}").parse().unwrap(), &name(agent), report, Instant::now());
    }

    /// The epoch of the component's writer. 0: none is known.
    pub async fn epoch(&self) -> u64 {
        let mut read = self.store.read().await.unwrap();
        shards::get(&mut read, &name("orders-db")).await.unwrap().record.map_or(0, |record| record.reign.epoch.0)
    }

    pub async fn superseded(&self) -> BTreeSet<Name> {
        let mut read = self.store.read().await.unwrap();
        shards::get(&mut read, &name("orders-db")).await.unwrap().record.map(|record| record.superseded).unwrap_or_default()
    }

    pub async fn first_reign(&self) {
        self.observe();
        until("the first reign begins", async || (self.epoch().await > 0).then_some(())).await;
    }

    pub async fn operation(&self, id: &str) -> v1::Operation {
        self.operations.get(id).await.unwrap()
    }

    /// Waits until the operation is in a state.
    pub async fn reaches(&self, id: &str, state: OperationState) -> v1::Operation {
        until(state.as_str_name(), async || {
            let operation = self.operation(id).await;
            (operation.state() == state).then_some(operation)
        })
        .await
    }

    pub async fn ends(&self, id: &str) -> v1::Operation {
        let (operation, ended) = self.operations.wait(id, Duration::from_secs(20)).await.unwrap();
        assert!(ended, "{operation:?}");
        operation
    }
}

async fn declare(store: &Store) {
    let instance = |site: &str, agent: &str| v1::InstanceSpec { site: site.into(), agent: agent.into(), ..v1::InstanceSpec::default() };
    let spec = v1::ComponentSpec {
        repository: "primary".into(),
        instances: vec![instance("istanbul", ISTANBUL), instance("ankara", ANKARA)],
        ..v1::ComponentSpec::default()
    };
    let declared = Declared {
        name: name("orders-db"),
        id: "ab".repeat(16),
        etag: "1".into(),
        spec: resource::Spec::Component(spec),
        created: Timestamp(1),
        updated: Timestamp(1),
    };
    let mut write = store.write().await.unwrap();
    resources::put(write.connection(), &declared).await.unwrap();
    write.commit().await.unwrap();
}

pub fn asked(what: What) -> Asked {
    Asked {
        caller: "operator/ada".into(),
        request_id: None,
        digest: String::new(),
        cause: "operator/ada".into(),
        parent: None,
        stall_limit: None,
        traceparent: String::new(),
        run: None,
        what,
    }
}

pub fn backup(instance: Option<&str>) -> What {
    What::Backup(AskedBackup {
        component: name("orders-db"),
        instance: instance.map(name),
        label: "nightly".into(),
        compression_level: 0,
        slow_checkpoint: false,
        dump: None,
    })
}

pub fn restore(place: Where) -> AskedRestore {
    AskedRestore {
        component: name("orders-db"),
        instance: name("istanbul"),
        point: "cd".repeat(16),
        place,
        dry_run: false,
        consent: "orders-db".into(),
        tablespaces: BTreeMap::new(),
        keep_old: None,
        no_start: false,
    }
}

pub fn verify() -> What {
    What::Verify(AskedVerify { component: name("orders-db"), instance: Some(name("istanbul")), point: "22".repeat(16) })
}

pub fn check() -> What {
    What::Check(AskedCheck { component: name("orders-db"), instance: Some(name("istanbul")), read_data_part: 0, read_data_of: 1 })
}
